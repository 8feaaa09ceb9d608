"""
What every sender of notifications is held to, as a suite that whoever writes one can import.

    class TestMatrix(SenderContract):
        @pytest.fixture
        def kind(self) -> str:
            return "matrix"  # reconciler/notifications/senders/matrix.py

        @pytest.fixture
        def files(self, tmp_path: Path) -> Files:
            return Files(tmp_path / "private", own={"roomId": "!room:x.test"})

        @pytest.fixture
        def certificates(self) -> Certificates: ...
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import pytest
from aiohttp import web
from msgspec import Struct

from reconciler.errors import UsageError
from reconciler.model.values import replace
from reconciler.notifications.deduplicate import Message
from reconciler.notifications.events import AlertSeverity, Guide, Topic
from reconciler.notifications.queue import Delivery
from reconciler.notifications.senders import open_endpoint, sender
from reconciler.notifications.transport import ANSWER_LIMIT, LONGEST_PAUSE, Answer, Transport
from reconciler.settings.notifications import NotificationSettings
from reconciler.system.redaction import redacted
from reconciler.testing.receiver import Receiver, Reply, Request, receiving

BEGIN: Final = 1_795_000_000.0
MESSAGE: Final = Message(
    "ab12",
    Topic.ROBOTS,
    "tokyo-1",
    "",
    "7",
    AlertSeverity.CRITICAL,
    AlertSeverity.CRITICAL,
    "tokyo-1: robots stopped: grid <!channel> & @all",
    "desk-asia",
    BEGIN,
    since=BEGIN - 60,
    guide=Guide(
        "robots stopped", "they place no orders", "ask the desk about SERVER", "robots-stopped"
    ),
)
DELIVERY: Final = Delivery((MESSAGE,))
HOSTILE: Final = (
    "\x1b[2J\u202e\ud83d\x00 <b>&</b> *_`[x](http://x.test) @all <!channel> {{7*7}}\r\n"
)


@dataclass(frozen=True, repr=False)  # a failing test shows its values
class Files:
    """
    Targets whose made-up secrets lie in files of *folder*.

    *own* says what stands under the keys that no other kind has: under one whose name ends with
    `File` a secret, which gets a file.
    """

    folder: Path
    key: str = field(default_factory=token_hex)
    hook: str = field(default_factory=token_hex)
    token: str = field(default_factory=lambda: f"12345678901:{token_hex()}")
    own: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir()

    @property
    def secrets(self) -> tuple[str, ...]:
        files = (text for key, text in self.own.items() if key.endswith("File"))
        return self.key, self.hook, self.token, *files

    def write(self, name: str, text: str) -> str:
        """Write one file and return its path."""
        path = self.folder / name
        path.write_text(f"{text}\n", "utf-8")
        return str(path)

    def of(self, kind: str, url: str, name: str = "one") -> NotificationSettings:
        """Return a target of any kind, at a URL on loopback or at one that nobody asks."""
        hook = f"{url}/services/T0/B0/{self.hook}"
        known = {"secretFile": self.key, "tokenFile": self.token, "urlFile": hook}
        known |= {"chatId": "-100", "apiUrl": url, **self.own}
        keys = {*sender(kind).needs, *sender(kind).takes} - {"url"}  # a file keeps it secret
        own = {
            key: self.write(f"{name}-{key}", known[key]) if key.endswith("File") else known[key]
            for key in keys
        }
        return NotificationSettings(kind, name, own, severity="info")


class Certificates(Struct, frozen=True):
    """
    What a receiver on 127.0.0.1 shows, and whom a target may be told to trust.

    *ca_file* vouches for the certificate that *server* shows, *other_ca_file* for another one.
    Nobody else vouches for it: not this host either.
    """

    server: ssl.SSLContext
    ca_file: str
    other_ca_file: str


class Held(Struct, frozen=True):
    """One kind that is held to the contract, with secrets of this test."""

    kind: str
    files: Files
    folder: Path
    caplog: pytest.LogCaptureFixture

    def settings(self, url: str) -> NotificationSettings:
        return self.files.of(self.kind, url)


async def sent(
    settings: NotificationSettings, delivery: Delivery = DELIVERY, deadline: float = 5.0
) -> Answer:
    transport = Transport(open_endpoint(settings), "fleet", deadline)
    try:
        return await transport.send(delivery, BEGIN)
    finally:
        await transport.close()


def answers(held: Held, reply: Reply, deadline: float = 5.0) -> tuple[Answer, list[Request]]:
    """How an answer is taken, and what had been asked."""

    async def story() -> tuple[Answer, list[Request]]:
        async with receiving() as receiver:
            receiver.replies = [reply]
            answer = await sent(held.settings(receiver.url), deadline=deadline)
            return answer, receiver.requests

    return asyncio.run(story())


async def silence(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def endless(request: web.Request) -> Any:
    response = web.StreamResponse(status=429)
    await response.prepare(request)
    while True:
        await response.write(b"x" * 65536)


@contextlib.asynccontextmanager
async def babbling() -> AsyncIterator[str]:
    """Somebody who speaks no HTTP."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\0\0\0 hello\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class SenderContract:
    """
    The promises of `reconciler.notifications.senders.Sender`, and the transport with a sender.

    A subclass gives `kind` and `certificates`, and `files` where its kind has keys of its own.
    Receivers run on loopback.
    """

    @pytest.fixture
    def kind(self) -> str:
        """Return the name of the sender's file."""
        raise NotImplementedError

    @pytest.fixture
    def certificates(self) -> Certificates:
        """
        Return throw-away certificates; a library like `trustme` or `cryptography` makes them.

        Since Python 3.13 key identifiers are wanted in both, and a key usage in the authority's.
        """
        raise NotImplementedError

    @pytest.fixture
    def files(self, tmp_path: Path) -> Files:
        """Return targets of a test."""
        return Files(tmp_path / "private")

    @pytest.fixture
    def held(
        self, kind: str, files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> Held:
        caplog.set_level(logging.DEBUG)
        return Held(kind, files, tmp_path, caplog)

    def test_what_arrives_is_json_with_an_idempotency_key(self, held: Held) -> None:
        answer, (request,) = answers(held, web.Response(status=204))

        assert answer == Answer()
        assert request.headers["Idempotency-Key"] == DELIVERY.id
        assert request.headers["Content-Type"] == "application/json"
        assert MESSAGE.subject in json.dumps(json.loads(request.body))

    def test_what_promises_a_signature_signs_every_byte(self, held: Held) -> None:
        if "secretFile" not in sender(held.kind).needs:
            return
        _, (request,) = answers(held, web.Response())

        stamp = request.headers["X-JTR-Timestamp"]
        ours = hmac.new(
            held.files.key.encode(), f"{stamp}.".encode() + request.body, hashlib.sha256
        )
        assert stamp == str(int(BEGIN))
        assert hmac.compare_digest(request.headers["X-JTR-Signature"], f"v1={ours.hexdigest()}")

    def test_answers_are_judged_alike(self, held: Held) -> None:
        for status, retry_after, expected in (
            (200, "", Answer()),
            (204, "", Answer()),
            (400, "", Answer("it answered 400")),
            (404, "7", Answer("it answered 404")),
            (408, "", Answer("it answered 408", again=True)),
            (500, "", Answer("it answered 500", again=True)),
            (503, "9", Answer("it answered 503", again=True, pause=9)),
            (429, "7", Answer("it answered 429", again=True, pause=7)),
            (429, "999999", Answer("it answered 429", again=True, pause=LONGEST_PAUSE)),
            (429, "soon", Answer("it answered 429", again=True)),
        ):
            headers = {"Retry-After": retry_after} if retry_after else {}
            answer, requests = answers(held, web.Response(status=status, headers=headers))
            assert answer == expected
            assert len(requests) == 1, "one try is one request"

    def test_redirects_are_not_followed(self, held: Held) -> None:
        async def story() -> None:
            async with receiving() as elsewhere, receiving() as receiver:
                for status in (301, 302, 303, 307, 308):
                    headers = {"Location": f"{elsewhere.url}/x"}
                    receiver.replies = [web.Response(status=status, headers=headers)]
                    answer = await sent(held.settings(receiver.url))
                    assert answer == Answer(f"it answered {status}: redirects are not followed")
                assert elsewhere.requests == []

        asyncio.run(story())

    def test_answers_are_read_within_bounds(self, held: Held) -> None:
        again = Answer("it answered 429", again=True)

        assert answers(held, endless)[0] == again
        assert answers(held, web.Response(status=429, body=b"[" * 4 * ANSWER_LIMIT))[0] == again
        assert answers(held, silence, deadline=0.1)[0] == Answer(
            "no answer within 0.1 s", again=True
        )

    def test_hostile_and_long_texts_are_only_text(self, held: Held) -> None:
        endpoint = open_endpoint(held.settings("http://127.0.0.1"))
        for text in (HOSTILE, "🤖" * 1000, "<" * 1000, "é" * 1000):
            message = replace(MESSAGE, text=text, owner=HOSTILE, subject=HOSTILE)
            for many in (1, 200):
                delivery = Delivery(tuple(replace(message, id=str(n)) for n in range(many)))
                document = sender(held.kind).document(delivery, "fleet", endpoint)
                body = json.dumps(document, allow_nan=False)
                assert body.isascii()
                assert body.isprintable()
                assert json.loads(body) == document
                # Machines get every message; a chat gets one text, which fits and is never markup.
                if "items" not in document and many > 1:
                    assert len(document["text"]) < 40_000
                    assert document["text"].endswith("…") or len(document["text"]) < 4000
                assert "parse_mode" not in document
                assert not document.get("mrkdwn")

    def test_the_environment_is_not_asked(self, held: Held) -> None:
        netrc = held.folder / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password something\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NETRC", str(netrc))
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
                patch.setenv(name, "http://127.0.0.1:9")
            answer, (request,) = answers(held, web.Response())

        assert answer == Answer()
        assert "Authorization" not in request.headers

    def test_certificates_are_verified(self, held: Held, certificates: Certificates) -> None:
        async def story() -> None:
            async with receiving(certificates.server) as receiver:
                settings = held.settings(receiver.url)
                for one in (settings, replace(settings, ca_file=certificates.other_ca_file)):
                    assert await sent(one) == Answer(
                        "its certificate is not accepted, or it speaks no TLS", again=True
                    )
                assert receiver.requests == []
                assert await sent(replace(settings, ca_file=certificates.ca_file)) == Answer()

        asyncio.run(story())

    def test_no_answer_and_no_log_holds_a_secret(self, held: Held) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            gone = f"http://127.0.0.1:{taken.getsockname()[1]}"

        async def story(receiver: Receiver) -> list[Answer]:
            asyncio.get_running_loop().set_debug(True)
            receiver.replies = [web.Response(status=status) for status in (302, 404, 429, 500)]
            found = [await sent(held.settings(receiver.url)) for _ in range(4)]
            async with babbling() as strange:
                for url in (gone, strange):
                    answer = await sent(held.settings(url))
                    assert answer.again
                    found.append(answer)
            assert found[-2].why == "it cannot be reached"
            assert found[-1].why.startswith("the request failed (")
            return found

        async def run() -> list[Answer]:
            async with receiving() as receiver:
                return await story(receiver)

        endpoint = open_endpoint(held.settings("https://x.test"))
        told = [repr(endpoint), *(answer.why for answer in asyncio.run(run())), held.caplog.text]
        files = [Path(path) for key, path in endpoint.settings.own.items() if key.endswith("File")]
        written = "".join(path.read_text("utf-8") for path in files)
        used = [secret for secret in held.files.secrets if secret in written]

        assert used
        for secret in used:
            assert not [text for text in told if secret in text]
            assert secret not in redacted(f"POST {endpoint.url.reveal()} failed")
            assert secret not in redacted(f"by itself: {secret}")
        assert "debug" in held.caplog.text, "positive control: what asyncio logs is seen"

    def test_files_that_cannot_be_used_are_named_and_not_quoted(self, held: Held) -> None:
        for key, path in held.settings("https://x.test").own.items():
            if not key.endswith("File"):
                continue
            for spoilt in ("", "{}\n{}", "{} é", "short", "x" * 20_000, None):
                settings = held.settings("https://x.test")
                good = Path(path).read_text("utf-8").strip()
                if spoilt is None:
                    Path(path).unlink()
                else:
                    Path(path).write_text(spoilt.replace("{}", good), "utf-8")
                with pytest.raises(UsageError) as raised:
                    open_endpoint(settings)
                message = str(raised.value)
                assert f"notifications: {settings.name}: " in message
                assert key in message
                assert path in message
                assert raised.value.__cause__ is None
                assert not [secret for secret in held.files.secrets if secret in message]
