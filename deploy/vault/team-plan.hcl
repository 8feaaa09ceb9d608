# For the job of a pull request (`jtr ci`, `jtr plan --recorded --propose`) of one team, TEAM: which versions its secrets
# have and since when, and what its ledger holds.  Never a value, and nothing of another team.
path "secret/metadata/jt/TEAM/*" {
  capabilities = ["read"]
}
path "jtr/data/ledger/TEAM/*" {
  capabilities = ["read"]
}
path "jtr/metadata/ledger/TEAM/*" {
  capabilities = ["read", "list"]
}
# The one row that it writes: which plan reviewers were shown.  It can make an apply refuse, or do what merged documents
# ask for although nobody saw it; never anything that they do not ask for.
path "jtr/data/ledger/TEAM/ledger/proposals" {
  capabilities = ["create", "read", "update"]
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
