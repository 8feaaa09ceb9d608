"""The architecture is a test: imports point downwards, pure modules touch nothing."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "reconciler"

# A module imports from its own line and from lines above it, except that the edges (one line)
# ignore one another.  A dotted name is a module that lies lower than the rest of its package.
LAYERS: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            {"errors", "durations"},
            {"exchanges.facts", "exchanges.wanted"},
            {"model", "observed"},
            {"remembered"},
            {"actions"},
            {"secrets"},
            {"drivers", "exchanges", "diff", "outcomes", "logs", "windows"},
            {
                *("nodes", "formats", "strict_yaml", "places", "schema"),
                *("loader", "defaults", "checks", "documents", "splice", "edit"),
                *("consequences", "security"),
            },
            {"settings", "notification_settings", "audit_settings", "oneshots"},
            {"lines", "restarts", "checkup"},
            {"checkup_vault", "checkup_ledger", "checkup_server"},
            {"plan", "render", "ledger", "brake"},
            {"resolve", "emergency"},
            {"reconcile"},
            {"scene", "auditing"},
            {"credentials", "robots", "gate"},
            {"disrupt"},
            {"apply"},
            {"controller"},
            {"sandbox"},
            {"cli", "__main__"},
        ),
    )
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Siblings that must not know one another, whatever their level.
STRANGERS = (
    ("drivers", {"exchanges", "ledger", "plan", "lines", "diff", "resolve", "documents"}),
    ("drivers", {"settings"}),
    ("exchanges", {"drivers", "ledger", "plan", "lines", "diff", "resolve", "documents"}),
    ("exchanges", {"settings"}),
    ("ledger", {"drivers", "secrets", "plan", "lines", "diff", "resolve", "documents"}),
    ("secrets", {"drivers", "exchanges", "ledger", "documents", "settings"}),
)
PURE = {
    *("errors", "durations", "model", "observed", "remembered", "actions", "outcomes"),
    *("diff", "consequences", "lines", "plan", "oneshots", "restarts", "windows"),
    *("checkup", "checkup_vault", "checkup_ledger", "checkup_server"),
    *("exchanges.facts", "exchanges.wanted"),
}
HARMLESS = {
    *("abc", "collections", "dataclasses", "datetime", "enum", "hashlib", "json", "re", "typing"),
    *("urllib.parse", "weakref"),
    "ipaddress",
    "cronsim",  # computes on the values it is given; asks no clock
    "zoneinfo",  # the rules of time zones: read once, the same for everybody
}
LONGEST = 480  # lines; a longer module has become hard to explain


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """The part of the package that a module belongs to: usually the top-level one."""
    return _part([name.removesuffix(".py") for name in path.relative_to(PACKAGE).parts])


def _part(names: list[str]) -> str:
    dotted = ".".join(names[:2])
    return dotted if dotted in LEVEL else names[0]


def imported(source: str) -> set[str]:
    """Full names of everything that *source* imports, lazily or not."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module in ("reconciler", "reconciler.cli"):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own(names: set[str]) -> set[str]:
    """The parts of our package among imported names."""
    parts = {_part(name.split(".")[1:]) for name in names if name.startswith("reconciler.")}
    return parts & LEVEL.keys()


def upwards(path: Path, source: str) -> set[str]:
    """Parts that this module must not import."""
    here = part(path)
    if here == "__init__":
        return own(imported(source))
    found = own(imported(source)) - {here}
    bad = {name for name in found if LEVEL[name] > LEVEL[here]}
    for edge, strangers in STRANGERS:
        if here == edge:
            bad |= found & strangers
    return bad


def impure(source: str) -> set[str]:
    """What a pure module must not import."""
    outside = {name for name in imported(source) if name.split(".")[0] != "reconciler"}
    return {name for name in outside if name not in HARMLESS and name.split(".")[0] not in HARMLESS}


def test_every_module_has_a_place() -> None:
    assert {part(path) for path in modules()} - {"__init__"} == set(LEVEL)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    assert upwards(path, path.read_text("utf-8")) == set()


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_import_no_clock_no_io_no_logging(name: str) -> None:
    source = (PACKAGE / f"{name.replace('.', '/')}.py").read_text("utf-8")

    assert impure(source) == set()
    assert own(imported(source)) <= PURE | {"secrets"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_has_become_hard_to_explain(path: Path) -> None:
    text = path.read_text("utf-8")

    assert len(text.splitlines()) <= LONGEST
    assert not text or text.startswith('"""'), "says what it is for"


def test_only_edges_know_socketio_hvac_and_ccxt() -> None:
    users: dict[str, set[str]] = {name: set() for name in ("socketio", "engineio", "hvac", "ccxt")}
    for path in modules():
        for name in imported(path.read_text("utf-8")):
            if name.split(".")[0] in users:
                users[name.split(".")[0]].add(part(path))

    assert users["socketio"] <= {"drivers", "sandbox"}
    assert users["engineio"] <= {"drivers", "sandbox"}
    assert users["hvac"] <= {"secrets", "sandbox"}
    assert users["ccxt"] <= {"exchanges"}


def declared() -> set[str]:
    """Import names of the distributions that pyproject.toml asks for, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(name for names in extras for name in names)]
    names = {re.split(r"[><=]", want)[0].replace("-", "_") for want in wanted}
    called = {"pyyaml": "yaml", "ruamel.yaml": "ruamel"}
    return {called.get(name, name).removeprefix("python_") for name in names}


def test_what_is_imported_is_declared() -> None:
    found = {name.split(".")[0] for path in modules() for name in imported(path.read_text("utf-8"))}

    assert found - set(sys.stdlib_module_names) - {"reconciler"} <= declared()


def test_positive_control_an_upward_and_an_impure_import_are_seen() -> None:
    upward = "from reconciler.apply import apply_all"
    stranger = "from reconciler.ledger.book import Ledger"

    assert upwards(PACKAGE / "plan.py", upward) == {"apply"}
    assert upwards(PACKAGE / "drivers" / "wire.py", stranger) == {"ledger"}
    assert impure("import time\nimport logging\nfrom pathlib import Path") == {
        "time",
        "logging",
        "pathlib",
    }


def test_no_credential_module_can_name_a_one_shot() -> None:
    """Deciding about credentials cannot lead to a reboot: the words are not there to be said."""
    for name in ("diff", "consequences", "lines", "resolve"):
        tree = ast.parse((PACKAGE / f"{name}.py").read_text("utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

        assert not {n for n in names if "invalidat" in n.lower()}
        assert {n for n in names if "reboot" in n.lower()} <= {"REBOOT", "reboot"}
