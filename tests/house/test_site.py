"""The site has every page, and its dead links are found; `make docs` builds it."""

import re
from pathlib import Path

import pytest

from docs import site
from tests.house.pages import ROOT


def shown(nav: list[dict[str, list[dict[str, str]]]]) -> list[str]:
    """The pages of a nav, in its order."""
    return [
        page
        for section in nav
        for held in section.values()
        for one in held
        for page in one.values()
    ]


def test_every_page_stands_in_the_nav_once() -> None:
    names = site.pages()
    nav = site.nav(names, {page: site.title(page) for page in names})

    assert sorted(shown(nav)) == names
    assert len(names) > 50
    assert next(iter(nav)) == {"Start": nav[0]["Start"]}
    assert shown(nav)[0] == "README.md"


@pytest.mark.parametrize("page", site.pages())
def test_a_page_begins_with_its_title(page: str) -> None:
    assert re.match(r"# \S", (ROOT / page).read_text("utf-8"))


@pytest.mark.parametrize(
    ("page", "section"),
    [
        ("docs/runbooks/robots-stopped.md", "Runbooks"),
        ("docs/how-to/anything.md", "How to"),
        ("docs/outages.md", "Operations"),
        ("docs/pull-mode.md", "Concepts"),
        ("docs/concepts/of-tomorrow.md", "Concepts"),
        ("docs/setup-pull.md", "Set-ups"),
        ("docs/adr/0099-x.md", "Decisions"),
        ("docs/a/folder/of/its/own.md", "Concepts"),
    ],
)
def test_a_page_that_nobody_knew_of_gets_its_place(page: str, section: str) -> None:
    assert site.nav([page], {page: "A title"}) == [{section: [{"A title": page}]}]


def test_links_out_of_the_pages_are_brought_along(tmp_path: Path) -> None:
    site.stage(tmp_path)

    assert (tmp_path / "deploy/vault/ledger.hcl").is_file()
    assert "ledger.hcl" in (tmp_path / "deploy/vault/README.md").read_text("utf-8")
    assert not (tmp_path / "reconciler").exists()


def test_positive_control_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "index.html").write_text('<h2 id="place">A</h2>', "utf-8")
    (tmp_path / "index.html").write_text(
        '<a href="there/">1</a> <a href="there/#place">2</a> <a href="https://else.example/">3</a>'
        '<a href="gone/">4</a> <a href="there/#gone">5</a> <a href="#gone">6</a>'
        '<script src="https://else.example/x.js"></script><img src="gone.svg">',
        "utf-8",
    )

    assert list(site.dead(tmp_path)) == [
        "index.html: gone/",
        "index.html: no place there/#gone",
        "index.html: no place #gone",
        "index.html: fetches https://else.example/x.js",
        "index.html: gone.svg",
    ]
