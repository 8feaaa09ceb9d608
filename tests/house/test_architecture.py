"""The architecture is a test: imports point downwards, pure modules touch nothing."""

import ast
import graphlib
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "reconciler"

# The rooms from the ground up.  A file imports from its own room and from rooms above it in this
# table, never from one below; rooms of one line are strangers and do not know one another.
ROOMS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("model",),  # values only
    ("system",),  # what we ask of the operating system
    ("documents",),  # YAML text -> DesiredState
    ("policy",),  # the operator's policy: who may what
    ("settings",),  # the operator's settings -> Settings
    ("secrets", "drivers", "exchanges", "ledger"),  # the edges
    ("plan",),  # decide
    ("observe",),  # look
    ("apply",),  # act
    ("reconcile",),  # one pass
    ("render",),  # values -> text, JSON, Markdown
    ("notifications", "ci"),
    ("bootstrap",),
    ("controller",),
    ("doctor",),
    ("sandbox",),
    ("cli",),
    ("testing",),  # for those who extend: nothing imports it
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
PURE = (
    *(
        "errors.py",
        "model/*.py",
        "plan/*.py",
        "plan/explain/*.py",
        "documents/tree.py",
        "exchanges/judge/*.py",
    ),
    *("exchanges/adapter.py", "exchanges/classify.py", "exchanges/parse.py"),
    "exchanges/shapes.py",
    *("system/timeouts.py", "ledger/codec/rows.py", "policy/model.py"),
    *("ledger/request_state.py", "ledger/exchange_state.py"),
    *("controller/conditions.py", "controller/events.py", "controller/guidance.py"),
    "controller/status.py",
    *("controller/pass_result.py", "controller/requeue.py"),
    *("notifications/deduplicate.py", "notifications/events.py", "notifications/queue.py"),
    *("doctor/findings.py", "doctor/vault.py", "doctor/server.py"),
)
HARMLESS = {
    *("abc", "collections", "dataclasses", "datetime", "enum", "hashlib", "hmac", "itertools"),
    *("difflib", "functools", "json", "math", "re", "typing", "urllib.parse", "weakref"),
    *("base64", "binascii", "ipaddress"),
    "cryptography",  # says whether a private key that it is given can be read
    "msgspec",  # what values are made of
    "cronsim",  # computes on the values it is given; asks no clock
    "zoneinfo",  # the rules of time zones: read once, the same for everybody
}
LONGEST = 480  # lines; a longer module has become hard to explain


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The room of a file: a folder at the top, or a file that stands there by itself."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(source: str) -> set[str]:
    """Full names of everything that *source* imports, lazily or not, by a string or not."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module.split(".")[0] == "reconciler":
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif (name := by_name(node)) is not None:
            text = name.values[0] if isinstance(name, ast.JoinedStr) else name
            if isinstance(text, ast.Constant):
                names.add(str(text.value).rstrip("."))
    return names


def by_name(node: ast.AST) -> ast.expr | None:
    """The name that a call imports a module by; None for whatever imports none this way."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    called = ast.unparse(node.func).rpartition(".")[2]
    return node.args[0] if called in ("import_module", "__import__") else None


def unsaid(source: str) -> list[str]:
    """
    What *source* imports by names that do not say from which room.

    A name says so that begins with a room of ours, or with the `__name__` of a module, which is the
    source itself or was imported to be asked: so registries find the files of their own room.
    """
    names = [ast.unparse(name) for node in ast.walk(ast.parse(source)) if (name := by_name(node))]
    plain = re.compile(r"f?'(?:[\w.]*'|reconciler\.\w+\.|\{(?:\w+\.)?__name__\}\.)")
    return [name for name in names if not plain.match(name.replace('"', "'"))]


def rooms(names: set[str]) -> set[str]:
    """The rooms of our package among imported names."""
    return {name.split(".")[1] for name in names if name.startswith("reconciler.")} & LEVEL.keys()


def upwards(path: Path, source: str) -> set[str]:
    """Rooms that this file must not import from."""
    here = room_of(path)
    return {
        room
        for room in rooms(imported(source)) - {here}
        if here != "__init__" and LEVEL[room] >= LEVEL[here]
    }


