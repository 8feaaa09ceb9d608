"""Every sender keeps the contract, and each kind posts what its receivers understand."""

import ast
import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from reconciler.errors import UsageError
from reconciler.model.values import replace
from reconciler.notifications import senders
from reconciler.notifications.events import Guide
from reconciler.notifications.queue import Delivery
from reconciler.notifications.senders import chat_text, open_endpoint, slack, telegram
from reconciler.notifications.transport import Answer
from reconciler.system.redaction import redacted
from reconciler.testing.receiver import Receiver, receiving
from reconciler.testing.senders import (
    DELIVERY,
    MESSAGE,
    Certificates,
    Held,
    SenderContract,
    sent,
)
from tests.drivers.scripted import Authority
from tests.notifications.receivers import Files
from tests.support.additions import put, shown, spoilt
from tests.support.leaks import Watch

PACKAGE = Path(senders.__file__).parent.parent.parent
DIGEST = Delivery((MESSAGE, replace(MESSAGE, id="cd34", owner="")), lost=2)


@pytest.fixture
def files(tmp_path: Path, watch: Watch) -> Files:
    return Files(tmp_path, watch)


def told(story: Callable[[Receiver], Awaitable[None]]) -> None:
    async def run() -> None:
        async with receiving() as receiver:
            await story(receiver)

    asyncio.run(run())


# ── every kind ───────────────────────────────────────────────────────────────────────────────


PAGER = "reconciler/notifications/senders/pager.py"


class TestSenders(SenderContract):
    @pytest.fixture(params=[*senders.kinds(), "pager"])
    def kind(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> str:
        if request.param == "pager":
            put(PAGER, shown(PAGER), tmp_path / "more", monkeypatch)
        return str(request.param)

    @pytest.fixture
    def files(self, files: Files) -> Files:
        return files

    @pytest.fixture
    def certificates(self, files: Files) -> Certificates:
        ours, other = (Authority(files.folder, name) for name in ("ours", "other"))
        return Certificates(ours.server_context(), str(ours.ca_file), str(other.ca_file))


def test_a_new_file_is_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(PAGER, shown(PAGER), tmp_path / "more", monkeypatch)

    assert senders.kinds() == ["pager", "slack", "telegram", "webhook"]


NEEDED = """
from reconciler.model.values import replace

from reconciler.errors import UsageError
from reconciler.notifications.senders import secret_line

"""
UNSIGNED = """
    def headers(self, endpoint, now, body):
        return super().headers(endpoint, now, b"")
"""
MARKUP = """
    def document(self, delivery, label, endpoint):
        return {"text": delivery.text, "parse_mode": "HTML"}
"""
QUOTING = """
    def open(self, settings):
        raise UsageError(secret_line(settings, "secretFile"), "")
"""
FORGETFUL = """
    def open(self, settings):
        return replace(super().open(settings), held=())
"""
IMPATIENT = """
    tells_pause = True

    def pause(self, body):
        return 5
"""


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (UNSIGNED, SenderContract.test_what_promises_a_signature_signs_every_byte),
        (MARKUP, SenderContract.test_hostile_and_long_texts_are_only_text),
        (QUOTING, SenderContract.test_files_that_cannot_be_used_are_named_and_not_quoted),
        (FORGETFUL, SenderContract.test_no_answer_and_no_log_holds_a_secret),
        (IMPATIENT, SenderContract.test_answers_are_judged_alike),
    ],
    ids=["unsigned", "markup", "quoting", "forgetful", "impatient"],
)
def test_positive_control_a_careless_sender_is_noticed(
    files: Files,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    check: Callable[[SenderContract, Held], None],
) -> None:
    text = spoilt(shown(PAGER), "\n\nSENDER:", f"{fault}\n\nSENDER:")
    put(PAGER, f"{NEEDED}{text}", tmp_path / "more", monkeypatch)

    with pytest.raises(AssertionError):
        check(SenderContract(), Held("pager", files, tmp_path, caplog))


