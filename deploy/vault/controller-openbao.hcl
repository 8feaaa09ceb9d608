# Besides controller.hcl, for `jtr controller` on OpenBao, and besides apply.hcl for `jtr plan` and `jtr apply` of more
# than a few servers: the versions of all secrets with one request (`scan`), or one
# a folder (`list`), instead of one a secret.  Names and versions only, never a value; whoever has it sees the names of
# everything below the prefix, so give the servers a prefix of their own.
#
# HashiCorp Vault has no such listing and refuses a policy with `scan` in it; there controller.hcl is all that is needed.
path "secret/detailed-metadata/jt/*" {
  capabilities = ["list", "scan"]
}
