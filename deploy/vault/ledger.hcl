# For whoever writes a ledger in Vault (`ledger: vault:jtr/ledger`): besides apply.hcl, for `jtr apply`,
# `jtr ledger init` and every other command that writes to the ledger.
#
# There is no `delete` here, and there must be none: who removes the metadata of a row sets its counter back to 0, and
# what was done once could be done a second time.  `update` on metadata is not needed either.
path "jtr/data/ledger/*" {
  capabilities = ["create", "read", "update"]
}
path "jtr/metadata/ledger/*" {
  capabilities = ["read", "list"]
}
# `jtr ledger init` looks whether the mount insists on check-and-set (bao write jtr/config cas_required=true).
path "jtr/config" {
  capabilities = ["read"]
}
