"""Why a certificate was refused, in our words: OpenSSL's X509_V_ERR_* numbers."""

from typing import Final

_STRICT: Final = (
    "its certificate or its CA's breaks a rule of RFC 5280 that Python checks since 3.13: "
)
# Numbers that occur only with VERIFY_X509_STRICT, which Python sets since 3.13.
STRICT: Final = {
    **dict.fromkeys(range(80, 95), _STRICT + "look at its extensions"),
    85: _STRICT + "it has no authority key identifier",
    86: _STRICT + "it has no subject key identifier",
    89: _STRICT + "basicConstraints of a CA is not critical",
    92: _STRICT + "a CA has no keyUsage",
}
ISSUE_ANEW: Final = (
    "issue the CA and the certificate anew, with basicConstraints critical, keyUsage, "
    "subjectKeyIdentifier and authorityKeyIdentifier; until then run jtr with Python 3.12"
)
REFUSED: Final = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    62: "its certificate is for another name than this address",
    64: "its certificate is for another address",
    **STRICT,
}
