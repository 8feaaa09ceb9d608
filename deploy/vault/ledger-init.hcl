# For whoever runs `jtr ledger init`, once: besides ledger.hcl, the right to make the fingerprint key
# (`fingerprintKey: vault:secret/jt/fingerprint#key`) where there is none.
#
# There is no `update` here: a key that was replaced would make all that was written with it unknown.
path "secret/data/jt/fingerprint" {
  capabilities = ["create", "read"]
}
path "secret/metadata/jt/fingerprint" {
  capabilities = ["read"]
}
