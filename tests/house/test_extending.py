"""
docs/extending.md is held to the code: five additions, each of one file, each held by a suite.

What the files do is judged where their suites are: `tests/exchanges/test_new_adapter.py`,
`tests/contract/test_ledgers.py`, `tests/notifications/test_senders.py` and
`tests/golden/test_plan_renderers.py`.
"""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from reconciler.bootstrap import load_settings
from reconciler.errors import InvalidConfig
from reconciler.ledger import Store
from tests.house.test_architecture import ROOT
from tests.house.test_architecture_page import lost
from tests.support.additions import PAGE, files_of, put, shown

TEXT = PAGE.read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))
JSON = "reconciler/ledger/stores/json_file.py"


def of_the_package(section: str) -> list[str]:
    """The files that an addition puts where its users are, not its tests."""
    return [path for path in files_of(section) if not path.startswith(("tests/", "docs/"))]


# ── the page ─────────────────────────────────────────────────────────────────────────────────


def test_there_are_five_additions() -> None:
    assert len(SECTIONS) == 5
    assert sum(len(files_of(section)) for section in SECTIONS.values()) == len(files_of(TEXT)) == 6
    assert TEXT.count("```python\n") == 6, "every block begins with its path"


@pytest.mark.parametrize("title", SECTIONS)
def test_an_addition_is_one_file_in_a_folder_that_is_there(title: str) -> None:
    (path,) = of_the_package(SECTIONS[title])

    new = (ROOT / path).parent.relative_to(ROOT / "reconciler").parts[1:]
    assert len(new) <= 1 or (ROOT / path).parent.is_dir(), "a kind of server has a folder"
    assert shown(path).startswith('"""'), "like every module, it says what it is for"
    assert not (ROOT / path).exists(), "it is an example, and would be covered by the real one"


@pytest.mark.parametrize("title", SECTIONS)
def test_an_addition_says_what_finds_it_holds_it_and_forbids(title: str) -> None:
    rules = re.findall(r"^- \*\*(.+?)\*\*", SECTIONS[title], re.MULTILINE)

    assert rules == ["Write", "Found by", "Held by", "Never"]


def test_positive_control_a_second_file_is_noticed() -> None:
    block = "```python\n# reconciler/a.py\nA = 1\n```\n"
    other = block.replace("reconciler/a.py", "tests/test_a.py")

    assert of_the_package(f"{block}\n{other}") == ["reconciler/a.py"]
    assert of_the_package(f"{block}\n{block.replace('a.py', 'b.py')}") == [
        "reconciler/a.py",
        "reconciler/b.py",
    ]


def test_what_the_page_names_is_there() -> None:
    paths = re.findall(r"`((?:reconciler|tests|docs|schemas)/[\w/]+\.(?:py|json))", TEXT)

    assert len(paths) >= 10
    assert [path for path in paths if not (ROOT / path).is_file() and "NAME" not in path] == [
        "reconciler/notifications/senders/KIND.py",
        "reconciler/render/plan_FORM.py",
    ] * 2
    assert lost(TEXT) == []


@pytest.mark.parametrize(
    ("setting", "known"),
    [
        ("ledger: %s:/var/lib/jtr/ledger", ("json", "sqlite")),
        (
            "notifications: [{kind: %s, name: x, urlFile: /x, secretFile: /y}]",
            ("pager", "webhook"),
        ),
    ],
    ids=["store", "sender"],
)
def test_the_settings_do_not_know_an_addition_by_themselves(
    tmp_path: Path, setting: str, known: tuple[str, str]
) -> None:
    """What the page says is still to be done; when it is done, the page must no longer say so."""
    file = tmp_path / "settings.yaml"
    new, ours = known
    file.write_text(setting % ours, "utf-8")
    load_settings(str(file), {"HOME": str(tmp_path)}, [])
    file.write_text(setting % new, "utf-8")

    with pytest.raises(InvalidConfig):
        load_settings(str(file), {"HOME": str(tmp_path)}, [])


# ── a store, whose protocol is a type as well ────────────────────────────────────────────────


def missing(protocol: type, made: type) -> list[str]:
    """The members of a protocol that a class does not have with the same signature."""
    names = [name for name in vars(protocol) if not name.startswith("_")]
    assert names
    return [name for name in names if member(protocol, name) != member(made, name)]


def member(owner: type, name: str) -> object:
    found = inspect.getattr_static(owner, name, None)
    if isinstance(found, property):
        found = found.fget
    if not callable(found):
        return None
    return inspect.iscoroutinefunction(found), inspect.signature(found, eval_str=True)


def test_the_store_has_the_signatures_of_the_seam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(JSON, shown(JSON), tmp_path, monkeypatch)
    made = importlib.import_module("reconciler.ledger.stores.json_file").JsonFileStore

    assert missing(Store, made) == ["created", "at_hand"], "which are attributes there"
