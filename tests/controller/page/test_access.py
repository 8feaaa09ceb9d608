"""Who is let in to the page, and who is refused: every attack of the table is a test."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from reconciler.controller.page.access import (
    ADDRESSES,
    COOKIE,
    IDLE,
    LASTS,
    SESSIONS,
    TRIES,
    WITHIN,
    Access,
    Attempts,
    Sessions,
    Visitor,
)
from reconciler.controller.page.actions import target_of
from reconciler.controller.page.answers import inside
from reconciler.controller.page.site import Site
from reconciler.errors import UsageError
from reconciler.model.values import replace
from reconciler.settings.model import PageSettings
from tests.controller.page.sample_fleet import Made, mixed
from tests.drivers.scripted import Authority
from tests.support.leaks import Watch
from tests.support.processes import PATIENCE

HERE = "127.0.0.1:0"
SAME = {"Sec-Fetch-Site": "same-origin"}
PRIVATE = (
    *("/", "/servers/tokyo-1", "/servers/tokyo-1/log", "/requests", "/history", "/history.csv"),
    *("/history.json", "/windows", "/audit", "/controller", "/events"),
    "/servers/tokyo-1/do/pause",
)


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str
    cookies: Mapping[str, Any]


@dataclass
class Browser:
    """A client that keeps no cookies by itself: what is sent stands in the test."""

    site: Site
    source: Made
    http: aiohttp.ClientSession

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        headers = options.pop("headers", {})
        if method == "POST" and "Origin" not in headers:
            headers = {"Origin": self.site.url} | SAME | headers
        async with self.http.request(
            method, self.site.url + path, headers=headers, allow_redirects=False, **options
        ) as found:
            return Answer(found.status, dict(found.headers), await found.text(), found.cookies)

    async def get(self, path: str, **headers: str) -> Answer:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.ask("GET", path, headers=named)

    async def log_in(self, token: str, **headers: str) -> Answer:
        data = {"token": token, "name": "ann", "next": "/audit"}
        return await self.ask("POST", "/login", data=data, headers=headers)


@asynccontextmanager
async def browsing(
    settings: PageSettings | None = None, *, actions: bool = False, **options: Any
) -> AsyncIterator[Browser]:
    source = Made(mixed())
    listen = settings.listen if settings is not None else HERE
    site = Site(source, Access(settings, actions=actions), listen=listen)
    await site.start()
    try:
        jar = aiohttp.DummyCookieJar()
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(cookie_jar=jar, timeout=timeout, **options) as http:
            yield Browser(site, source, http)
    finally:
        await site.stop()


def token_file(folder: Path, name: str, token: str) -> str:
    path = folder / name
    path.write_text(token + "\n", "ascii")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def tokens(watch: Watch, tmp_path: Path) -> tuple[str, str, PageSettings]:
    """A reader's token, an operator's, and settings with both."""
    reader, operator = watch.secret("hex"), watch.secret("hex")
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    settings = PageSettings(
        HERE,
        token_file=token_file(folder, "reader", reader),
        operator_token_file=token_file(folder, "operator", operator),
    )
    return reader, operator, settings


Tokens = tuple[str, str, PageSettings]


def cookie(answer: Answer) -> str:
    return str(answer.cookies[COOKIE].value)


# ── without a login, on this host ────────────────────────────────────────────────────────────


def test_whoever_is_on_this_host_may_read_and_nobody_may_act() -> None:
    async def story() -> None:
        async with browsing() as browser:
            assert (await browser.get("/")).status == 200
            assert (await browser.get("/servers/tokyo-1")).status == 200
            assert (await browser.get("/login")).status == 404
            assert (await browser.get("/servers/tokyo-1/do/pause")).status == 404
            done = await browser.ask("POST", "/servers/tokyo-1/do/look")
            assert done.status == 404
            assert browser.source.looked == []

    asyncio.run(story())


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_another_address_without_a_login_is_refused_before_anything_is_served(listen: str) -> None:
    with pytest.raises(UsageError, match="to anybody"):
        Site(Made(), Access(PageSettings(listen)), listen=listen)


def test_all_addresses_without_names_are_refused(tokens: Tokens) -> None:
    settings = replace(tokens[2], listen="0.0.0.0:0")

    with pytest.raises(UsageError, match="no name"):
        Site(Made(), Access(settings), listen=settings.listen)
    Site(Made(), Access(replace(settings, hosts=("jtr.example.com",))), listen=settings.listen)


# ── names: a page of the internet lets its own name lead here ────────────────────────────────


@pytest.mark.parametrize(
    "host",
    ["evil.example.com", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::1", "a b"],
)
def test_a_name_that_is_not_ours_leads_nowhere(host: str) -> None:
    async def story() -> None:
        async with browsing() as browser:
            for path in ("/", "/static/page.css", "/login", "/events"):
                found = await browser.get(path, Host=host)
                assert found.status in (400, 421)
                assert "tokyo" not in found.text

    asyncio.run(story())


def test_a_name_of_the_settings_leads_here() -> None:
    async def story() -> None:
        settings = PageSettings(HERE, hosts=("jtr.example.com",))
        async with browsing(settings) as browser:
            assert (await browser.get("/", Host="jtr.example.com")).status == 200
            assert (await browser.get("/", Host="JTR.example.com:443")).status == 200
            assert (await browser.get("/", Host="localhost:9798")).status == 200
            assert (await browser.get("/", Host="jtr.example.com.evil.example")).status == 421

    asyncio.run(story())


# ── logging in ───────────────────────────────────────────────────────────────────────────────


def test_without_a_token_nothing_is_shown(tokens: Tokens) -> None:
    async def story() -> None:
        async with browsing(tokens[2], actions=True) as browser:
            for path in PRIVATE:
                found = await browser.get(path)
                assert found.status in (303, 401), path
                assert "tokyo" not in found.text
                if found.status == 303:
                    assert found.headers["Location"].startswith("/login")
            for path in ("/servers/tokyo-1/do/look", "/servers/tokyo-1/do/pause"):
                assert (await browser.ask("POST", path)).status == 401
            assert browser.source.looked == []

    asyncio.run(story())


def test_a_token_opens_a_session_that_scripts_and_other_sites_cannot_use(tokens: Tokens) -> None:
    reader, _, settings = tokens

    async def story() -> None:
        async with browsing(settings) as browser:
            found = await browser.log_in(reader)
            assert (found.status, found.headers["Location"]) == (303, "/audit")
            kept = found.cookies[COOKIE]
            assert kept["httponly"]
            assert kept["samesite"] == "Strict"
            assert kept["path"] == "/"
            assert not kept["domain"]
            word = cookie(found)
            assert (await browser.get("/", Cookie=f"{COOKIE}={word}")).status == 200
            assert word not in browser.site._access.sessions._of  # its digest is

            out = await browser.ask("POST", "/logout", headers={"Cookie": f"{COOKIE}={word}"})
            assert out.status == 303
            assert (await browser.get("/", Cookie=f"{COOKIE}={word}")).status == 303

    asyncio.run(story())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_behind_a_proxy_that_ends_tls_the_session_never_goes_without(
    tokens: Tokens, scheme: str
) -> None:
    reader, _, settings = tokens

    async def story() -> None:
        async with browsing(settings) as browser:
            origin = browser.site.url.replace("http:", f"{scheme}:")
            found = await browser.log_in(reader, Origin=origin)
            assert bool(found.cookies[COOKIE]["secure"]) == (scheme == "https")

    asyncio.run(story())


def test_a_wrong_token_opens_nothing_and_is_soon_answered_no_more(tokens: Tokens) -> None:
    reader, _, settings = tokens

    async def story() -> None:
        async with browsing(settings) as browser:
            for word in ("", "x" * 40, reader[:-1], reader + "x", "\udcff"[:0] + "é"):
                found = await browser.log_in(word)
                assert found.status == 403
                assert COOKIE not in found.cookies
            found = await browser.log_in(reader)  # the right one comes too late as well
            assert found.status == 429
            assert 0 < int(found.headers["Retry-After"]) <= WITHIN + 1
            # Programs are counted apart, and in the same way.
            right, wrong = f"Bearer {reader}", "Bearer wrong"
            assert (await browser.get("/history.json", Authorization=right)).status == 200
            for _ in range(TRIES):
                await browser.get("/history.json", Authorization=wrong)
            found = await browser.get("/history.json", Authorization=right)
            assert found.status == 429

    asyncio.run(story())


def test_a_program_with_an_old_token_keeps_nobody_from_logging_in(tokens: Tokens) -> None:
    reader, _, settings = tokens

    async def story() -> None:
        async with browsing(settings) as browser:
            for _ in range(TRIES + 1):
                old = await browser.get("/history.json", Authorization="Bearer of-yesterday")
            assert old.status == 429
            assert (await browser.log_in(reader)).status == 303

    asyncio.run(story())


@pytest.mark.parametrize(
    ("network", "guesser", "other", "status"),
    [
        ("127.0.0.0/8", "192.0.2.1", "192.0.2.2", 303),
        ("127.0.0.0/8", "192.0.2.2, 192.0.2.1", "192.0.2.2", 303),  # the guesser says the first
        ("127.0.0.0/8", "192.0.2.9, 192.0.2.1", "192.0.2.1", 429),
        ("127.0.0.0/8", "192.0.2.1", "192.0.2.1, 127.0.0.9", 429),  # by one proxy more
        ("127.0.0.0/8", "192.0.2.1", "::ffff:192.0.2.1", 429),
        ("127.0.0.0/8", "no address", "nor this", 429),
        ("10.0.0.0/8", "192.0.2.1", "192.0.2.2", 429),  # not from a proxy that is believed
    ],
)
def test_behind_a_proxy_whoever_guesses_shuts_out_themselves(
    tokens: Tokens, network: str, guesser: str, other: str, status: int
) -> None:
    reader, _, settings = tokens
    settings = replace(settings, proxy_networks=(ipaddress.ip_network(network),))

    async def story() -> None:
        async with browsing(settings) as browser:
            for _ in range(TRIES):
                await browser.log_in("wrong", **from_address(browser, guesser))
            found = await browser.log_in(reader, **from_address(browser, other))
            assert found.status == status

    asyncio.run(story())


def from_address(browser: Browser, forwarded: str) -> dict[str, str]:
    return {"Origin": browser.site.url} | SAME | {"X-Forwarded-For": forwarded}


def test_a_session_begins_anew_at_every_login(tokens: Tokens) -> None:
    reader, operator, settings = tokens

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            # What an attacker laid into the browser beforehand is never a session.
            planted = "planted-by-somebody-else"
            found = await browser.log_in(reader, Cookie=f"{COOKIE}={planted}")
            first = cookie(found)
            assert first != planted
            assert (await browser.get("/", Cookie=f"{COOKIE}={planted}")).status == 303

            again = await browser.log_in(operator, Cookie=f"{COOKIE}={first}")
            assert cookie(again) != first
            assert (await browser.get("/", Cookie=f"{COOKIE}={first}")).status == 303

    asyncio.run(story())


def test_a_program_reads_with_a_bearer_token_and_acts_never(tokens: Tokens) -> None:
    reader, operator, settings = tokens

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            for token in (reader, operator):
                bearer = {"Authorization": f"Bearer {token}"}
                assert (await browser.ask("GET", "/history.json", headers=bearer)).status == 200
                done = await browser.ask("POST", "/servers/tokyo-1/do/look", headers=bearer)
                assert done.status in (401, 403)
            wrong = {"Authorization": "Bearer wrong"}
            assert (await browser.ask("GET", "/history.json", headers=wrong)).status == 401
            assert browser.source.looked == []

    asyncio.run(story())


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:1", "\\", "/a\nb"],
)
def test_a_login_leads_nowhere_else(path: str) -> None:
    assert inside(path) == ""
    assert inside("/servers/a?x=1") == "/servers/a?x=1"


# ── other sites ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
def test_what_another_site_asks_is_refused(tokens: Tokens, headers: dict[str, str]) -> None:
    _, operator, settings = tokens

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            word = cookie(await browser.log_in(operator))
            given = {"Origin": browser.site.url} | SAME | headers
            given["Cookie"] = f"{COOKIE}={word}"
            for path in (
                "/servers/tokyo-1/do/look",
                "/servers/tokyo-1/do/pause",
                "/logout",
                "/login",
            ):
                assert (await browser.ask("POST", path, headers=given)).status == 403
            assert browser.source.looked == []
            assert browser.source.wishes == []
            # Positive control: from a page of ours it is done.
            good = {"Cookie": f"{COOKIE}={word}"}
            done = await browser.ask("POST", "/servers/tokyo-1/do/look", headers=good)
            assert (done.status, browser.source.looked) == (200, ["tokyo-1"])

    asyncio.run(story())


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
def test_nothing_but_get_and_post_is_answered(method: str) -> None:
    async def story() -> None:
        async with browsing() as browser:
            assert (await browser.ask(method, "/")).status == 405

    asyncio.run(story())


def test_no_get_acts(tokens: Tokens) -> None:
    _, operator, settings = tokens

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            word = cookie(await browser.log_in(operator))
            for what in ("look", "pause", "resume", "reboot", "invalidate-cache"):
                path = f"/servers/tokyo-1/do/{what}?reason=x&end=2h&who=ann"
                assert (await browser.get(path, Cookie=f"{COOKIE}={word}")).status == 200
            assert (browser.source.looked, browser.source.wishes) == ([], [])

    asyncio.run(story())


def test_every_answer_forbids_frames_scripts_of_others_and_keeping(tokens: Tokens) -> None:
    reader, _, settings = tokens

    async def story() -> None:
        async with browsing(settings) as browser:
            word = cookie(await browser.log_in(reader))
            for path in (*PRIVATE[:-2], "/login", "/static/page.js", "/static/nothing", "/nothing"):
                for headers in ({}, {"Cookie": f"{COOKIE}={word}"}, {"Host": "evil.example"}):
                    found = (await browser.ask("GET", path, headers=headers)).headers
                    policy = found["Content-Security-Policy"]
                    assert "default-src 'none'" in policy
                    assert "frame-ancestors 'none'" in policy
                    assert "unsafe" not in policy
                    assert found["X-Frame-Options"] == "DENY"
                    assert found["Cache-Control"] == "no-store"
                    assert found["X-Content-Type-Options"] == "nosniff"
                    assert found["Referrer-Policy"] == "same-origin"

    asyncio.run(story())


# ── a proxy, and certificates ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("network", "header", "status"),
    [
        ("127.0.0.0/8", {"X-Forwarded-User": "ann@example.com"}, 200),
        ("127.0.0.0/8", {}, 401),
        ("127.0.0.0/8", {"X-Forwarded-User": " "}, 401),
        ("127.0.0.0/8", {"X-Remote-User": "ann@example.com"}, 401),
        ("10.0.0.0/8", {"X-Forwarded-User": "ann@example.com"}, 401),
    ],
)
def test_a_proxy_is_believed_where_it_is_and_nobody_else(
    network: str, header: dict[str, str], status: int
) -> None:
    async def story() -> None:
        networks = (ipaddress.ip_network(network),)
        settings = PageSettings(HERE, proxy_networks=networks, operators=("ann@example.com",))
        async with browsing(settings, actions=True) as browser:
            assert (await browser.ask("GET", "/", headers=header)).status == status
            done = await browser.ask("POST", "/servers/tokyo-1/do/look", headers=header)
            assert (done.status == 200) == (status == 200)
            assert browser.source.looked == ["tokyo-1"] * (status == 200)

    asyncio.run(story())


def test_two_names_from_a_proxy_are_none_and_a_reader_is_no_operator() -> None:
    async def story() -> None:
        networks = (ipaddress.ip_network("127.0.0.1/32"),)
        settings = PageSettings(HERE, proxy_networks=networks, operators=("ann",))
        async with browsing(settings, actions=True) as browser:
            url = browser.site.url + "/"
            twice = [("X-Forwarded-User", "bob"), ("X-Forwarded-User", "ann")]
            async with browser.http.get(url, headers=twice, allow_redirects=False) as found:
                assert found.status == 401
            bob = {"X-Forwarded-User": "bob"}
            done = await browser.ask("POST", "/servers/tokyo-1/do/look", headers=bob)
            assert done.status == 403
            assert browser.source.looked == []

    asyncio.run(story())


def test_a_pause_notes_who_the_proxy_says_it_is(tokens: Tokens) -> None:
    del tokens

    async def story() -> None:
        networks = (ipaddress.ip_network("127.0.0.1/32"),)
        settings = PageSettings(HERE, proxy_networks=networks, operators=("ann",))
        async with browsing(settings, actions=True) as browser:
            ann = {"X-Forwarded-User": "ann"}
            data = {"who": "the boss", "reason": "exchange maintenance", "end": "2h"}
            data["target"] = str(target_of(browser.source.store.servers["tokyo-1"]))
            path = "/servers/tokyo-1/do/pause"
            done = await browser.ask("POST", path, headers=ann, data=data)
            assert done.status == 200
            (wish,) = browser.source.wishes
            assert wish.by == "ann (page)"
            assert wish.pause is not None
            assert wish.pause.reason == "exchange maintenance"

    asyncio.run(story())


def test_only_who_shows_a_certificate_of_the_ca_is_let_in(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("own", "people", "strangers")]
    for folder in folders:
        folder.mkdir()
    own, people, strangers = map(Authority, folders)
    cert, key = own.issue("page")
    settings = PageSettings(
        HERE,
        cert_file=cert,
        key_file=key,
        client_ca_file=str(people.ca_file),
        operators=("ann",),
    )
    shown = {"bob": people.issue("bob"), "ann": people.issue("ann")}
    shown["stranger"] = strangers.issue("ann")

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            url = browser.site.url + "/"
            assert url.startswith("https://")
            for who, status in (("", 401), ("stranger", None), ("bob", 200), ("ann", 200)):
                context = ssl.create_default_context(cafile=str(own.ca_file))
                if who:
                    context.load_cert_chain(*shown[who])
                if status is None:
                    with pytest.raises(aiohttp.ClientError):
                        async with browser.http.get(url, ssl=context) as found:
                            await found.read()
                    continue
                async with browser.http.get(url, ssl=context) as found:
                    assert found.status == status
                headers = {"Origin": browser.site.url} | SAME
                act = url + "servers/tokyo-1/do/look"
                async with browser.http.post(act, ssl=context, headers=headers) as found:
                    assert (found.status == 200) == (who == "ann")
            assert browser.source.looked == ["tokyo-1"]

    asyncio.run(story())


# ── sessions and attempts by themselves ──────────────────────────────────────────────────────


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_ends() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    word = sessions.begin("ann", operator=True)
    found = sessions.get(word)
    assert found is not None
    assert (found.name, found.operator) == ("ann", True)
    assert sessions.get("") is None
    for _ in range(int(LASTS // (IDLE - 1))):
        clock.now += IDLE - 1
        assert sessions.get(word) is not None
    clock.now += IDLE - 1
    assert sessions.get(word) is None  # however often it was used

    idle = sessions.begin("bob", operator=False)
    clock.now += IDLE + 1
    assert sessions.get(idle) is None


def test_a_look_whether_a_session_holds_does_not_renew_it() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    word = sessions.begin("ann", operator=True)
    visitor = sessions.get(word)
    assert visitor is not None
    clock.now += IDLE - 1
    assert sessions.holds(visitor)
    clock.now += 2
    assert not sessions.holds(visitor)
    assert sessions.get(word) is None
    other = sessions.get(gone := sessions.begin("bob", operator=False))
    assert other is not None
    sessions.end(gone)
    assert not sessions.holds(other)
    assert sessions.holds(Visitor("proxied", proven=True))  # has none


@pytest.mark.parametrize("why", ["logout", "another login", "idle", "too long"])
def test_what_is_told_ends_with_the_session(tokens: Tokens, why: str) -> None:
    reader, _, settings = tokens
    clock = Clock()

    async def story() -> None:
        source, access = Made(mixed()), Access(settings, clock=clock)
        site = Site(source, access, listen=HERE, period=0.01, pulse=60)
        await site.start()
        try:
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
                browser = Browser(site, source, http)
                kept, other = [
                    {"Cookie": f"{COOKIE}={cookie(await browser.log_in(reader))}"} for _ in "ab"
                ]
                async with (
                    http.get(f"{site.url}/events", headers=kept) as ended,
                    http.get(f"{site.url}/events", headers=other) as going_on,
                    asyncio.timeout(PATIENCE),
                ):
                    assert ended.status == going_on.status == 200
                    while b"event: pulse" not in await ended.content.readline():
                        pass
                    if why == "logout":
                        await browser.ask("POST", "/logout", headers=kept)
                    elif why == "another login":
                        await browser.log_in(reader, **kept)
                    else:
                        # Nothing but what is told goes on: no request renews the session.
                        clock.now += IDLE + 1 if why == "idle" else LASTS + 1
                    news = replace(source.store.servers["tokyo-1"], reason="news" * 9)
                    told = b""
                    if why in ("logout", "another login"):  # at once, without anything to tell
                        with suppress(aiohttp.ClientError):
                            told = await ended.content.read()
                        source.put(news)
                    else:
                        source.put(news)
                        with suppress(aiohttp.ClientError):
                            told = await ended.content.read()
                    assert b"news" not in told
                    if why in ("logout", "another login"):
                        while b"news" not in await going_on.content.readline():
                            pass
                assert site.hub.viewers == 0 or why in ("logout", "another login")
        finally:
            await site.stop()

    asyncio.run(story())


def test_sessions_and_addresses_are_bounded() -> None:
    clock = Clock()
    sessions, attempts = Sessions(clock), Attempts(clock)
    words = [sessions.begin("x", operator=False) for _ in range(SESSIONS + 5)]
    assert len(sessions._of) == SESSIONS
    assert sessions.get(words[0]) is None
    assert sessions.get(words[-1]) is not None
    for number in range(ADDRESSES + 5):
        clock.now += WITHIN
        attempts.failed(f"10.0.{number // 256}.{number % 256}")
    assert len(attempts._of) == ADDRESSES


def test_attempts_of_one_address_do_not_shut_out_another_and_pass() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(TRIES):
        assert attempts.wait("a") == 0
        attempts.failed("a")
    assert attempts.wait("a") == int(WITHIN) + 1
    assert attempts.wait("b") == 0
    clock.now += WITHIN + 1
    assert attempts.wait("a") == 0
