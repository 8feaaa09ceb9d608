# For `jtr plan --recorded`: which versions there are and since when, never a value.
path "secret/metadata/jt/*" {
  capabilities = ["read"]
}
