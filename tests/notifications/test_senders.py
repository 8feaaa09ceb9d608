"""What arrives at each kind of receiver, and how its answers are taken."""

import asyncio
import hashlib
import hmac
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from reconciler.errors import UsageError
from reconciler.notifications.deduplicate import Message
from reconciler.notifications.events import Severity, Topic
from reconciler.notifications.queue import Delivery
from reconciler.notifications.senders import (
    ANSWER_LIMIT,
    LONGEST_PAUSE,
    TELEGRAM_LIMIT,
    Answer,
    Sender,
    chat_text,
    open_target,
    slack_document,
    telegram_document,
)
from reconciler.settings.notifications import NotificationSettings
from reconciler.system.log_setup import redacted
from tests.drivers.scripted import Authority
from tests.notifications.receivers import BEGIN, Files, Receiver, Reply, receiving
from tests.support.leaks import PRIVATE, Watch

PARCEL = Delivery(
    (
        Message(
            "ab12",
            Topic.ROBOTS,
            "tokyo-1",
            "",
            "7",
            Severity.CRITICAL,
            Severity.CRITICAL,
            "tokyo-1: robots stopped: grid <!channel> & @all",
            "desk-asia",
            BEGIN,
        ),
    )
)
DIGEST = Delivery((*PARCEL.messages, replace(PARCEL.messages[0], id="cd34", owner="")), lost=2)


@pytest.fixture
def files(tmp_path: Path, watch: Watch) -> Files:
    return Files(tmp_path, watch)


async def sent(
    settings: NotificationSettings, delivery: Delivery = PARCEL, deadline: float = 5.0
) -> Answer:
    post = Sender(open_target(settings), "fleet", deadline)
    try:
        return await post.send(delivery, BEGIN)
    finally:
        await post.close()


def told(story: Callable[[Receiver], Awaitable[None]]) -> None:
    async def run() -> None:
        async with receiving() as receiver:
            await story(receiver)

    asyncio.run(run())


# ── what arrives ─────────────────────────────────────────────────────────────────────────────


