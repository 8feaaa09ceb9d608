"""What the pages say: filters, exports, actions, hostile text; judged by the HTML that comes."""

import asyncio
import csv
import html
import io
import json
import re
import threading
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from reconciler.controller.page import export, log
from reconciler.controller.page.access import COOKIE
from reconciler.controller.page.actions import PREPARED, target_of
from reconciler.controller.page.fleet import PAGE, Filter
from reconciler.controller.page.pages import LOGS
from reconciler.controller.page.view import TILES
from reconciler.controller.page.week import open_spans
from reconciler.errors import LedgerError
from reconciler.model.conditions import Condition
from reconciler.model.desired import Window, WindowKind
from reconciler.model.key_audits import Light
from reconciler.model.observed import LogEntry, Robot
from reconciler.model.origin import Origin
from reconciler.model.recorded import HistoryEntry
from reconciler.model.secret import Secret
from reconciler.model.source import NOWHERE
from reconciler.model.values import replace
from reconciler.settings.model import PageSettings
from reconciler.system.redaction import redacted
from tests.controller.page.sample_fleet import MERGED, well
from tests.controller.page.test_access import Browser, browsing, cookie, token_file
from tests.support.leaks import Watch

ALL = (
    *("/", "/servers/{name}", "/servers/{name}/log", "/requests", "/history", "/history.csv"),
    *("/history.json", "/windows", "/audit", "/controller"),
)
HOSTILE = "<img src=x onerror=alert(1)>\"'`{{7*7}}</td><script>alert(2)</script>\u202e&amp;"


