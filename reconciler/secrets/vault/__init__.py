"""
HashiCorp Vault and OpenBao: logins, tokens, KV version 2.

Never follows a redirect, a proxy or a token that was not named; never writes a value.
"""
