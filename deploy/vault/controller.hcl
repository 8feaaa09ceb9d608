# For `jtr controller`, on HashiCorp Vault and OpenBao: reads the secrets of the trading servers, and looks after its own
# token.  Besides it: ledger.hcl where the ledger is in Vault, and controller-openbao.hcl on OpenBao.
#
# It lists nothing: the documents name every secret.  It writes nothing: a stolen token changes no credential, and what
# it can read ends with its time (keep that short; the controller renews it, or logs in again).

# Which versions there are, and since when: asked once an interval, or listed (controller-openbao.hcl).
path "secret/metadata/jt/*" {
  capabilities = ["read"]
}
# The values: read when one has to be written to a server, or compared with what it shows for the first time.
path "secret/data/jt/*" {
  capabilities = ["read"]
}

# The policy `default` gives these as well; with them here a role can do without it (token_no_default_policy).
# How long the token lives, and whether a refusal means that it died:
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
# Renewed when two thirds of its time are over, and given back at the end:
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
# For `jtr doctor`, which also says what the token can do and should not:
path "sys/capabilities-self" {
  capabilities = ["update"]
}
