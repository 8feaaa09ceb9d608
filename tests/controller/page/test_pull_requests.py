"""An operator lets a prepared request be reviewed, from the page; nobody else, and nothing more."""

import asyncio
import html
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from reconciler.model.timestamps import spelled
from reconciler.settings.model import PageSettings
from tests.controller.page.test_access import Answer, Browser, browsing, token_file
from tests.controller.page.test_pages import Operator, acting
from tests.controller.pull_office import DOCUMENT, Office
from tests.support.forge import ForgeStandIn
from tests.support.leaks import Watch

PATH = "/servers/tokyo-1/do/reboot"
REASON = {"reason": "stale <b>cache</b>", "robots": "leave"}


@pytest.fixture
def operator(watch: Watch, tmp_path: Path) -> Operator:
    token = watch.secret("hex")
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    file = token_file(folder, "operator", token)
    return token, PageSettings("127.0.0.1:0", operator_token_file=file)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with ForgeStandIn() as forge:
        yield Office(tmp_path, forge, "github")


def sent(page: Answer) -> dict[str, str]:
    """Return what a form, or the button of a prepared request, sends besides what is typed."""
    pairs = re.findall(r'<input type="hidden" name="([a-z]+)" value="([^"]*)">', page.text)
    return {name: html.unescape(value) for name, value in pairs}


async def prepared(browser: Browser, headers: dict[str, str]) -> dict[str, str]:
    asked = sent(await browser.get(PATH, **headers)) | REASON
    found = await browser.ask("POST", PATH, headers=headers, data=asked)
    assert found.status == 200
    assert "+++ b/servers/tokyo-1.yaml" in found.text
    assert "Open a pull request" in found.text
    assert "jtr request reboot tokyo-1" in found.text
    return sent(found)


def test_what_was_prepared_is_sent_for_review_once(operator: Operator, office: Office) -> None:
    token, settings = operator

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            browser.source.pulls = office.pulls
            headers = await acting(browser, token)
            form = await prepared(browser, headers)
            assert office.branches() == {"main": office.revision}  # nothing was pushed
            given = form | {"who": "ann <i>"}
            answers = [
                await browser.ask("POST", PATH, headers=headers, data=given) for _ in range(2)
            ]
            for found in answers:
                assert (found.status, found.text) == (200, answers[0].text)
            (one,) = office.forge.told.pulls
            assert f'href="{office.forge.page_of(one)}"' in answers[0].text
            assert office.branches().keys() == {"main", one.branch}
            assert "<i>" not in answers[0].text
            by = "ann <i> (page, by the operator's token)"
            assert f"Asked for by: `{by}`" in one.body
            assert "Address: `https://tokyo-1.internal:8443 (account 0)`" in one.body
            assert f"Asked for by {by}" in office.in_hub(
                "log", "-1", "--format=%B", f"origin/{one.branch}"
            )
            source = browser.source
            assert (source.looked, source.wishes) == ([], [])  # no server was asked for anything

    asyncio.run(story())


def test_a_name_that_a_proxy_proves_is_the_one_that_asks(office: Office) -> None:
    here = (ip_network("127.0.0.1/32"),)
    settings = PageSettings("127.0.0.1:0", proxy_networks=here, operators=("ann@office",))

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            browser.source.pulls = office.pulls
            headers = {"X-Forwarded-User": "ann@office"}
            form = await prepared(browser, headers) | {"who": "bob"}
            found = await browser.ask("POST", PATH, headers=headers, data=form)
            assert found.status == 200
            (one,) = office.forge.told.pulls
            assert "Asked for by: `ann@office (page)`" in one.body
            assert "bob" not in one.body

    asyncio.run(story())


def moved(office: Office) -> None:
    office.place.write_text(DOCUMENT.replace("//tokyo-1.", "//tokyo-9."), "utf-8")