def test_no_other_file_names_a_kind() -> None:
    for path in PACKAGE.rglob("*.py"):
        texts = {
            node.value
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        # The webhook of a forge is another thing: nobody is told anything by it.
        other = {"webhook"} if path == PACKAGE / "settings" / "git.py" else set()
        assert texts & {*senders.kinds()} <= {path.stem, *other}, path


# ── what arrives ─────────────────────────────────────────────────────────────────────────────


def test_a_webhook_is_signed_json(files: Files) -> None:
    async def story(receiver: Receiver) -> None:
        assert await sent(files.webhook(receiver.url)) == Answer()

        request = await receiver.next()
        assert {"X-JTR-Timestamp", "X-JTR-Signature"} <= {*request.headers}
        assert request.path == "/jtr"
        assert json.loads(request.body) == {
            "formatVersion": 1,
            "id": "ab12",
            "controller": "fleet",
            "topic": "robots",
            "subject": "tokyo-1",
            "state": "7",
            "severity": "critical",
            "text": DELIVERY.text,
            "owner": "desk-asia",
            "at": "2026-11-18T11:06:40+00:00",
            "reminder": False,
            "since": "2026-11-18T11:05:40+00:00",
            "what": "tokyo-1: robots stopped: grid <!channel> & @all",
            "meaning": "they place no orders",
            "remedy": "ask the desk about tokyo-1",
            "link": "docs/runbooks/robots-stopped.md",
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
        settings = files.webhook(receiver.url)
        own = {"urlFile": file, "secretFile": settings.own["secretFile"]}

        assert await sent(replace(settings, own=own)) == Answer()
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
            "grid &lt;!channel&gt; &amp; @\u200ball\n"
            "Since: 2026-11-18 11:05:40 UTC\n"
            "For trading: they place no orders\n"
            "To do: ask the desk about tokyo-1\n"
            "See: docs/runbooks/robots-stopped.md"
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
        assert body["text"] == chat_text(DELIVERY, "fleet", telegram.LIMIT)
        assert "parse_mode" not in body

    told(story)


@pytest.mark.parametrize("letter", ["x", "🤖", "<", "é"])
def test_long_texts_fit(files: Files, letter: str) -> None:
    titles = (Guide(str(number)) for number in range(200))  # alike, they would be shortened
    long = Delivery(tuple(replace(MESSAGE, text=letter * 1000, guide=one) for one in titles))

    endpoint = open_endpoint(files.telegram("https://x.test"))
    text = telegram.SENDER.document(long, "fleet", endpoint)["text"]

    units = len(text.encode("utf-16-le")) // 2
    assert telegram.LIMIT - 2 <= units <= telegram.LIMIT
    assert text.endswith("…")
    assert len(slack.SENDER.document(long, "fleet", endpoint)["text"]) < 40_000


@pytest.mark.parametrize(
    ("body", "pause"),
    [
        ({"ok": False, "parameters": {"retry_after": 35}}, 35),
        ({"parameters": {"retry_after": "soon"}}, 0),
        ({"parameters": []}, 0),
    ],
)
def test_telegram_tells_in_its_answer_how_long_to_wait(
    files: Files, body: object, pause: float
) -> None:
    async def story(receiver: Receiver) -> None:
        receiver.replies = [web.json_response(body, status=429)]

        assert await sent(files.telegram(receiver.url)) == Answer(
            "it answered 429", again=True, pause=pause
        )

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
    name = {"hook": "desk-urlFile", "token": "bot-tokenFile"}.get(file, file)
    if content is None:
        (files.folder / name).unlink()
    else:
        files.write(name, content.replace("HOOK", files.hook))

    with pytest.raises(UsageError) as raised:
        open_endpoint(kinds[file])

    message = str(raised.value)
    assert words in message
    assert f"{files.folder}/{name}" in message
    assert raised.value.__cause__ is None
    watch.search("the message", message)


def test_a_ca_file_that_is_none(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the CA file .* cannot be used"):
        open_endpoint(replace(files.slack("https://x.test"), ca_file=str(tmp_path / "no.pem")))


def test_what_gives_a_hook_away_is_blotted_out_wherever_it_stands(files: Files) -> None:
    targets = [
        open_endpoint(files.slack("https://x.test")),
        open_endpoint(files.telegram("https://x")),
    ]

    line = redacted(f"POST /services/T0/B0/{files.hook} x {files.hook[:40]} bot{files.token} sent")

    assert line == "POST *** x *** bot*** sent"
    assert files.hook not in repr(targets)
