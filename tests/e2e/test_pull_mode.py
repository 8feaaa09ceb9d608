"""`jtr controller --git`: a merge becomes keys on a server, and nothing else does."""

import hashlib
import hmac
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_controller import Running
from tests.support.durations import BRISK
from tests.support.forge import PROJECT, PULL_TOKEN, TOKEN, ForgeStandIn
from tests.support.leaks import PRIVATE
from tests.support.processes import PATIENCE, until
from tests.support.repository import Repository
from tests.support.rig import Rig
from tests.support.signers import ssh_signer

SECRET = "the-secret-of-the-webhook"


class Following(Running):
    """A controller that follows the branch of its settings."""

    def documents(self) -> list[str]:
        return []


class Puller:
    """A rig whose documents lie in a repository, and the controller that follows it."""

    def __init__(
        self, rig: Rig, forge: ForgeStandIn, propose: dict[str, Any] | None = None, **more: Any
    ) -> None:
        self.rig = rig
        token = rig.home / PRIVATE / "forge-token"
        token.write_text(TOKEN, "utf-8")
        self.repository = Repository(rig.home / "forge")
        self._known: set[str] = set()
        rig.docs = self.repository.work / "servers"
        self.ann = ssh_signer(rig.home, "ann@a.test")
        self.repository.signing = self.ann.config
        allowed = rig.home / "allowed_signers"
        allowed.write_text(self.ann.line, "utf-8")
        hook = rig.home / PRIVATE / "hook"
        hook.write_text(SECRET, "utf-8")
        rig.settings(
            soleWriter=True,
            # Only what wakes it makes it look at the branch.
            durations=BRISK | {"interval": "900s"},
            git={
                "url": f"file://{self.repository.hub}",
                "path": "servers",
                "verify": {"allowedSigners": str(allowed)},
                "webhook": {"secretFile": str(hook)},
                "status": {
                    "forge": "github",
                    "api": forge.api,
                    "project": PROJECT,
                    "tokenFile": str(token),
                },
                **({"propose": propose} if propose else {}),
            },
            **more,
        )
        rig.begin()

    def push(self, message: str, *exchanges: str) -> str:
        for exchange in set(exchanges) - self._known:
            self.rig.rotate(exchange=exchange)
        self._known.update(exchanges)
        self.rig.document("tokyo-1", *exchanges, rotate=False)
        return self.repository.commit(message)