def otherwise(office: Office) -> None:
    kept = DOCUMENT.replace("supervised: true", "supervised: true\n  soleAccount: true")
    office.place.write_text(kept, "utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (moved, "tokyo-1 is another server now, at https://tokyo-9.internal:8443 (account 0)"),
        (otherwise, "the document of tokyo-1 is not the one that was shown"),
    ],
)
def test_what_was_shown_is_what_is_sent_for_review_or_nothing(
    operator: Operator, office: Office, change: Callable[[Office], None], words: str
) -> None:
    token, settings = operator

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            browser.source.pulls = office.pulls
            headers = await acting(browser, token)
            form = await prepared(browser, headers) | {"who": "ann"}
            change(office)  # merged, and in force, while somebody reads the diff
            office.revision = office.repository.commit("Go on")
            browser.source.pulls = office.controller("state")
            found = await browser.ask("POST", PATH, headers=headers, data=form)
            assert words in found.text
            assert "nothing was changed" in found.text
            assert (await browser.ask("POST", PATH, headers=headers, data=REASON)).status == 200
            assert office.branches() == {"main": office.revision}
            assert office.forge.told.pulls == []

    asyncio.run(story())


def test_nothing_is_prepared_for_another_server_of_that_name(
    operator: Operator, office: Office
) -> None:
    token, settings = operator

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            headers = await acting(browser, token)
            form = sent(await browser.get(PATH, **headers)) | REASON
            moved(office)
            office.revision = office.repository.commit("Go on")
            browser.source.pulls = office.controller("state")
            found = await browser.ask("POST", PATH, headers=headers, data=form)
            assert "tokyo-1 is another server now, at https://tokyo-9.internal" in found.text
            assert "+++" not in found.text

    asyncio.run(story())


def test_nobody_but_an_operator_sends_anything(
    operator: Operator, office: Office, watch: Watch, tmp_path: Path
) -> None:
    token, settings = operator
    reader = watch.secret("hex")
    file = token_file(tmp_path / "private", "reader", reader)
    settings = PageSettings(
        "127.0.0.1:0", token_file=file, operator_token_file=settings.operator_token_file
    )

    async def story() -> None:
        for actions, status in ((True, 403), (False, 404)):
            async with browsing(settings, actions=actions) as browser:
                browser.source.pulls = office.pulls
                form = REASON | {"at": spelled(datetime.now(UTC)), "who": "ann"}
                headers = await acting(browser, reader)
                found = await browser.ask("POST", PATH, headers=headers, data=form)
                assert found.status == status
        async with browsing(settings, actions=True) as browser:
            browser.source.pulls = office.pulls
            headers = await acting(browser, token) | {"Origin": "https://evil.test"}
            found = await browser.ask("POST", PATH, headers=headers, data=form)
            assert found.status == 403

    asyncio.run(story())
    assert office.branches() == {"main": office.revision}
    assert (office.forge.told.pulls, office.forge.told.asked) == ([], 0)


def test_an_instant_that_is_not_of_a_moment_ago_is_none(operator: Operator, office: Office) -> None:
    token, settings = operator
    now = datetime.now(UTC)

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            browser.source.pulls = office.pulls
            headers = await acting(browser, token)
            for at in (
                spelled(now - timedelta(hours=2)),
                spelled(now + timedelta(hours=1)),
                now.isoformat(),
                "2026-13-40",
                "x",
            ):
                data = REASON | {"at": at, "who": "ann"}
                found = await browser.ask("POST", PATH, headers=headers, data=data)
                assert "prepare it anew" in found.text

    asyncio.run(story())
    assert office.branches() == {"main": office.revision}
    assert office.forge.told.pulls == []


def test_what_the_forge_says_is_said_in_words_and_with_no_token(
    operator: Operator, office: Office, watch: Watch
) -> None:
    token, settings = operator
    own = watch.secret("hex")

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            browser.source.pulls = office.controller("state", own)
            headers = await acting(browser, token)
            form = await prepared(browser, headers) | {"who": "ann"}
            found = await browser.ask("POST", PATH, headers=headers, data=form)
            assert "nothing was pushed: the forge&#39;s API answered 401" in found.text
            watch.search("the page", found.text)

    asyncio.run(story())
    assert office.branches() == {"main": office.revision}


def test_where_none_are_set_up_nothing_is_sent(operator: Operator) -> None:
    token, settings = operator

    async def story() -> None:
        async with browsing(settings, actions=True) as browser:
            headers = await acting(browser, token)
            data = REASON | {"at": spelled(datetime.now(UTC)), "who": "ann"}
            found = await browser.ask("POST", PATH, headers=headers, data=data)
            assert "no pull requests are opened from here" in found.text
            assert "Open a pull request" not in found.text

    asyncio.run(story())
