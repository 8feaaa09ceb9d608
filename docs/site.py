"""
Build the documentation as a site, from the pages as they lie in the repository, into build/site/.

`make docs` runs it.  The builder gets a tree of its own with every page, and every file that a page
links to, in the places that they have here: a link that works in the repository works on the site.
Which page stands where is found out, so a new one is there without being told of.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import yaml

ROOT: Final = Path(__file__).parent.parent
BUILT: Final = ROOT / "build"
PAGES: Final = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md")
PAGES_BESIDE: Final = ("deploy/README.md", "bench/README.md", "tests/README.md")
NOT_PAGES: Final = ("docs/adr/template.md",)  # a file to copy; a link brings it along as that
LINK: Final = re.compile(r"(?<!`)\]\(([^()\s]+)\)")
CONCEPTS: Final = ROOT / "docs" / "concepts.md"
READING: Final = tuple(
    dict.fromkeys(
        f"docs/{link}"
        for link in LINK.findall(CONCEPTS.read_text("utf-8"))
        if link.startswith("concepts/")
    )
)
"""The pages of concepts in the order in which their overview names them: one builds on another."""
SECTIONS: Final[Sequence[tuple[str, Sequence[str]]]] = (
    (
        "Start",
        (
            *("README.md", "docs/first-steps.md", "docs/your-own-server.md"),
            *("docs/in-ci.md", "docs/requests.md"),
        ),
    ),
    ("How to", ("docs/how-to/*",)),
    ("Set-ups", ("docs/setup-*", "deploy/*")),
    ("Concepts", ("docs/concepts.md", *READING, "docs/concepts/*", "*")),
    ("Operations", ("docs/operations.md", "docs/alerts.md", "docs/outages.md")),
    ("Runbooks", ("docs/runbooks/*",)),
    ("Reference", ("docs/reference/*", "docs/config.md", "CHANGELOG.md")),
    (
        "Development",
        (
            *("docs/architecture.md", "docs/extending.md", "docs/testing.md", "docs/protocol.md"),
            *("CONTRIBUTING.md", "SECURITY.md", "tests/*", "bench/*"),
        ),
    ),
    ("What exchanges tell", ("docs/audit/*",)),
    ("Decisions", ("docs/adr/README.md", "docs/adr/*")),
)
"""
Where a page stands: in the section that says most of its path; `*` takes what no other one names.