class Tags(HTMLParser):
    """Tags and attributes of a page, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def rows(text: str) -> list[str]:
    """The servers of a fleet page, in order."""
    return re.findall(r'<tr id="row-([^"]+)"', text)


def test_problems_come_first_and_tiles_filter() -> None:
    async def story() -> None:
        async with browsing() as browser:
            whole = (await browser.get("/")).text
            assert rows(whole)[0] == "tokyo-3"  # in doubt
            assert set(rows(whole)[:5]) == {"tokyo-3", "osaka-1", "paris-1", "london-1", "seoul-2"}
            assert "5 need attention" in whole
            for flag in TILES:
                shown = rows((await browser.get(f"/?show={flag}")).text)
                assert len(shown) == browser.site.fleet.counts[flag] > 0
            both = await browser.get("/?show=owed&show=attention")
            assert rows(both.text) == ["tokyo-3"]
            assert rows((await browser.get("/?q=OSAKA")).text) == ["osaka-1", "osaka-2"]
            assert rows((await browser.get("/?q=region%3Dtokyo+asia")).text)[0] == "tokyo-3"
            assert rows((await browser.get("/?exchange=kraken")).text) == ["london-1"]
            nobody = (await browser.get("/?q=nobody")).text
            assert "No server is like that" in nobody
            assert 'href="/?show=owed"' in (await browser.get("/?show=owed&q=osaka")).text

    asyncio.run(story())


def test_an_address_says_what_is_shown_and_nothing_else() -> None:
    pairs = [("show", "drift"), ("show", "nothing"), ("q", "x" * 300), ("page", "7"), ("evil", "1")]
    found = Filter.of(pairs)

    assert found == Filter(("drift",), "x" * 100, "", 7)
    assert Filter.of([("page", "-1")]).page == Filter.of([("page", "9" * 99)]).page == 1
    assert Filter.of([("show", "owed")]).toggled("owed") == "?"
    assert Filter().toggled("owed") == "?show=owed"


def test_a_hundred_rows_a_page() -> None:
    async def story() -> None:
        async with browsing() as browser:
            for number in range(PAGE * 2):
                browser.source.put(well(f"more-{number:03}"))
            first = (await browser.get("/")).text
            assert len(rows(first)) == PAGE
            assert 'rel="next" href="/?page=2"' in first
            last = (await browser.get("/?page=3")).text
            assert len(rows(last)) == 14
            assert rows((await browser.get("/?page=99")).text) == rows(last)

    asyncio.run(story())


def hostile_source(browser: Browser) -> None:
    source, name = browser.source, "hostile-1"
    robot = Robot(1, HOSTILE, HOSTILE, running=True)
    one = source.store.servers["tokyo-3"]
    finding = source.store.servers["paris-1"].keys["bybit"].findings[0]
    source.put(
        replace(
            one,
            server=name,
            owner=HOSTILE,
            labels={"x": HOSTILE},
            reason=HOSTILE,
            version=HOSTILE,
            url=HOSTILE,
            account=HOSTILE,
            robots=(robot,),
            owed_robots=(robot,),
            suspended=HOSTILE,
            suspended_by=HOSTILE,
            window_open=False,
            window=HOSTILE,
            deferred=(HOSTILE,),
            contested=(HOSTILE,),
            drifting=(HOSTILE,),
            keys={
                HOSTILE: replace(
                    source.store.servers["paris-1"].keys["bybit"],
                    light=Light.BLOCKED,
                    findings=(replace(finding, what=HOSTILE, remedy=HOSTILE, code=HOSTILE),),
                    asked_at=HOSTILE,
                    expires_at=HOSTILE,
                )
            },
            lines=(
                replace(
                    one.lines[0],
                    exchange=HOSTILE,
                    condition=Condition("hostile", HOSTILE, HOSTILE),
                    note=HOSTILE,
                    sources=(HOSTILE,),
                ),
            ),
        )
    )
    source.log = (LogEntry(1, HOSTILE, HOSTILE, HOSTILE, {}),)
    words = {"label": HOSTILE, "revision": HOSTILE, "documents": HOSTILE, "secrets": HOSTILE}
    source.store.note(**words, ledger=HOSTILE, rival=HOSTILE, version=HOSTILE)


def test_hostile_text_is_text_everywhere() -> None:
    async def story() -> None:
        async with browsing() as browser:
            hostile_source(browser)
            found = ""
            for path in (*ALL, "/?q=" + "%3Cscript%3E%22", "/history?server=%22%3E%3Cscript%3E"):
                answer = await browser.get(path.format(name="hostile-1"))
                if not answer.headers["Content-Type"].startswith("text/html"):
                    continue
                found += answer.text
                for tag, attributes in Tags(answer.text).tags:
                    assert tag != "img", path
                    assert tag != "script" or attributes.get("src") == "/static/page.js", path
                    assert not any(key.startswith("on") for key in attributes), path
                    assert "style" not in attributes, path  # the policy would refuse it
                assert "\u202e" not in answer.text
                assert "49" not in re.findall(r"\{\{.{0,5}\}\}", answer.text)
            assert "&lt;img src=x onerror=alert(1)&gt;" in found

    asyncio.run(story())


SHOWN = {
    "/servers/tokyo-3": (
        "vault:secret/jt/tokyo-3/okx version 6 vault:secret/jt/tokyo-3/okx@3",  # desired, live
        "! reboot 2026-11-22T09:30:00Z in doubt sent, and no boot line followed",  # plan, reason
        "maker-okx okx running the secret from before",
        "boot line 2026-11-12T06:00:41Z, pid 2114",  # evidence
        "binance ok asked",  # audit of a key
        f"by controller 1@desk ({MERGED[:12]} #12 by ann@a.test)",  # commit and person
        "jtr request resume tokyo-3",  # what one would type
    ),
    "/servers/paris-1": ("bybit blocked", "PERM_WITHDRAW it may withdraw funds"),
    "/requests": ("tokyo-3 reboot 2026-11-22T09:30:00Z in doubt", "frankfurt-1 reboot"),
    "/history": (f"controller 1@desk ({MERGED[:12]} #12 by ann@a.test)",),
    "/windows": ("allow 0 18 * * 1-5 for 4h Europe/Zurich", "1 server: frankfurt-1"),
    "/audit": ("1 may withdraw 2 expire 1 blocked", "paris-1/bybit blocked"),
    "/controller": (
        *("Leader this one acts", "Documents in force 3f2a9c1b", "Vault token 45 min left"),
        *("Passes 41 degraded, 8,120 healthy", "Brake off"),
    ),
}


@pytest.mark.parametrize("path", SHOWN)
def test_what_a_person_finds_on_each_page(path: str) -> None:
    async def story() -> None:
        async with browsing() as browser:
            found = (await browser.get(path)).text
            words = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", found)).split())
            assert [one for one in SHOWN[path] if one not in words] == []

    asyncio.run(story())


def test_the_history_as_files_for_other_programs() -> None:
    origin = Origin("=1", "#7", "@ann")
    deed = HistoryEntry("2026-11-22T09:00:00Z", "=cmd()", "+1", "@x", "-2\n'\"", origin)
    text = export.as_csv([("tokyo-1", deed)])
    (head, row) = csv.reader(io.StringIO(text))

    asked = ["revision", "pull", "mergedBy"]
    assert head == ["at", "server", "what", "result", "by", "detail", *asked]
    assert row[-3:] == ["'=1", "#7", "'@ann"]
    assert row[0] == deed.at
    assert all(not cell.startswith(("=", "+", "-", "@")) for cell in row)
    (shown,) = json.loads(json.dumps(export.as_json([("tokyo-1", deed)])))["deeds"]
    assert (shown["server"], shown["by"]) == ("tokyo-1", "=cmd()")
    assert [shown[one] for one in asked] == ["=1", "#7", "@ann"]

    async def story() -> None:
        async with browsing() as browser:
            found = await browser.get("/history.csv?server=tokyo-*")
            assert found.headers["Content-Type"].startswith("text/csv")
            assert found.headers["Content-Disposition"].startswith("attachment")
            assert {line.split(",")[1] for line in found.text.splitlines()[1:]} == {
                *("tokyo-1", "tokyo-2", "tokyo-3")
            }
            document = json.loads((await browser.get("/history.json?server=tokyo-1")).text)
            assert {one["server"] for one in document["deeds"]} == {"tokyo-1"}

    asyncio.run(story())


def test_a_ledger_that_cannot_be_read_is_said_and_the_rest_is_shown() -> None:
    async def story() -> None:
        async with browsing() as browser:
            browser.source.trouble = LedgerError("the ledger is away", "wait")
            for path in ("/servers/tokyo-1", "/history", "/servers/tokyo-1/log"):
                found = await browser.get(path)
                assert found.status == 200
                assert "the ledger is away" in found.text
            assert (await browser.get("/history.json")).status == 503

    asyncio.run(story())


def test_many_who_read_a_log_cost_the_server_one_reading() -> None:
    async def story() -> None:
        async with browsing() as browser:
            entries = [("info", "started"), ("warn", "slow"), ("error", "token=abc")]
            browser.source.log = tuple(
                LogEntry(1_764_000_000_000 + n, level, "Engine", text, {"k": "v"})
                for n, (level, text) in enumerate(entries)
            )
            asked = [browser.get("/servers/tokyo-1/log?level=warn") for _ in range(5)]
            for answer in await asyncio.gather(*asked):
                assert "slow" in answer.text
                assert "started" not in answer.text
            assert browser.source.logs_read == ["tokyo-1"]
            found = (await browser.get("/servers/tokyo-1/log?level=debug&q=START&follow=1")).text
            assert "started" in found
            assert "slow" not in found

    asyncio.run(story())


def test_a_log_of_any_length_is_made_ready_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[tuple[int, int]] = []

    def noted(text: str) -> str:
        looked.append((threading.get_ident(), len(text)))
        return redacted(text)

    monkeypatch.setattr("reconciler.controller.page.log.redacted", noted)

    async def story() -> None:
        async with browsing() as browser:
            path = "/servers/tokyo-1/log"
            many = 4 * log.SEARCHED
            browser.source.log = tuple(
                LogEntry(1_764_000_000_000, "info", "Engine", f"entry {n}.", {})
                for n in range(many)
            )
            found = (await browser.get(path)).text
            assert len(looked) == log.ENTRIES
            assert f"entry {many - 1}." in found
            assert f"The newest {log.ENTRIES} of {many:,} entries" in found
            looked.clear()
            assert " entry 1.</p>" not in (await browser.get(f"{path}?q=entry+1.")).text
            assert len(looked) == log.SEARCHED  # older ones are not looked at
            assert threading.get_ident() not in {thread for thread, _ in looked}

    asyncio.run(story())


def test_long_messages_are_cut_without_showing_a_part_of_a_secret(watch: Watch) -> None:
    secret = Secret(watch.secret("hex"))
    value = secret.reveal()
    for before in (0, log.MESSAGE - 9, 2 * log.MESSAGE - len(value) // 2):
        message = "x" * before + value + "y" * 3 * log.MESSAGE
        (shown,) = log.excerpt((LogEntry(1, "info", "E", message, {}),), "info", "").entries
        assert value[:12] not in shown["message"]
        assert len(shown["message"]) <= 2 * log.MESSAGE
    assert log.excerpt((LogEntry(1, "info", "E", value, {}),), "info", value[:9]).entries == ()
    long = tuple(LogEntry(1, "info", "E", "z" * 10**5, {}) for _ in range(400))
    assert log.excerpt(long, "info", "").searched == log.TEXT // (2 * log.MESSAGE)


def test_few_logs_are_read_at_once() -> None:
    async def story() -> None:
        async with browsing() as browser:
            source: Any = browser.source
            full, go = asyncio.Event(), asyncio.Event()
            reading, most = 0, 0

            async def entries(_: str) -> tuple[LogEntry, ...]:
                nonlocal reading, most
                reading += 1
                most = max(most, reading)
                if reading == LOGS:
                    full.set()
                await go.wait()
                reading -= 1
                return ()

            source.entries = entries
            names = list(source.store.servers)[: 2 * LOGS]
            asked = [asyncio.ensure_future(browser.get(f"/servers/{one}/log")) for one in names]
            await full.wait()
            go.set()
            assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
            assert most == LOGS

    asyncio.run(story())


def test_open_times_of_a_week() -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)  # a Sunday
    evening = Window(WindowKind.ALLOW, "0 18 * * 1-5", timedelta(hours=4), "UTC", NOWHERE)
    freeze = Window(WindowKind.DENY, "0 0 25 11 *", timedelta(days=1), "UTC", NOWHERE)
    found = open_spans((evening, freeze), now)

    assert [span.begin[:13] for span in found] == [f"2026-11-{day}T18" for day in (23, 24, 26, 27)]
    assert found[0].end == "2026-11-23T22:00:00+00:00"
    (whole,) = open_spans((), now)
    assert (whole.x, whole.width) == ("0.0", "700.0")


# ── actions ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def operator(watch: Watch, tmp_path: Path) -> tuple[str, PageSettings]:
    token = watch.secret("hex")
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    file = token_file(folder, "operator", token)
    return token, PageSettings("127.0.0.1:0", operator_token_file=file)


Operator = tuple[str, PageSettings]


async def acting(browser: Browser, token: str) -> dict[str, str]:
    return {"Cookie": f"{COOKIE}={cookie(await browser.log_in(token))}"}


def test_a_pause_asks_for_a_reason_a_name_and_an_end(operator: Operator) -> None:
    token, settings = operator

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            path = "/servers/tokyo-1/do/pause"
            target = str(target_of(browser.source.store.servers["tokyo-1"]))
            assert "Pause" not in (await browser.get("/servers/tokyo-1")).text
            assert (await browser.get(path)).status == 403
            headers = await acting(browser, token)
            assert path in (await browser.get("/servers/tokyo-1", **headers)).text
            good = {"who": "ann", "reason": "maintenance", "end": "2h", "target": target}
            for wrong in (
                {"reason": ""},
                {"reason": "a\nb"},
                {"reason": "x" * 301},
                {"end": "for ever"},
                {"reason": "AKIAIOSFODNN7EXAMPLEKEYAKIAIOSFODNN7EXAMPLE0"},
            ):
                found = await browser.ask("POST", path, headers=headers, data=good | wrong)
                assert 'role="alert"' in found.text, wrong
            assert browser.source.wishes == []

            done = await browser.ask("POST", path, headers=headers, data=good)
            assert "Paused until" in done.text
            (wish,) = browser.source.wishes
            assert wish.name == "tokyo-1"
            assert wish.by == "ann (page, by the operator's token)"
            assert wish.pause is not None
            assert wish.pause.until > datetime.now(UTC) + timedelta(minutes=110)

            shown = (await browser.get("/servers/tokyo-1", **headers)).text
            resume = "/servers/tokyo-1/do/resume"
            assert resume in shown
            assert path not in shown
            bob = {"who": "bob", "target": target}
            done = await browser.ask("POST", resume, headers=headers, data=bob)
            assert browser.source.wishes[-1].pause is None
            assert "The pause is over." in done.text
            done = await browser.ask("POST", resume, headers=headers, data=bob)
            assert "No pause of it holds." in done.text

    asyncio.run(story())


@pytest.mark.parametrize("what", ["pause", "resume", "reboot", "invalidate-cache"])
def test_a_form_is_for_the_server_that_it_was_shown_for_and_not_for_its_name(
    operator: Operator, what: str
) -> None:
    token, settings = operator

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            browser.source.paths = ()  # as for a controller that follows a repository
            path, servers = f"/servers/tokyo-1/do/{what}", browser.source.store.servers
            headers = await acting(browser, token)
            form = {"who": "ann", "reason": "maintenance", "end": "2h", "robots": "leave"}
            form["target"] = target = hidden((await browser.get(path, **headers)).text)
            assert target == str(target_of(servers["tokyo-1"]))

            there = "https://tokyo-9.internal"
            servers["tokyo-1"] = replace(servers["tokyo-1"], url=there)  # renamed meanwhile
            for stale in (form, {**form, "target": ""}):
                found = await browser.ask("POST", path, headers=headers, data=stale)
                assert f"tokyo-1 is another server now, at {there} (account 0): nothing was" in (
                    found.text
                )
            assert browser.source.wishes == []

            form["target"] = hidden(found.text)  # told of it, and meant all the same
            done = await browser.ask("POST", path, headers=headers, data=form)
            if what in PREPARED:
                assert f"jtr request {what} tokyo-1" in done.text
                assert browser.source.wishes == []
            else:
                (wish,) = browser.source.wishes
                assert str(wish.target) == f"{there} (account 0)"

    asyncio.run(story())


def hidden(text: str) -> str:
    """Return which server a form is for."""
    (found,) = re.findall(r'<input type="hidden" name="target" value="([^"]+)">', text)
    return str(found)


DOCUMENT = """apiVersion: jtr/v1
kind: TradingServer
metadata: {name: tokyo-1}
spec:
  url: https://tokyo-1.internal:8443
  accessSecret: vault:secret/jt/tokyo-1#access_secret
  supervised: true
  exchanges:
    bybit: {credentials: vault:secret/jt/tokyo-1/bybit}
