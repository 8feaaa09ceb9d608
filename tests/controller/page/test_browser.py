"""The page in a real Chromium: live, calm, for everybody, and with nothing from elsewhere."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from reconciler.controller.page.live import Channel
from reconciler.controller.page.site import Site
from reconciler.controller.status import Health
from reconciler.model.values import replace
from reconciler.settings.model import PageSettings
from tests.controller.page.chromium import NARROW, PATIENCE, ZOOMED, Tab, chromium, tab
from tests.controller.page.sample_fleet import Made, mixed, served, well
from tests.controller.page.test_access import token_file
from tests.controller.page.test_pages import HOSTILE, hostile_source
from tests.controller.pull_office import Office
from tests.support.forge import ForgeStandIn
from tests.support.leaks import Watch

expect.set_options(timeout=PATIENCE)
PAGES = (
    *("/", "/servers/tokyo-3", "/servers/frankfurt-1", "/servers/paris-1", "/servers/osaka-1/log"),
    *("/requests", "/history", "/windows", "/audit", "/controller"),
)
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "light-320": {"color_scheme": "light", "viewport": NARROW},
    "dark-320": {"color_scheme": "dark", "viewport": NARROW},
    "zoom-200": {"viewport": ZOOMED, "device_scale_factor": 2},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


def reason(number: int) -> str:
    return f"something else, number {number}"


def looked_at(found: Tab, path: str) -> None:
    found.open(path)
    expect(found.page.locator("h1")).to_be_visible()
    found.accessible()
    found.sound()


# ── who can read and use it ──────────────────────────────────────────────────────────────────


@pytest.mark.volume
@pytest.mark.parametrize(("path", "look"), [("/", "light"), ("/servers/tokyo-3", "dark-320")])
def test_everybody_can_read_the_most_important_pages(
    browser: Browser, path: str, look: str
) -> None:
    with served(Made(mixed())) as page, tab(browser, page.url, **LOOKS[look]) as found:
        looked_at(found, path)


@pytest.mark.long
@pytest.mark.parametrize("look", LOOKS)
def test_everybody_can_read_every_page(browser: Browser, look: str) -> None:
    with served(Made(mixed())) as page, tab(browser, page.url, **LOOKS[look]) as found:
        for path in PAGES:
            looked_at(found, path)


LONG = "the server says: " + "a-word-that-has-no-end" * 60 + " and then more. " * 80


@pytest.mark.long
@pytest.mark.parametrize("look", ["light", "dark-320"])
@pytest.mark.parametrize("kind", ["good", "empty", "long error", "waiting", "ten thousand"])
def test_every_kind_of_fleet(browser: Browser, kind: str, look: str) -> None:
    statuses = {
        "good": [well(f"good-{number}", number) for number in range(12)],
        "empty": [],
        "long error": [replace(one, reason=LONG) for one in mixed()],
        "waiting": [],
        "ten thousand": [
            *mixed(),
            *(well(f"many-{number:05}", number) for number in range(10_000 - 14)),
        ],
    }[kind]
    waiting = {"waiting": "Vault is sealed"} if kind == "waiting" else {}
    with (
        served(Made(statuses, **waiting)) as page,
        tab(browser, page.url, **LOOKS[look]) as found,
    ):
        looked_at(found, "/")
        shown = found.page.locator("#rows > tr")
        expect(shown).to_have_count(min(100, len(statuses)))
        wanted = {
            "good": "All well - fleet",
            "empty": "All well - fleet",
            "waiting": "All well - fleet",
        }
        assert found.page.title() == wanted.get(kind, "5 need attention - fleet")
        if not statuses:
            expect(found.page.locator("#nothing")).to_be_visible()
        if kind == "long error":
            looked_at(found, "/servers/tokyo-3")


@pytest.mark.long
def test_ten_thousand_rows_are_a_hundred_at_a_time(browser: Browser) -> None:
    statuses = [*mixed(), *(well(f"many-{n:05}", n) for n in range(10_000 - 14))]
    with served(Made(statuses)) as page, tab(browser, page.url) as found:
        found.open("/")
        expect(found.page.locator("#rows > tr")).to_have_count(100)
        found.page.get_by_role("link", name="Next").click()
        expect(found.page.locator("#rows > tr").first).to_have_id(re.compile("row-many"))
        found.page.get_by_label("Search").fill("many-09")
        found.page.get_by_label("Search").press("Enter")
        expect(found.page.locator("#paging")).to_contain_text("page 1 of 10")
        found.sound()


# ── live ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.long
def test_what_changes_is_seen_and_the_rest_is_left_alone(browser: Browser) -> None:
    source = Made(mixed())
    with served(source) as page, tab(browser, page.url) as found:
        found.open("/")
        expect(found.page.locator("#line-word")).to_have_text("live")
        found.page.evaluate("document.getElementById('row-madrid-1').dataset.mark = 'same'")
        found.page.locator("#row-tokyo-1 a").focus()
        worse = replace(source.store.servers["tokyo-1"], health=Health.DEGRADED, reason=reason(1))
        page.do(lambda: source.put(worse))
        expect(found.page.locator("#row-tokyo-1")).to_contain_text(reason(1))
        expect(found.page).to_have_title("6 need attention - fleet")
        order = found.page.locator("#rows > tr").evaluate_all("all => all.map(one => one.id)")
        assert order.index("row-tokyo-1") < order.index("row-madrid-1")
        same = "document.getElementById('row-madrid-1').dataset.mark"
        assert found.page.evaluate(same) == "same"
        focused = "document.activeElement.getAttribute('href')"
        assert found.page.evaluate(focused) == "/servers/tokyo-1"

        page.do(lambda: source.store.servers.pop("sydney-1"))
        expect(found.page.locator("#row-sydney-1")).to_have_count(0)
        page.do(lambda: source.put(well("berlin-1")))
        expect(found.page.locator("#row-berlin-1")).to_be_visible()
        found.sound()


@pytest.mark.volume
def test_a_line_that_was_cut_goes_on_where_it_ended(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Made(mixed())
    told: list[tuple[str, list[bytes]]] = []
    since = Channel.since

    def noting(channel: Channel, known: str) -> Iterator[bytes]:
        events = list(since(channel, known))
        told.append((known, events))
        return iter(events)

    monkeypatch.setattr(Channel, "since", noting)
    with served(source) as page, tab(browser, page.url) as found:
        found.open("/")
        expect(found.page.locator("#line-word")).to_have_text("live")
        change = replace(source.store.servers["tokyo-1"], reason=reason(1))
        page.do(lambda: source.put(change))
        expect(found.page.locator("#row-tokyo-1")).to_contain_text(reason(1))

        page.do(page.site.hub.let_go)
        again = replace(source.store.servers["tokyo-2"], reason=reason(2))
        page.do(lambda: source.put(again))
        expect(found.page.locator("#row-tokyo-2")).to_contain_text(reason(2))
        expect(found.page.locator("#line-word")).to_have_text("live")
        known, events = told[-1]
        assert re.fullmatch(r"[0-9a-f]{12}-[1-9][0-9]*", known)  # the Last-Event-ID
        assert not any(b"event: reset" in event for event in events)
        assert found.foreign() == []


@pytest.mark.long
def test_a_controller_that_went_and_came_back(browser: Browser) -> None:
    source = Made(mixed())
    with served(source) as page, tab(browser, page.url) as found:
        found.open("/")
        expect(found.page.locator("#line-word")).to_have_text("live")
        port = page.site.port
        page.loop.run(page.site.stop())
        expect(found.page.locator("#line-word")).to_contain_text("reconnecting")
        found.accessible()
        page.do(lambda: source.put(replace(source.store.servers["tokyo-1"], reason=reason(3))))
        page.site = Site(source, page.access, listen=f"127.0.0.1:{port}", period=0.05, pulse=0.5)
        page.loop.run(page.site.start())
        expect(found.page.locator("#row-tokyo-1")).to_contain_text(reason(3))
        expect(found.page.locator("#line-word")).to_have_text("live")
        assert found.foreign() == []
        assert all("ERR_" in error for error in found.errors)  # the browser's own, of the gap


@pytest.mark.long
def test_what_is_old_is_called_old(browser: Browser) -> None:
    source = Made(mixed())
    with served(source) as page, tab(browser, page.url) as found:
        found.open("/")
        expect(found.page.locator("#line-word")).to_have_text("live")

        def hang() -> None:
            source.quiet = True
            source.store.tick -= 100

        page.do(hang)
        expect(found.page.locator("#line-word")).to_contain_text("old: its loop gave no sign")
        page.do(lambda: source.store.note(secrets="Vault is sealed; unseal it"))
        expect(found.page.locator("#state")).to_contain_text("Vault is sealed")
        found.accessible()
        found.sound()


# ── attacks ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.volume
@pytest.mark.parametrize("look", ["light", "dark-320"])
def test_hostile_names_in_every_field_run_nothing(browser: Browser, look: str) -> None:
    with served(Made(mixed())) as page, tab(browser, page.url, **LOOKS[look]) as found:

        class Behind:
            source = page.source

        hostile: Any = Behind()
        page.do(lambda: hostile_source(hostile))
        for path in (
            *("/", "/servers/hostile-1", "/servers/hostile-1/log", "/requests", "/audit"),
            *("/controller", "/?q=%3Cimg%20src=x%20onerror=alert(1)%3E"),
        ):
            looked_at(found, path)
        found.open("/servers/hostile-1")
        expect(found.page.locator("#line-word")).to_have_text("live")
        worse = replace(page.source.store.servers["hostile-1"], reason=HOSTILE * 2)
        page.do(lambda: page.source.put(worse))  # now by the script
        expect(found.page.locator("#head .reason")).to_contain_text("alert(2)</script>")
        assert found.page.locator("img").count() == 0
        found.sound()


@pytest.mark.long
def test_another_site_frames_nothing_and_posts_nothing(browser: Browser) -> None:
    source = Made(mixed())
    with served(source, actions=True) as page, tab(browser, page.url) as found:
        other = page.url.replace("127.0.0.1", "localhost")  # another origin that leads here
        evil = (
            f"<iframe src='{page.url}/'></iframe>"
            f"<form id=f method=post action='{page.url}/servers/tokyo-1/do/look'></form>"
        )
        found.page.route(f"{other}/evil", lambda r: r.fulfill(body=evil, content_type="text/html"))
        found.page.goto(f"{other}/evil")
        frame = found.page.frames[1]
        assert "tokyo" not in frame.content()
        with found.page.expect_response("**/do/look") as answer:
            found.page.evaluate("document.getElementById('f').submit()")
        assert answer.value.status == 403
        assert source.looked == []


# ── without a script, and without a mouse ────────────────────────────────────────────────────


@pytest.mark.long
def test_all_of_it_works_without_a_script(browser: Browser) -> None:
    with (
        served(Made(mixed())) as page,
        tab(browser, page.url, java_script_enabled=False) as found,
    ):
        for path in PAGES:
            found.open(path)
            expect(found.page.locator("h1")).to_be_visible()
        found.open("/")
        expect(found.page.locator("meta[http-equiv=refresh]")).to_have_count(1)
        found.page.get_by_role("link", name="1 drift").click()
        expect(found.page.locator("#rows > tr")).to_have_count(1)
        found.page.get_by_label("Search").fill("osaka")
        found.page.get_by_role("button", name="Show").click()
        expect(found.page.locator("#rows > tr")).to_have_count(1)
        expect(found.page.locator(".chips li")).to_have_count(2)
        found.page.locator(".chips a", has_text="drift").click()
        expect(found.page.locator("#rows > tr")).to_have_count(2)
        found.sound()


@pytest.mark.long
def test_everybody_can_read_it_where_our_script_does_not_run(browser: Browser) -> None:
    """As with JavaScript off; axe is a script itself, so ours is taken away and nothing else."""

    def empty(route: Route) -> None:
        route.fulfill(body="", content_type="text/javascript")

    with served(Made(mixed())) as page, tab(browser, page.url) as found:
        found.page.route("**/static/page.js", empty)
        for path in PAGES:
            found.open(path)
            found.accessible()
        found.sound()


def reach(page: Any, name: str, most: int = 60) -> None:
    """Press Tab until the element with that accessible name has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        text = "document.activeElement.innerText || document.activeElement.name || ''"
        if page.evaluate(text).strip().startswith(name):
            return
    pytest.fail(f"no way to {name} by keyboard")