In a section the order is that of its patterns, and of the paths where one pattern has several.
"""


def pages() -> list[str]:
    """Every page, as a path from the root of the repository."""
    found = {
        path.relative_to(ROOT).as_posix()
        for pattern in (*PAGES, *PAGES_BESIDE)
        for path in ROOT.glob(pattern)
    }
    return sorted(found - set(NOT_PAGES))


def title(page: str) -> str:
    """The first heading of a page."""
    return (ROOT / page).read_text("utf-8").partition("\n")[0].removeprefix("# ").strip()


def nav(names: Iterable[str], titled: Mapping[str, str]) -> list[dict[str, Any]]:
    """The sections with their pages, as mkdocs.yml writes them; every page stands in one."""
    placed: dict[str, list[tuple[int, str, str]]] = {name: [] for name, _ in SECTIONS}
    for page in names:
        matching = (
            (len(pattern), section, order)
            for section, patterns in SECTIONS
            for order, pattern in enumerate(patterns)
            if fnmatchcase(page, pattern)
        )
        _, section, order = max(matching, key=lambda found: found[0])
        placed[section].append((order, page, titled[page]))
    return [
        {section: [{name: page} for _, page, name in sorted(held)]}
        for section, held in placed.items()
        if held
    ]


# ── the builder's tree ───────────────────────────────────────────────────────────────────────


def stage(tree: Path) -> None:
    """Put every page, and whatever pages link to, into *tree*."""
    for page in pages():
        text = (ROOT / page).read_text("utf-8")
        target = tree / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(LINK.sub(partial(_staged, tree, page), text), "utf-8")


def _staged(tree: Path, page: str, link: re.Match[str]) -> str:
    """The link as the site has it: a folder is its own page, or a list of what lies in it."""
    address, mark, anchor = link[1].partition("#")
    if "://" in address or address.startswith("mailto:") or not address:
        return link[0]
    path = os.path.normpath(f"{PurePosixPath(page).parent}/{address}")
    source = ROOT / path
    if source.is_dir():
        address = f"{address.rstrip('/')}/README.md"
        if f"{path}/README.md" not in pages():
            _list(tree, path)
    elif source.is_file() and path not in pages():  # what is not there is a dead link of the site
        copy = tree / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    return f"]({address}{mark}{anchor})"


def _list(tree: Path, folder: str) -> None:
    files = [path for path in sorted((ROOT / folder).iterdir()) if path.is_file()]
    page = tree / folder / "README.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, page.with_name(file.name))
    lines = [f"# {folder}/", "", *(f"- [{file.name}]({file.name})" for file in files), ""]
    page.write_text("\n".join(lines), "utf-8")


def build() -> Path:
    """Build the site; returns its folder.  Raises CalledProcessError for a warning, too."""
    tree, site, config = BUILT / "pages", BUILT / "site", BUILT / "mkdocs.yml"
    for folder in (tree, site):
        shutil.rmtree(folder, ignore_errors=True)
    stage(tree)
    more = {
        "docs_dir": tree.name,
        "site_dir": site.name,
        "nav": nav(pages(), {page: title(page) for page in pages()}),
    }
    text = (ROOT / "mkdocs.yml").read_text("utf-8") + yaml.safe_dump(more, sort_keys=False)
    config.write_text(text, "utf-8")
    builder = Path(sys.executable).with_name("zensical")
    subprocess.run(
        [builder, "build", "--clean", "--strict", "--config-file", config], check=True, cwd=BUILT
    )
    return site


# ── what was built ───────────────────────────────────────────────────────────────────────────


class _Page(HTMLParser):
    """The places of a page, where its links lead, and what it has the reader's browser fetch."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(path.read_text("utf-8"))

    def has(self, fragment: str) -> bool:
        """Whether a link may name this place."""
        return unquote(fragment) in self.places

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        self.places |= {told[key] for key in ("id", "name") if key in told}
        if tag == "a" and "href" in told:
            self.links.append(told["href"])
        elif tag == "link" and told.get("rel") in {"stylesheet", "icon", "preconnect", "preload"}:
            self.fetched.append(told["href"])
        elif "src" in told:
            self.fetched.append(told["src"])


def dead(site: Path) -> Iterator[str]:
    """Links that lead nowhere in the site, places included, and what comes from elsewhere."""
    built = {path.relative_to(site).as_posix(): _Page(path) for path in site.rglob("*.html")}
    for name, page in sorted(built.items()):
        if name == "404.html":
            continue  # the builder's own: its links are those of the site's root
        for address in (*page.links, *page.fetched):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if address in page.fetched and parts.scheme != "data":
                    yield f"{name}: fetches {address}"
                continue
            path = os.path.normpath(f"{PurePosixPath(name).parent}/{unquote(parts.path)}")
            there = site / path
            if there.is_dir():
                there /= "index.html"
            where = there.relative_to(site).as_posix() if parts.path else name
            if not (site / where).is_file():
                yield f"{name}: {address}"
            elif parts.fragment and where in built and not built[where].has(parts.fragment):
                yield f"{name}: no place {address}"


def main() -> int:
    """Build the site, and say which of its links are dead."""
    BUILT.mkdir(exist_ok=True)
    try:
        site = build()
    except subprocess.CalledProcessError as error:
        return error.returncode  # the builder said why
    found = list(dead(site))
    told = "\n".join(found) or f"{len(list(site.rglob('*.html')))} pages in {site}/, no dead link"
    print(told)  # noqa: T201  - a script
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
