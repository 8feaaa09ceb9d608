"""What wakes a controller: the forges' own signatures, each delivery once, and nothing else."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping

import aiohttp
import pytest

from reconciler.controller.api import webhook as hooks
from reconciler.controller.api.server import HOOK, Web
from reconciler.controller.api.webhook import BadDelivery, Webhook
from reconciler.model.secret import Secret
from tests.controller.sample_statuses import status_store

SECRET = "a-secret-of-the-webhook"
NOW = 1_790_000_000.0
BODY = json.dumps({"ref": "refs/heads/main", "after": "0" * 40}).encode()


def digest(body: bytes, key: bytes = SECRET.encode()) -> str:
    return hmac.new(key, body, hashlib.sha256).hexdigest()


def standard(
    body: bytes, *, at: float = NOW, key: bytes = SECRET.encode(), name: str = "msg_1"
) -> dict[str, str]:
    head = f"{name}.{at:.0f}.".encode()
    word = base64.b64encode(hmac.new(key, head + body, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": name,
        "webhook-timestamp": f"{at:.0f}",
        "webhook-signature": f"v1a,AAAA v1,{word}",
    }


GOOD: dict[str, Mapping[str, str]] = {
    "github": {"X-Hub-Signature-256": f"sha256={digest(BODY)}"},
    "gitea": {
        "X-Hub-Signature-256": f"sha256={digest(BODY)}",
        "X-Gitea-Signature": digest(BODY),
    },
    "forgejo": {"X-Forgejo-Signature": digest(BODY)},
    "gitlab": {"X-Gitlab-Token": SECRET},
    "gitlab-signed": standard(BODY),
}
BAD: dict[str, Mapping[str, str]] = {
    "nothing": {},
    "empty": {"X-Hub-Signature-256": ""},
    "another-key": {"X-Hub-Signature-256": f"sha256={digest(BODY, b'x')}"},
    "another-body": {"X-Gitea-Signature": digest(b"{}")},
    "sha1": {"X-Hub-Signature": "sha1=" + hmac.new(SECRET.encode(), BODY, "sha1").hexdigest()},
    "capitals": {"X-Gitea-Signature": digest(BODY).upper()},
    "token": {"X-Gitlab-Token": SECRET + "x"},
    "token-prefix": {"X-Gitlab-Token": SECRET[:-1]},
    "one-right-one-wrong": {
        "X-Hub-Signature-256": f"sha256={digest(BODY)}",
        "X-Gitlab-Token": "wrong",
    },
    "old": standard(BODY, at=NOW - 301),
    "from-tomorrow": standard(BODY, at=NOW + 301),
    "other-id": standard(BODY) | {"webhook-id": "msg_2"},
    "other-time": standard(BODY) | {"webhook-timestamp": f"{NOW + 1:.0f}"},
    "no-time": standard(BODY) | {"webhook-timestamp": ""},
}


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(body), 7):
        yield body[begin : begin + 7]


def check(webhook: Webhook, headers: Mapping[str, str], body: bytes = BODY) -> str:
    """Return why a delivery is refused; empty when it wakes."""
    try:
        asyncio.run(webhook.check(headers, pieces(body)))
    except BadDelivery as error:
        return str(error)
    return ""


def new(secret: str = SECRET) -> Webhook:
    return Webhook(Secret(secret), lambda: NOW)


@pytest.mark.parametrize("headers", GOOD.values(), ids=GOOD)
def test_every_forges_own_signature_wakes_once(headers: Mapping[str, str]) -> None:
    webhook = new()

    assert check(webhook, headers) == ""
    assert check(webhook, headers) == "it was here before"
    # What a delivery is called is not signed: another name makes it no other one.
    assert check(webhook, {**headers, "X-GitHub-Delivery": "2"}) == "it was here before"


@pytest.mark.parametrize("headers", BAD.values(), ids=BAD)
def test_a_bad_signature_is_refused(headers: Mapping[str, str]) -> None:
    webhook = new()

    assert check(webhook, headers) == "its signature is missing or wrong"
    assert check(webhook, GOOD["github"]) == ""  # and leaves no trace


def test_a_secret_of_the_standard_webhooks_is_decoded() -> None:
    key = bytes(range(32))
    secret = "whsec_" + base64.b64encode(key).decode()

    assert check(new(secret), standard(BODY, key=key)) == ""
    assert check(new(secret), standard(BODY, key=secret.encode())) != ""


def test_memory_and_size_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "SEEN", 2)
    monkeypatch.setattr(hooks, "LIMIT", 100)
    webhook = new()
    bodies = [f"{number}".encode() for number in range(3)]

    assert [check(webhook, {"X-Gitea-Signature": digest(one)}, one) for one in bodies] == [""] * 3
    assert len(webhook._seen) == 2
    large = b"x" * 101
    assert "it has more than" in check(webhook, {"X-Gitea-Signature": digest(large)}, large)


def test_the_page_wakes_by_a_good_delivery_alone() -> None:
    woken: list[str] = []

    async def story() -> list[int]:
        web = Web(
            status_store(),
            listen="127.0.0.1:0",
            token=Secret("token-of-the-pages"),
            observations=lambda: asyncio.sleep(0, {}),
            entries=lambda _name: asyncio.sleep(0, ()),
            webhook=new(),
            moved=lambda: woken.append("woken"),
        )
        await web.start()
        url = f"http://127.0.0.1:{web.port}"
        try:
            async with aiohttp.ClientSession() as session:
                codes = []
                for method, path, headers in (
                    ("POST", HOOK, BAD["another-key"]),
                    ("POST", HOOK, GOOD["github"]),
                    ("POST", HOOK, GOOD["github"]),
                    ("GET", HOOK, GOOD["github"]),
                    ("POST", "/v1/status", GOOD["github"]),
                    ("POST", f"{HOOK}/more", GOOD["github"]),
                ):
                    async with session.request(
                        method, f"{url}{path}", data=BODY, headers=headers
                    ) as answer:
                        codes.append(answer.status)
                return codes
        finally:
            await web.stop()

    assert asyncio.run(story()) == [403, 202, 403, 405, 405, 405]
    assert woken == ["woken"]