@pytest.mark.volume
def test_from_login_to_a_pause_by_keyboard_alone(
    browser: Browser, watch: Watch, tmp_path: Path
) -> None:
    token = watch.secret("hex")
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    file = token_file(folder, "operator", token)
    settings = PageSettings("127.0.0.1:0", token_file=file, operator_token_file=file)
    source = Made(mixed())
    with served(source, settings, actions=True) as page, tab(browser, page.url) as found:
        keys = found.page.keyboard
        found.open("/servers/tokyo-1")
        assert "/login" in found.page.url
        found.accessible()
        reach(found.page, "name")
        keys.type("ann")
        keys.press("Tab")
        keys.type(token)
        keys.press("Enter")
        expect(found.page.locator("h1")).to_have_text("tokyo-1")
        expect(found.page.locator("#line-word")).to_have_text("live")
        keys.press("Tab")
        expect(found.page.locator(".skip")).to_be_in_viewport()
        keys.press("Enter")
        reach(found.page, "Pause")
        keys.press("Enter")
        expect(found.page.locator("h1")).to_contain_text("Pause")
        found.accessible()
        reach(found.page, "reason")
        keys.type("exchange maintenance")
        keys.press("Enter")
        expect(found.page.locator("main")).to_contain_text("Paused until")
        assert [wish.by for wish in source.wishes] == ["ann (page, by the operator's token)"]
        cookies = found.page.context.cookies()
        assert [(one["httpOnly"], one["sameSite"]) for one in cookies] == [(True, "Strict")]
        found.sound()


