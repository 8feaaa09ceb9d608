"""
Whether a webhook really comes from the forge: its signature, and that it was not seen before.

It only wakes.  What a delivery says is hashed and never parsed: the controller asks the repository
itself.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import AsyncIterable, Callable, Mapping
from typing import Final

from reconciler.errors import UsageError
from reconciler.model.secret import Secret
from reconciler.system.files import secret_line

LIMIT: Final = 25 * 1024 * 1024  # bytes; GitHub sends no more
FRESH: Final = 300.0  # seconds by which a delivery's own clock may differ from ours
SEEN: Final = 10_000  # deliveries that are remembered
_SHORTEST: Final = 16
_HEX: Final = re.compile("[0-9a-f]{64}")
_WORD: Final = re.compile("[!-~]{1,300}")
_STAMP: Final = re.compile("[0-9]{1,12}")
_STANDARD: Final = "whsec_"  # how secrets of the Standard Webhooks begin


class BadDelivery(Exception):
    """It is not from the forge, or was here before; says why, in words without its content."""


def read_webhook_secret(path: str) -> Secret:
    """Read the secret from a file of one line.  Raises UsageError, which never quotes it."""
    what = "the file git.webhook.secretFile"
    word = secret_line(path, what, UsageError) or ""
    if len(word) < _SHORTEST or not _WORD.fullmatch(word):
        raise UsageError(
            f"{what} holds no secret: at least {_SHORTEST} characters on one line, without blanks",
            f"make one: (umask 077; openssl rand -hex 32 > {path})",
        )
    return Secret(word)


class Webhook:
    """The deliveries of one forge; *now* returns seconds since the epoch.  Event loop only."""

    def __init__(self, secret: Secret, now: Callable[[], float]) -> None:
        self._secret: Final = secret
        self._now: Final = now
        self._seen: Final[OrderedDict[bytes, None]] = OrderedDict()

    async def check(self, headers: Mapping[str, str], body: AsyncIterable[bytes]) -> None:
        """Raise BadDelivery unless a request was signed with the secret and is new."""
        marks = _Marks(headers, self._secret, self._now())
        size = 0
        async for piece in body:
            size += len(piece)
            if size > LIMIT:
                raise BadDelivery(f"it has more than {LIMIT // 2**20} MiB")
            marks.update(piece)
        if not marks.right():
            raise BadDelivery("its signature is missing or wrong")
        # By content: what a forge calls a delivery is not signed.
        mark = marks.content()
        if mark in self._seen:
            raise BadDelivery("it was here before")
        self._seen[mark] = None
        while len(self._seen) > SEEN:
            self._seen.popitem(last=False)


class _Marks:
    """
    The four ways in which forges sign.

    GitHub, Gitea and Forgejo: HMAC-SHA256 of the body, in hex.  GitLab: the Standard Webhooks'
    signature over id, time and body; or, older, the secret itself.
    """

    def __init__(self, headers: Mapping[str, str], secret: Secret, now: float) -> None:
        self._headers: Final = headers
        self._secret: Final = secret.reveal()
        self._now: Final = now
        self._plain: Final = hmac.new(self._secret.encode(), digestmod=hashlib.sha256)
        self._id = headers.get("webhook-id", "")
        self._stamp = headers.get("webhook-timestamp", "")
        self._dated: Final = hmac.new(_standard_key(self._secret), digestmod=hashlib.sha256)
        self._dated.update(f"{self._id}.{self._stamp}.".encode("utf-8", "surrogateescape"))
        self._content: Final = hashlib.sha256()

    def update(self, piece: bytes) -> None:
        self._plain.update(piece)
        self._dated.update(piece)
        self._content.update(piece)

    def content(self) -> bytes:
        return self._content.digest()

    def right(self) -> bool:
        """Whether the one signature that is there is right; several must all be."""
        found = [
            judge(self._headers[name])
            for name, judge in (
                ("X-Hub-Signature-256", lambda word: self._hex(word.removeprefix("sha256="))),
                ("X-Gitea-Signature", self._hex),
                ("X-Forgejo-Signature", self._hex),
                ("webhook-signature", self._standard),
                ("X-Gitlab-Token", self._token),
            )
            if name in self._headers
        ]
        return bool(found) and all(found)

    def _hex(self, word: str) -> bool:
        return bool(_HEX.fullmatch(word)) and hmac.compare_digest(word, self._plain.hexdigest())

    def _standard(self, words: str) -> bool:
        if not (_WORD.fullmatch(self._id) and _STAMP.fullmatch(self._stamp)):
            return False
        if abs(self._now - int(self._stamp)) > FRESH:
            return False
        wanted = base64.b64encode(self._dated.digest())
        given = (one.partition(",") for one in words[:4096].split(" "))
        return any(
            version == "v1" and hmac.compare_digest(word.encode("utf-8", "replace"), wanted)
            for version, _, word in given
        )

    def _token(self, word: str) -> bool:
        given = word.encode("utf-8", "surrogateescape")
        return hmac.compare_digest(given, self._secret.encode())


def _standard_key(secret: str) -> bytes:
    if secret.startswith(_STANDARD):
        try:
            return base64.b64decode(secret.removeprefix(_STANDARD), validate=True)
        except binascii.Error:
            pass  # not one of theirs
    return secret.encode()