"""


@pytest.mark.parametrize("what", ["reboot", "invalidate-cache"])
def test_a_request_is_prepared_and_nothing_is_written_or_sent(
    operator: Operator, tmp_path: Path, what: str
) -> None:
    token, settings = operator
    file = tmp_path / "servers" / "tokyo-1.yaml"
    file.parent.mkdir()
    file.write_text(DOCUMENT, "ascii")

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            source: Any = browser.source
            source.paths = (str(file.parent),)
            place = source.state.servers[-1].source._replace(file=str(file))
            source.state = type(source.state)(
                tuple(
                    replace(one, source=place) if one.name == "tokyo-1" else one
                    for one in source.state.servers
                )
            )
            headers = await acting(browser, token)
            path = f"/servers/tokyo-1/do/{what}"
            data = {"reason": "stale <b>cache</b>", "robots": "leave"}
            data["target"] = hidden((await browser.get(path, **headers)).text)
            found = await browser.ask("POST", path, headers=headers, data=data)
            assert found.status == 200
            assert "+++ b/tokyo-1.yaml" in found.text
            assert "git switch -c jtr/" in found.text
            assert f"jtr request {what} tokyo-1" in found.text
            assert "&lt;b&gt;" in found.text
            assert (source.looked, source.wishes) == ([], [])

            file.write_text(DOCUMENT.replace("//tokyo-1.", "//tokyo-9."), "ascii")
            found = await browser.ask("POST", path, headers=headers, data=data)
            assert "tokyo-1 is another server now, at https://tokyo-9.internal" in found.text
            assert "+++" not in found.text
            file.write_text(DOCUMENT, "ascii")
        assert file.read_text("ascii") == DOCUMENT
        assert [one.name for one in file.parent.iterdir()] == ["tokyo-1.yaml"]

    asyncio.run(story())


@pytest.mark.parametrize("what", ["reboot", "invalidate-cache"])
def test_where_the_documents_are_no_files_the_command_stands_alone(
    operator: Operator, what: str
) -> None:
    token, settings = operator

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            browser.source.paths = ()  # as for a controller that follows a repository
            headers = await acting(browser, token)
            path = f"/servers/tokyo-1/do/{what}"
            data = {"reason": "stale <b>cache</b>", "robots": "leave"}
            data["target"] = hidden((await browser.get(path, **headers)).text)
            found = await browser.ask("POST", path, headers=headers, data=data)
            assert found.status == 200
            assert 'role="alert"' not in found.text
            assert f"jtr request {what} tokyo-1" in found.text
            assert "stale &lt;b&gt;cache" in found.text
            assert "git switch" not in found.text
            assert 'class="diff"' not in found.text
            assert (browser.source.looked, browser.source.wishes) == ([], [])

    asyncio.run(story())