@pytest.mark.volume
@pytest.mark.parametrize("look", ["light", "dark-320"])
def test_a_prepared_reboot_is_sent_for_review(
    browser: Browser, watch: Watch, tmp_path: Path, look: str
) -> None:
    token = watch.secret("hex")
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    file = token_file(folder, "operator", token)
    settings = PageSettings("127.0.0.1:0", token_file=file, operator_token_file=file)
    source = Made(mixed())
    with ForgeStandIn() as forge:
        office = Office(tmp_path, forge, "github")
        source.pulls = office.pulls
        with (
            served(source, settings, actions=True) as page,
            tab(browser, page.url, **LOOKS[look]) as found,
        ):
            found.open("/servers/tokyo-1/do/reboot")
            found.page.get_by_label("name").fill("ann")
            found.page.get_by_label("token").fill(token)
            found.page.keyboard.press("Enter")
            found.page.get_by_label("Why").fill("stale <script>alert(1)</script>")
            found.accessible()
            found.page.get_by_role("button", name="Show the change").click()
            expect(found.page.locator("pre.diff")).to_contain_text("robots: resume")
            found.accessible()
            assert office.branches() == {"main": office.revision}
            found.page.get_by_role("button", name="Open a pull request").click()
            expect(found.page.locator("h1")).to_have_text("It waits for its review")
            (one,) = forge.told.pulls
            link = found.page.get_by_role("link", name=office.forge.page_of(one))
            expect(link).to_have_attribute("href", office.forge.page_of(one))
            found.accessible()
            found.sound()
            assert office.branches().keys() == {"main", one.branch}
