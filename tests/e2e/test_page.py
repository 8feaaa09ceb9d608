"""The page of a real controller, and of a ledger alone: nothing of a secret in any answer."""

import html
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

from reconciler.drivers.jt_trader.masks import BULLETS, mask_text
from reconciler.model.target import Target
from tests.e2e.test_controller import Running, controller
from tests.house.pages import blocks, page
from tests.support.durations import BRISK
from tests.support.leaks import PRIVATE
from tests.support.processes import PATIENCE, until
from tests.support.rig import Rig

ROOT = Path(__file__).parents[2]
PAGES = (
    *("/", "/servers/tokyo-1", "/servers/tokyo-1/log?level=debug", "/requests", "/history"),
    *("/history.csv", "/history.json", "/windows", "/audit", "/controller", "/login"),
    *("/static/page.js", "/nothing"),
)


def has_mask(text: str) -> bool:
    """Whether *text* shows what a server shows of a value: its ends, and bullets in between."""
    return BULLETS in html.unescape(text) or BULLETS in re.sub(
        r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text
    )


class Reader:
    """A client with cookies; whatever it gets is searched for secrets and masks."""

    def __init__(self, rig: Rig, url: str) -> None:
        self.rig = rig
        self.url = url.rstrip("/")
        self.jar = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def get(self, path: str, **form: str) -> tuple[int, str]:
        data = urllib.parse.urlencode(form).encode() if form else None
        request = urllib.request.Request(self.url + path, data)
        if data is not None:
            request.add_header("Origin", self.url)
        try:
            with self._opener.open(request, timeout=PATIENCE) as answer:
                status, text = answer.status, answer.read().decode()
                head = str(answer.headers)
        except urllib.error.HTTPError as error:
            status, text, head = error.code, error.read().decode(), str(error.headers)
        session = [cookie.value or "" for cookie in self.jar]
        assert not any(word and word in text for word in session)
        assert not has_mask(text), path
        self.rig.watch.search(path, text)
        self.rig.watch.search(path, head)
        return status, text


def rig_of(rig: Rig) -> str:
    """One server, a page, and who may act; returns the operators' token."""
    rig.server()
    rig.document()
    token = rig.watch.secret("hex")
    file = rig.home / PRIVATE / "operator"
    file.write_text(token + "\n")
    file.chmod(0o600)
    keys = {"listen": "127.0.0.1:0", "operatorTokenFile": str(file)}
    rig.settings(soleWriter=True, durations=BRISK, controller={"page": keys, "actions": True})
    rig.begin()
    return token


def page_of(running: Running) -> str:
    return str(running.until("the page listens")["url"])


def test_what_the_page_of_a_controller_shows_and_lets_operators_do(rig: Rig) -> None:
    token = rig_of(rig)
    record = rig.servers["tokyo-1"].record
    with controller(rig) as running:
        running.until("write bybit")
        running.until("pass healthy")
        reader = Reader(rig, page_of(running))
        found = {path: reader.get(path) for path in PAGES}
        assert {path for path, (status, _) in found.items() if status != 200} == {"/nothing"}
        assert "All well" in found["/"][1]
        shown = found["/servers/tokyo-1"][1]
        assert rig.reference("tokyo-1/bybit") in shown
        assert "version 1" in shown
        assert "as it was written" in shown
        assert "write bybit" in found["/history.csv"][1]

        assert reader.get("/servers/tokyo-1/do/pause", reason="x")[0] == 403
        assert reader.get("/login", token=token, name="ann")[0] == 200
        target = str(Target(rig.servers["tokyo-1"].url, "0"))
        words = {"reason": "maintenance", "end": "2h", "who": "ann", "target": target}
        done = reader.get("/servers/tokyo-1/do/pause", **words)
        assert "Paused until" in done[1]
        rig.rotate()
        reader.get("/servers/tokyo-1/do/look", confirm="yes")
        until(lambda: "suspended" in reader.get("/?show=suspended")[1].split("<tbody")[1])
        until(lambda: "version 2" in reader.get("/servers/tokyo-1")[1])
        assert running.stop() == 0
    assert record.saves == 1

    # The pause is in the ledger: a controller that begins anew keeps to it.
    with controller(rig) as running:
        reader = Reader(rig, page_of(running))
        until(lambda: "maintenance" in reader.get("/servers/tokyo-1")[1])
        until(lambda: "version 2" in reader.get("/servers/tokyo-1")[1])
        assert record.saves == 1
        reader.get("/login", token=token, name="bob")
        resumed = reader.get("/servers/tokyo-1/do/resume", who="bob", target=target)
        assert "The pause is over." in resumed[1]
        running.until("write bybit")
        text = reader.get("/history.json?server=tokyo-1")[1]
        assert running.stop() == 0
    assert record.saves == 2
    assert "ann (page, by the operator's token)" in text
    assert "bob (page, by the operator's token)" in text
    history = rig.jtr("history", "tokyo-1").out
    assert "pause  begun: until" in history
    assert "pause  ended" in history


def test_the_page_of_a_ledger_where_no_controller_runs(rig: Rig) -> None:
    rig.server()
    rig.document()
    rig.settings(soleWriter=True)
    rig.begin()
    assert rig.apply().code == 0
    (typed,) = blocks(page("docs/page.md"), "web")
    command, *args = shlex.split(typed.replace("servers", str(rig.docs)))
    assert command == "jtr"
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler", *args],
        env={"PATH": os.defpath, **rig.environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/", url)
        reader = Reader(rig, url)
        found = {path: reader.get(path) for path in PAGES}
        refused = {path for path, (status, _) in found.items() if status != 200}
        assert refused == {"/nothing", "/login"}
        assert 'id="row-tokyo-1"' in found["/"][1]
        assert "as it was written" in found["/servers/tokyo-1"][1]
        assert "a log is read by a controller" in found["/servers/tokyo-1/log?level=debug"][1]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        _, err = process.communicate()
    rig.watch.search("standard error", err)
    assert "ends with Ctrl-C" in err


def test_a_mask_is_seen_however_it_is_written() -> None:
    mask = mask_text("a-value-of-somebody")
    entities = "".join(f"&#{ord(sign)};" for sign in mask)
    assert all(has_mask(one) for one in (f"<b>{mask}</b>", entities, json.dumps([mask])))
    assert not has_mask("no mask • at all")


def test_web_takes_no_other_choice(rig: Rig) -> None:
    found = rig.jtr("status", "--web", "-o", "json")

    assert found.code == 64
    assert "--web" in found.err


def test_a_page_for_strangers_without_a_login_is_refused(rig: Rig) -> None:
    rig_of(rig)
    keys = {"listen": "0.0.0.0:0"}
    rig.settings(soleWriter=True, controller={"page": keys})
    done = rig.process("controller", str(rig.docs), "--listen", "127.0.0.1:0")

    assert done.code == 64
    assert "to anybody" in done.err
