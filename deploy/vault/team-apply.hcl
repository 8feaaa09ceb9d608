# For the job that applies (`jtr apply`) of one team, TEAM: reads the secrets below the team's prefix and writes the
# team's ledger (`ledger: vault:jtr/ledger/TEAM`).  Nothing of another team; see ledger.hcl for why nothing is deleted.
path "secret/metadata/jt/TEAM/*" {
  capabilities = ["read"]
}
path "secret/data/jt/TEAM/*" {
  capabilities = ["read"]
}
path "jtr/data/ledger/TEAM/*" {
  capabilities = ["create", "read", "update"]
}
path "jtr/metadata/ledger/TEAM/*" {
  capabilities = ["read", "list"]
}
path "jtr/config" {
  capabilities = ["read"]
}

# Its own token, and no other: looked at, renewed while the job runs, and revoked by the job at its end.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
