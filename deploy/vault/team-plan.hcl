# For the job of a pull request (`jtr plan --recorded`) of one team, TEAM: which versions its secrets have and since
# when, and what its ledger holds.  Never a value, and nothing of another team.
path "secret/metadata/jt/TEAM/*" {
  capabilities = ["read"]
}
path "jtr/data/ledger/TEAM/*" {
  capabilities = ["read"]
}
path "jtr/metadata/ledger/TEAM/*" {
  capabilities = ["read", "list"]
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