def impure(source: str) -> set[str]:
    """What a pure module must not import."""
    outside = {name for name in imported(source) if name.split(".")[0] != "reconciler"}
    return {name for name in outside if name not in HARMLESS and name.split(".")[0] not in HARMLESS}


def file_of(name: str) -> Path | None:
    """The file that an imported name is, or is defined in."""
    parts = name.split(".")[1:]
    for path in (
        PACKAGE.joinpath(*parts).with_suffix(".py"),
        PACKAGE.joinpath(*parts, "__init__.py"),
    ):
        if parts and path.is_file():
            return path
    return None


def neighbours(source: str) -> set[Path]:
    """The files that *source* names in its imports."""
    return {
        path
        for name in imported(source)
        if name.startswith("reconciler.") and (path := file_of(name))
    }


def circle(files: Mapping[Path, set[Path]]) -> list[str]:
    """Files that import each other, however indirectly; empty when there are none."""
    try:
        graphlib.TopologicalSorter(files).prepare()
    except graphlib.CycleError as error:
        return [str(path.relative_to(PACKAGE)) for path in error.args[1]]
    return []


def pure_files() -> list[Path]:
    return sorted({path for pattern in PURE for path in PACKAGE.glob(pattern)})


def test_the_top_of_the_package_is_its_rooms() -> None:
    top = {
        path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.name != "__pycache__"
    }

    assert top - {"__init__", "py.typed"} == set(LEVEL)


def test_imports_point_to_the_ground() -> None:
    found = {path: upwards(path, path.read_text("utf-8")) for path in modules()}

    assert {path: up for path, up in found.items() if up} == {}


def test_a_name_to_import_by_begins_with_its_room() -> None:
    found = [path for path in modules() if unsaid(path.read_text("utf-8"))]

    assert found == [PACKAGE / "cli/commands.py"], "groups are told their package, also of `cli`"


def test_no_files_import_each_other() -> None:
    assert circle({path: neighbours(path.read_text("utf-8")) - {path} for path in modules()}) == []


def test_positive_control_a_circle_is_seen() -> None:
    one, two, three = (PACKAGE / "plan" / name for name in ("a.py", "b.py", "c.py"))

    assert set(circle({one: {two}, two: {three}, three: {one}})) == {
        "plan/a.py",
        "plan/b.py",
        "plan/c.py",
    }
    assert circle({one: {two, three}, two: {three}}) == []
    assert neighbours("from reconciler.errors import Exit") == {PACKAGE / "errors.py"}


@pytest.mark.parametrize("path", pure_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_modules_import_no_clock_no_io_no_logging(path: Path) -> None:
    source = path.read_text("utf-8")

    assert impure(source) == set()
    assert neighbours(source) <= {*pure_files(), *PACKAGE.glob("*/__init__.py")}


def test_every_pure_pattern_finds_files() -> None:
    assert [pattern for pattern in PURE if not list(PACKAGE.glob(pattern))] == []


def test_no_module_has_become_hard_to_explain() -> None:
    texts = {path: path.read_text("utf-8") for path in modules()}

    assert [path for path, text in texts.items() if len(text.splitlines()) > LONGEST] == []
    silent = [path for path, text in texts.items() if text and not text.startswith('"""')]
    assert silent == [], "a module says what it is for"


def test_aiohttp_comes_from_one_place() -> None:
    """Where it is imported first, it makes two TLS contexts that nobody uses."""
    users = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if re.search(r"^ *import aiohttp$", path.read_text("utf-8"), re.MULTILINE)
    }

    assert users == {"system/http.py"}


def test_only_edges_know_socketio_hvac_and_ccxt() -> None:
    users: dict[str, set[str]] = {name: set() for name in ("socketio", "engineio", "hvac", "ccxt")}
    for path in modules():
        for name in imported(path.read_text("utf-8")):
            if name.split(".")[0] in users:
                users[name.split(".")[0]].add(room_of(path))

    assert users["socketio"] <= {"sandbox"}
    assert users["engineio"] <= {"sandbox"}
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
    upward = "from reconciler.apply.robots import Robots"
    stranger = "from reconciler.ledger.ledger import Ledger"

    assert upwards(PACKAGE / "plan.py", upward) == {"apply"}
    assert upwards(PACKAGE / "drivers" / "wire.py", stranger) == {"ledger"}
    assert impure("import time\nimport logging\nfrom pathlib import Path") == {
        "time",
        "logging",
        "pathlib",
    }


