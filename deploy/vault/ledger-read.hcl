# For whoever only reads a ledger in Vault (`ledger: vault:jtr/ledger`): besides recorded.hcl, for
# `jtr plan --recorded` in pull requests, and for `jtr status`.
path "jtr/data/ledger/*" {
  capabilities = ["read"]
}
path "jtr/metadata/ledger/*" {
  capabilities = ["read", "list"]
}