def deliver(running: Running, body: bytes, key: str = SECRET) -> int:
    """Send a webhook as GitHub does; returns the status."""
    digest = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": f"sha256={digest}"}
    request = urllib.request.Request(f"{running.url}/hooks/git", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def shown(running: Running, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until the controller's status is as it shall be."""

    found: list[dict[str, Any]] = []

    def there() -> bool:
        found.append(json.loads(running.get("/v1/status")[1])["controller"])
        return holds(found[-1])

    until(there)
    return found[-1]


def said(forge: ForgeStandIn) -> list[tuple[str, str]]:
    """Which states the forge was told of which commits."""
    return [(commit, state) for commit, state, _, _ in forge.told.statuses]


@pytest.fixture
def forge() -> Iterator[ForgeStandIn]:
    with ForgeStandIn() as found:
        yield found


def test_a_merge_is_applied_and_a_forged_one_is_not(rig: Rig, forge: ForgeStandIn) -> None:
    rig.server()
    puller = Puller(rig, forge)
    server = rig.servers["tokyo-1"].record
    first = puller.push("Merge pull request #7 from desk/tokyo", "bybit")
    running = Following(rig, "--listen", "127.0.0.1:0")
    try:
        running.until("write bybit")
        running.until("pass healthy")
        until(lambda: (first, "success") in said(forge))

        # What a webhook says is not believed; that it comes from the forge makes it look.
        puller.repository.signing = ()
        forged = puller.push("Merge pull request #8 from desk/more", "bybit", "okx")
        assert deliver(running, b'{"after": "1"}', key="wrong") == 403
        assert deliver(running, b'{"after": "1"}') == 202
        refused = shown(running, lambda status: status["attempted"] == forged)
        assert deliver(running, b'{"after": "1"}') == 403
        until(lambda: (forged, "failure") in said(forge))
        metrics = running.get("/metrics")[1]
        saves = server.saves

        puller.repository.signing = puller.ann.config
        merged = puller.push("Sign it (#9)", "bybit", "okx")
        assert deliver(running, b'{"after": "2"}') == 202
        running.until("write okx")
        shown(running, lambda status: status["revision"] == merged and not status["documents"])
        until(lambda: (merged, "success") in said(forge))
        assert running.stop() == 0
    finally:
        running.stop()

    assert (refused["revision"], saves) == (first, 1)
    assert "it is not signed" in refused["documents"]
    assert refused["documentsSince"] is not None
    assert f'jtr_documents_info{{revision="{first}"}} 1.0' in metrics
    assert f'jtr_documents_attempted_info{{revision="{forged}"}} 1.0' in metrics
    assert "jtr_documents_valid 0.0" in metrics
    why = "not in force: it is not signed; let a signer of git.verify sign the newest commit"
    told = {(commit, state): text for commit, state, _, text in forge.told.statuses}
    assert told[first, "success"] == "in force on 1 server"
    assert told[forged, "failure"].startswith(why)
    (row,) = json.loads(rig.jtr("history", "-o", "json").out)["servers"]
    origins = {
        deed["what"]: (deed["revision"], deed["pull"], deed["mergedBy"]) for deed in row["deeds"]
    }
    assert origins == {
        "write bybit": (first, "#7", "ann@a.test"),
        "write okx": (merged, "#9", "ann@a.test"),
    }
    assert f"({first[:12]} #7 by ann@a.test)" in rig.jtr("history").out


def post(url: str, data: dict[str, str], cookie: str = "") -> tuple[str, str]:
    """Send a form from the page's own site; returns its session, if it made one, and the text."""
    origin = url[: url.index("/", len("http://"))]
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin", "Cookie": cookie}
    request = urllib.request.Request(url, urllib.parse.urlencode(data).encode(), headers)

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    try:
        with urllib.request.build_opener(Stay).open(request, timeout=PATIENCE) as answer:
            return "", answer.read().decode()
    except urllib.error.HTTPError as error:
        return (error.headers["Set-Cookie"] or "").partition(";")[0], error.read().decode()


def test_an_operator_lets_a_request_be_reviewed_and_nothing_is_sent(
    rig: Rig, forge: ForgeStandIn
) -> None:
    rig.server()
    operator = rig.watch.secret("hex")
    private = rig.home / PRIVATE
    for name, word in (("pulls", PULL_TOKEN), ("operator", operator)):
        (private / name).write_text(word, "utf-8")
        (private / name).chmod(0o600)
    page = {"listen": "127.0.0.1:0", "operatorTokenFile": str(private / "operator")}
    propose = {"tokenFile": str(private / "pulls")}
    puller = Puller(rig, forge, propose, controller={"page": page, "actions": True})
    puller.push("Begin", "bybit")
    server = rig.servers["tokyo-1"].record
    running = Following(rig, "--listen", "127.0.0.1:0")
    try:
        running.until("pass healthy")
        saves = server.saves
        url = str(running.until("the page listens")["url"])
        session, _ = post(f"{url}/login", {"token": operator, "name": "ann"})
        path = f"{url}/servers/tokyo-1/do/invalidate-cache"
        target = f"{rig.servers['tokyo-1'].url} (account 0)"
        _, prepared = post(path, {"reason": "stale", "target": target}, session)
        assert "+++ b/servers/tokyo-1.yaml" in prepared
        sent = re.findall(r'name="(at|shown|target)" value="([^"]+)"', prepared)
        given = {"reason": "stale", "who": "ann", **dict(sent)}
        _, opened = post(path, given, session)
        running.until("an operator opened a pull request")
        assert running.stop() == 0
    finally:
        running.stop()
    (one,) = forge.told.pulls
    assert forge.page_of(one) in opened
    heads = puller.repository.git("ls-remote", "--heads", "origin")
    assert f"refs/heads/{one.branch}" in heads
    assert f"{puller.repository.head()}\trefs/heads/main" in heads
    assert server.saves == saves
    assert rig.servers["tokyo-1"].record.invalidations == 0
    for text in (prepared, opened, running.log.read_text("utf-8")):
        assert PULL_TOKEN not in text


REFUSED = [
    (["--git", "ext::sh -c touch% x"], "this is no address of a repository"),
    (["--git", "--upload-pack=touch x"], "this is no address of a repository"),
    (["--git", "ssh://-oProxyCommand=touch/x"], "this is no address of a repository"),
    (["--git", "https://ann:word@forge.test/x.git"], "this is no address of a repository"),
    (["--git", "git://forge.test/x.git"], "this is no address of a repository"),
    (["--git", "http://forge.test/x.git"], "http:// lets anybody on the way change documents"),
    (["--git", "https://forge.test/x.git", "--branch=--upload-pack=x"], "this is no branch"),
    (["--git", "https://forge.test/x.git", "--branch=-x"], "this is no branch"),
    (["--git", "https://forge.test/x.git", "--branch", "refs/tags/v1"], "may be a tag"),
    (["--git", "https://forge.test/x.git", "--branch", "a..b"], "this is no branch"),
    (["--git", "https://forge.test/x.git", "--path", "../x"], "no path in a repository"),
    (["--git", "https://forge.test/x.git", "--path=--x"], "no path in a repository"),
    (["--git", "https://forge.test/x.git", "."], "both PATH and a branch were given"),
    ([], "neither PATH nor a repository was given"),
]


@pytest.mark.parametrize(("words", "why"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_what_could_be_an_option_or_lead_elsewhere_is_refused(
    rig: Rig, words: list[str], why: str
) -> None:
    ran = rig.jtr("controller", *words)

    assert ran.code == 64
    assert why in ran.err


def test_a_token_is_not_sent_to_another_repository(rig: Rig) -> None:
    rig.settings(git={"url": "https://forge.test/x.git", "tokenFile": "token"})

    ran = rig.jtr("controller", "--git", "https://elsewhere.test/x.git")

    assert ran.code == 64
    assert "the settings name another repository" in ran.err


def test_git_that_is_missing_ends_the_command(rig: Rig, tmp_path: Path) -> None:
    words = ("controller", "--git", "https://forge.test/x.git")
    ran = rig.jtr(*words, environment={"PATH": str(tmp_path)})

    assert ran.code == 1
    assert "git is not installed" in ran.err


@pytest.mark.parametrize(("mode", "why"), [(0o666, "others may write"), (None, "cannot be read")])
def test_signers_that_others_may_name_are_refused(rig: Rig, mode: int | None, why: str) -> None:
    allowed = rig.home / "allowed_signers"
    if mode is not None:
        allowed.write_text("", "utf-8")
        allowed.chmod(mode)
    verify = {"allowedSigners": str(allowed)}
    rig.settings(git={"url": "https://forge.test/x.git", "verify": verify})

    ran = rig.jtr("controller")

    assert ran.code == 64
    assert "git.verify.allowedSigners" in ran.err
    assert why in ran.err