@pytest.mark.parametrize(
    ("call", "up"),
    [
        ('importlib.import_module("reconciler.notifications.senders")', {"notifications"}),
        ('import_module(f"reconciler.apply.{name}").Robots', {"apply"}),
        ('__import__("reconciler.cli")', {"cli"}),
        ('import_module("reconciler.model.plan")', set()),
        ('import_module(f"{__name__}.{kind}")', set()),
    ],
)
def test_positive_control_an_upward_import_by_name_is_seen(call: str, up: set[str]) -> None:
    assert upwards(PACKAGE / "settings" / "notifications.py", f"x = {call}") == up
    assert unsaid(call) == []


@pytest.mark.parametrize("name", ["kind", 'f"{kind}.senders"', 'f"reconciler.{kind}"'])
def test_positive_control_a_name_that_does_not_say_its_room_is_seen(name: str) -> None:
    assert unsaid(f"import_module({name})") == [name.replace('"', "'")]


def test_no_credential_module_can_name_a_one_shot() -> None:
    """Deciding about credentials cannot lead to a reboot: the words are not there to be said."""
    for name in ("plan/compare", "plan/consequences", "plan/exchange", "observe/resolver"):
        tree = ast.parse((PACKAGE / f"{name}.py").read_text("utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

        assert not {n for n in names if "invalidat" in n.lower()}
        assert {n for n in names if "reboot" in n.lower()} <= {"REBOOT", "reboot"}


# ── sending ──────────────────────────────────────────────────────────────────────────────────

SENDS = {"save", "delete", "stop", "start", "invalidate", "reboot"}


def is_send(node: ast.AST) -> bool:
    """Whether this is a call of a session's method that changes the server."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in SENDS
        and ast.unparse(node.func.value).rpartition(".")[2].lstrip("_") == "session"
    )


def unguarded(source: str) -> list[str]:
    """The sends of a file that do not directly follow a call of `may_still`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for body in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if not isinstance(body, list):
                continue
            for before, statement in zip([None, *body], body, strict=False):
                simple = isinstance(statement, ast.Expr | ast.Return | ast.Assign)
                if not simple or not any(map(is_send, ast.walk(statement))):
                    continue
                if before is None or not ast.unparse(before).startswith("may_still("):
                    found.append(ast.unparse(statement))
    return found


def test_only_one_module_sends_and_looks_once_more_before_each_send() -> None:
    senders = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if room_of(path) != "testing"
        and any(map(is_send, ast.walk(ast.parse(path.read_text("utf-8")))))
    }
    source = (PACKAGE / "apply" / "send.py").read_text("utf-8")

    assert senders == {"apply/send.py"}
    assert sum(map(is_send, ast.walk(ast.parse(source)))) == len(SENDS)
    assert unguarded(source) == []


def test_positive_control_an_unguarded_send_is_seen() -> None:
    good = "async def f(e):\n    may_still(e)\n    await e.session.reboot()\n"
    late = "async def f(e):\n    may_still(e)\n    await g()\n    await e.session.reboot()\n"
    none = "async def f(e):\n    if e:\n        await e.session.stop(1)\n"

    assert unguarded(good) == []
    assert unguarded(late) == ["await e.session.reboot()"]
    assert unguarded(none) == ["await e.session.stop(1)"]


def test_no_decision_compares_the_text_of_a_message() -> None:
    """What is shown to people may be worded anew at any time."""

    def prose(node: ast.expr) -> bool:
        return isinstance(node, ast.Attribute) and node.attr in {"what", "remedy", "why", "detail"}

    found = [
        f"{path.relative_to(PACKAGE)}: {ast.unparse(node)}"
        for path in modules()
        if room_of(path) != "testing"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Compare)
        and any(map(prose, (node.left, *node.comparators)))
        and any(
            isinstance(one, ast.Constant) and one.value for one in (node.left, *node.comparators)
        )
    ]

    assert found == []
