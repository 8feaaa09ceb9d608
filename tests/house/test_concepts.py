"""One page per concept: each says what it is and what one sees of it, and that is run."""

import re
from pathlib import Path

import pytest

from docs import site
from reconciler.sandbox.jt_trader.server import Behaviour
from tests.house.pages import BIN, ROOT, blocks, page
from tests.house.test_pages import Harness
from tests.support.rig import Rig

OVERVIEW = "docs/concepts.md"
PAGES = tuple(sorted((ROOT / "docs" / "concepts").glob("*.md")))
# Where links from elsewhere led when all of it was one page; what is published lasts.
PLACES = (
    *("the-picture", "words", "which-files-are-read", "what-a-server-shows-and-what-that-proves"),
    *("robots", "requests", "windows", "what-an-invalidation-does", "what-a-reboot-does"),
    *("why-nothing-is-done-twice", "a-last-look-before-every-send", "many-servers"),
    *("the-cost-of-a-look", "two-consents-that-are-not-the-same", "who-gets-what"),
)
SHORT = 65
"""Lines that somebody reads at once."""


@pytest.fixture
def harness(rig: Rig) -> Harness:
    """A server as its document says, which a reader looks at."""
    harness = Harness(rig)
    rig.server()
    rig.document("tokyo-1", "bybit")
    rig.begin()
    assert rig.apply().code == 0
    return harness


def test_the_overview_names_every_page_once() -> None:
    listed = re.findall(r"^- .*?\]\((concepts/[\w-]+\.md)\)", page(OVERVIEW), re.MULTILINE)

    assert sorted(listed) == [f"concepts/{path.name}" for path in PAGES]
    assert tuple(f"docs/{name}" for name in listed) == site.READING
    assert len(PAGES) > 12


def test_links_from_before_there_were_pages_lead_to_them() -> None:
    text = page(OVERVIEW)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    places = {title.lower().replace(" ", "-") for title in titles}

    assert set(PLACES) <= places | set(re.findall(r'<a id="([^"]+)"></a>', text))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_is_short_and_says_what_one_sees(path: Path) -> None:
    text = path.read_text("utf-8")

    assert len(text.splitlines()) <= SHORT
    assert blocks(text, "see") or blocks(text, "owner")
    assert re.search(r"^More: ", text, re.MULTILINE), "links to what follows"


SHOWN = {
    "documents": ("valid: 1 server", "servers/tokyo-1.yaml:"),
    "verdicts": ("tokyo-1/bybit: in sync", "something differs"),
    "look": ("in sync", "tokyo-1"),
    "plans": ("in sync", "tokyo-1"),
    "consent": ("--correct-drift", "new-recipient"),
    "last-look": ("tokyo-1", "write bybit"),
    "robots": ("grid-btc",),
    "requests": ("No requests.",),
    "reboot-and-invalidation": ("tokyo-1/reboot: not planned", "tokyo-1/cache: not planned"),
    "windows": ("window",),
    "ledger": ("every row can be read", "write bybit"),
    "controller": ("tokyo-1",),
    "audit": ("PERM_WITHDRAW", "IP_UNBOUND"),
}
OF_THEIR_OWN = {"drift", "brake", "recipients"}


def test_what_is_to_be_seen_is_named_for_every_page() -> None:
    assert SHOWN.keys() | OF_THEIR_OWN == {path.stem for path in PAGES}


@pytest.mark.volume
@pytest.mark.skipif(not (BIN / "jtr").exists(), reason="the command is not installed here")
def test_what_one_sees_of_each_concept(harness: Harness) -> None:
    (server,) = harness.rig.servers.values()
    before = len(server.record.handshakes)
    for name, words in SHOWN.items():
        printed = harness.run("see", page(f"docs/concepts/{name}.md"))

        assert [word for word in words if word not in printed] == [], f"{name}: {printed}"
    assert len(server.record.handshakes) == before, "looking at a concept visits nobody"


@pytest.mark.skipif(not (BIN / "jtr").exists(), reason="the command is not installed here")
def test_what_one_sees_of_drift(harness: Harness) -> None:
    rig = harness.rig
    rig.servers["tokyo-1"].set_value("bybit_api_key", rig.watch.secret("base62"))
    rig.apply()

    printed = harness.run("see", page("docs/concepts/drift.md"))

    assert "Drift\n" in printed
    assert "jtr apply --correct-drift" in printed


@pytest.mark.skipif(not (BIN / "jtr").exists(), reason="the command is not installed here")
@pytest.mark.fatal_paths(1)
def test_what_one_sees_of_the_brake(rig: Rig) -> None:
    harness = Harness(rig)
    rig.server(behaviour=Behaviour(save="fatal"))
    rig.document("tokyo-1", "bybit")
    rig.begin()
    assert rig.apply().code == 8

    printed = harness.run("see", page("docs/concepts/brake.md"))

    assert "jtr ledger release-brake" in printed