def test_a_webhook_is_signed_json(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        assert await sent(files.webhook(receiver.url)) == Answer()

        request = await receiver.next()
        stamp = request.headers["X-JTR-Timestamp"]
        ours = hmac.new(files.key.encode(), f"{stamp}.".encode() + request.body, hashlib.sha256)
        assert request.headers["X-JTR-Signature"] == f"v1={ours.hexdigest()}"
        assert stamp == str(int(BEGIN))
        assert request.headers["Idempotency-Key"] == "ab12"
        assert request.headers["Content-Type"] == "application/json"
        assert request.path == "/jtr"
        assert json.loads(request.body) == {
            "formatVersion": 1,
            "id": "ab12",
            "controller": "fleet",
            "topic": "robots",
            "subject": "tokyo-1",
            "state": "7",
            "severity": "critical",
            "text": "tokyo-1: robots stopped: grid <!channel> & @all",
            "owner": "desk-asia",
            "at": "2026-11-18T11:06:40+00:00",
            "reminder": False,
            "lost": 0,
        }

    told(story)


def test_a_digest_has_its_messages_in_items(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        assert await sent(files.webhook(receiver.url), DIGEST) == Answer()

        body = json.loads((await receiver.next()).body)
        assert (body["topic"], body["severity"], body["lost"]) == ("digest", "critical", 2)
        assert [item["id"] for item in body["items"]] == ["ab12", "cd34"]
        assert body["id"] not in ("ab12", "cd34")

    told(story)


def test_a_url_from_a_file_is_used_as_it_stands(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        path = f"/a%2Fb?sig={files.hook}%2B%3D&v=1"
        file = files.write("url", receiver.url + path)
        settings = replace(files.webhook(receiver.url), url=None, url_file=file)

        assert await sent(settings) == Answer()
        assert (await receiver.next()).path in (path, path.replace("%3D", "="))

    told(story)


def test_slack_gets_text_that_calls_nobody(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        assert await sent(files.slack(receiver.url)) == Answer()

        request = await receiver.next()
        assert request.path == f"/services/T0/B0/{files.hook}"
        body = json.loads(request.body)
        assert body.pop("text") == (
            "[fleet] critical (owner: desk-asia): tokyo-1: robots stopped: "
            "grid &lt;!channel&gt; &amp; @\u200ball"
        )
        assert body == {"mrkdwn": False, "unfurl_links": False, "unfurl_media": False}

    told(story)


def test_telegram_gets_plain_text_in_the_right_chat(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        assert await sent(files.telegram(receiver.url)) == Answer()

        request = await receiver.next()
        body = json.loads(request.body)
        assert request.path == f"/bot{files.token}/sendMessage"
        assert body["chat_id"] == "-100"
        assert body["text"] == chat_text(PARCEL, "fleet")
        assert "parse_mode" not in body

    told(story)


@pytest.mark.parametrize("letter", ["x", "🤖", "<", "é"])
def test_long_texts_fit(letter: str) -> None:
    long = Delivery(tuple(replace(PARCEL.messages[0], text=letter * 1000) for _ in range(200)))

    text = telegram_document(long, "fleet", "1")["text"]

    units = len(text.encode("utf-16-le")) // 2
    assert TELEGRAM_LIMIT - 2 <= units <= TELEGRAM_LIMIT
    assert text.endswith("…")
    assert len(slack_document(long, "fleet")["text"]) < 40_000


# ── how answers are taken ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (web.Response(status=204), Answer()),
        (web.Response(status=404), Answer("it answered 404")),
        (
            web.Response(status=307, headers={"Location": "/elsewhere"}),
            Answer("it answered 307: redirects are not followed"),
        ),
        (web.Response(status=503), Answer("it answered 503", again=True)),
        (
            web.Response(status=429, headers={"Retry-After": "7"}),
            Answer("it answered 429", again=True, pause=7),
        ),
        (
            web.Response(status=429, headers={"Retry-After": "999999"}),
            Answer("it answered 429", again=True, pause=LONGEST_PAUSE),
        ),
        (
            web.Response(status=429, headers={"Retry-After": "soon"}),
            Answer("it answered 429", again=True),
        ),
        (
            web.json_response({"ok": False, "parameters": {"retry_after": 35}}, status=429),
            Answer("it answered 429", again=True, pause=35),
        ),
        (
            web.Response(status=429, body=b"[" * 4 * ANSWER_LIMIT),
            Answer("it answered 429", again=True),
        ),
    ],
)
def test_answers(files: Files, reply: Reply, answer: Answer) -> None:
    async def story(receiver: Receiver) -> None:
        receiver.replies = [reply]

        assert await sent(files.telegram(receiver.url)) == answer
        assert len(receiver.requests) == 1

    told(story)


def test_a_receiver_that_says_nothing_is_left_at_the_deadline(files: Files) -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def story(receiver: Receiver) -> None:
        receiver.replies = [silent]

        answer = await sent(files.slack(receiver.url), deadline=0.1)

        assert answer == Answer("no answer within 0.1 s", again=True)

    told(story)


def test_an_answer_that_never_ends_is_not_read(files: Files) -> None:
    async def endless(request: web.Request) -> Any:
        response = web.StreamResponse(status=429)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    async def story(receiver: Receiver) -> None:
        receiver.replies = [endless]

        assert await sent(files.telegram(receiver.url)) == Answer("it answered 429", again=True)

    told(story)


def test_nobody_there_and_somebody_who_speaks_no_http(files: Files) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    gone = asyncio.run(sent(files.slack(f"http://127.0.0.1:{port}")))

    async def babble() -> Answer:
        async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"\0\0\0 hello\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await sent(files.slack(f"http://127.0.0.1:{port}"))

    strange = asyncio.run(babble())

    assert gone == Answer("it cannot be reached", again=True)
    assert strange.again
    assert strange.why.startswith("the request failed (")


def test_certificates_are_verified(files: Files, tmp_path: Path) -> None:
    ours, other = (Authority(tmp_path, name) for name in ("ours", "other"))
    for file in tmp_path.glob("*.key"):
        file.rename(tmp_path / PRIVATE / file.name)

    async def story() -> None:
        async with receiving(ours.server_context()) as receiver:
            settings = files.slack(receiver.url)
            refused = [
                await sent(one) for one in (settings, replace(settings, ca_file=str(other.ca_file)))
            ]
            believed = await sent(replace(settings, ca_file=str(ours.ca_file)))

        assert (
            refused
            == [Answer("its certificate is not accepted, or it speaks no TLS", again=True)] * 2
        )
        assert believed == Answer()
        assert len(receiver.requests) == 1

    asyncio.run(story())


def test_proxies_and_netrc_of_the_environment_are_not_asked(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def story(receiver: Receiver) -> None:
        assert await sent(files.webhook(receiver.url)) == Answer()
        assert "Authorization" not in (await receiver.next()).headers

    told(story)


# ── secrets ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("hook", "", "urlFile does not hold a URL"),
        ("hook", "HOOK", "urlFile does not hold a URL"),
        ("hook", "http://example.test/HOOK", "urlFile holds an http:// URL"),
        ("hook", "https://HOOK@example.test/", "with a user"),
        ("hook", "https://example.test/HOOK\nhttps://x", "one line of ASCII text"),
        ("hook", "https://example.test/HOOK é", "one line of ASCII text"),
        ("hook", "https://example.test/HOOK x", "urlFile does not hold a URL"),
        ("token", "HOOK", "tokenFile does not hold a bot's token"),
        ("token", "1:HOOK/../x", "tokenFile does not hold a bot's token"),
        ("key", "short", "the key in secretFile is too short"),
        ("key", None, "secretFile cannot be read: No such file or directory"),
        ("hook", "x" * 20_000, "one line of ASCII text"),
    ],
)
def test_files_that_cannot_be_used(
    files: Files, watch: Watch, file: str, content: str | None, words: str
) -> None:
    kinds = {
        "hook": files.slack("https://x.test"),
        "token": files.telegram("https://x.test"),
        "key": files.webhook("https://x.test"),
    }
    name = "hook-desk" if file == "hook" else file
    if content is None:
        (files.folder / name).unlink()
    else:
        files.write(name, content.replace("HOOK", files.hook))

    with pytest.raises(UsageError) as raised:
        open_target(kinds[file])

    message = str(raised.value)
    assert words in message
    assert f"{files.folder}/{name}" in message
    assert raised.value.__cause__ is None
    watch.search("the message", message)


def test_a_ca_file_that_is_none(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the CA file .* cannot be used"):
        open_target(replace(files.slack("https://x.test"), ca_file=str(tmp_path / "no.pem")))


def test_what_gives_a_hook_away_is_blotted_out_wherever_it_stands(files: Files) -> None:
    targets = [open_target(files.slack("https://x.test")), open_target(files.telegram("https://x"))]

    line = redacted(f"POST /services/T0/B0/{files.hook} x {files.hook[:40]} bot{files.token} sent")

    assert line == "POST *** x *** bot*** sent"
    assert files.hook not in repr(targets)


def test_libraries_log_no_url(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    async def story(receiver: Receiver) -> None:
        asyncio.get_running_loop().set_debug(True)
        receiver.replies = [web.Response(status=500), web.Response(status=302)]
        for _ in range(3):
            await sent(files.slack(receiver.url))
        await sent(files.slack("http://127.0.0.1:1"))
        await sent(files.telegram(receiver.url))

    told(story)

    logging.getLogger("asyncio").debug("positive control of the guard: it sees this line")
    assert "positive control" in caplog.text
    assert files.hook not in caplog.text
    assert files.token not in caplog.text
