"""
The bearer token of the controller's `/v1` pages, as both ends read it from a file.
"""

import os
import re
import stat
from typing import Final

from reconciler.errors import UsageError
from reconciler.model.secret import Secret

_FILE_LIMIT: Final = 65536
_SHORTEST: Final = 16
_LONGEST: Final = 1024  # a header of a request has to hold it
_TOKEN: Final = re.compile(rf"[!-~]{{{_SHORTEST},{_LONGEST}}}")


def read_token(path: str) -> Secret:
    """Read the token from a small regular file.  Raises UsageError, which never quotes it."""
    what = "the file controller.tokenFile"
    try:
        # Non-blocking: a FIFO in its place must not hang us.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else "unknown reason"
        raise UsageError(f"{what} cannot be read: {why}", f"check {path} and its rights") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UsageError(f"{what} is not a regular file", f"check {path}")
    with os.fdopen(handle, "rb") as file:
        content = file.read(_FILE_LIMIT)
    word = content.removesuffix(b"\n").removesuffix(b"\r").decode("ascii", "replace")
    if not _TOKEN.fullmatch(word):
        raise UsageError(
            f"{what} does not hold a token: {_SHORTEST} to {_LONGEST} characters on one line, "
            "without blanks",
            f"make one: (umask 077; openssl rand -hex 32 > {path})",
        )
    return Secret(word)
