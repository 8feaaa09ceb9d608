"""What the values of an exchange prove against what a server shows, without the values."""

from msgspec import Struct


class Evidence(Struct, frozen=True):
    """
    What reading the desired values told, without the values.

    `matches` are the server's field names whose shown mask is that of the desired value; `weak`
    says that at least one mask proves less than 16 bits; `unchanged` that every value is the one
    which the ledger last wrote; `api_key` and `companions` are keyed fingerprints.
    """

    matches: frozenset[str]
    weak: bool
    unchanged: bool
    api_key: str = ""
    companions: str = ""
    same_api_key: bool = False  # the API key's shown mask may be that of the desired one
    ignored: tuple[str, ...] = ()  # fields of the secret that nothing asks for
