"""
The bearer token of the controller's `/v1` pages, as both ends read it from a file.
"""

import re
from typing import Final

from reconciler.errors import UsageError
from reconciler.model.secret import Secret
from reconciler.system.files import secret_line

_SHORTEST: Final = 16
_LONGEST: Final = 1024  # a header of a request has to hold it
_TOKEN: Final = re.compile(rf"[!-~]{{{_SHORTEST},{_LONGEST}}}")


def read_token(path: str, what: str = "the file controller.tokenFile") -> Secret:
    """Read the token from a small regular file.  Raises UsageError, which never quotes it."""
    word = secret_line(path, what, UsageError) or ""
    if not _TOKEN.fullmatch(word):
        raise UsageError(
            f"{what} does not hold a token: {_SHORTEST} to {_LONGEST} characters on one line, "
            "without blanks",
            f"make one: (umask 077; openssl rand -hex 32 > {path})",
        )
    return Secret(word)
