# For `jtr plan` and `jtr apply`: reads the secrets of the trading servers, writes and lists nothing.
path "secret/metadata/jt/*" {
  capabilities = ["read"]
}
path "secret/data/jt/*" {
  capabilities = ["read"]
}
