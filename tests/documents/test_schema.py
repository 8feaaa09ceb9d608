"""The schemas themselves: complete for editors, portable, quick to judge."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from docs.make import PAGES
from reconciler.documents import formats, schema
from reconciler.documents.load import load
from reconciler.documents.tree import plain
from reconciler.documents.yaml_reader import parse
from reconciler.errors import InvalidConfig
from reconciler.system.timeouts import Timeouts

ROOT = Path(__file__).parents[2]
NAMES = (schema.CONFIG, schema.SETTINGS)
# A subset that editors and both validators understand alike.
PORTABLE = {
    *("$schema", "$id", "$ref", "$defs", "title", "description", "examples", "default"),
    *("type", "enum", "const", "pattern", "patternErrorMessage", "properties", "required"),
    *("additionalProperties", "propertyNames", "items", "if", "then", "else"),
    *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems"),
    *("minProperties", "maxProperties", "minimum", "maximum"),
}


def subschemas(about: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, about
    for key in ("properties", "$defs"):
        for name, child in about.get(key, {}).items():
            yield from subschemas(child, f"{path}/{key}/{name}")
    for key in ("additionalProperties", "propertyNames", "items", "if", "then", "else"):
        if isinstance(about.get(key), Mapping):
            yield from subschemas(about[key], f"{path}/{key}")


@pytest.mark.parametrize("name", NAMES)
def test_everything_says_what_it_is(name: str) -> None:
    for path, about in subschemas(schema.document(name)):
        if "$ref" in about:
            assert set(about) == {"$ref"}, path  # old editors ignore what stands beside it
        elif "/if" not in path:
            assert about["title"], path
            assert about["description"].endswith((".", ")")), path
            assert path == "" or about["examples"], path


@pytest.mark.parametrize("name", NAMES)
def test_only_portable_keywords_are_used(name: str) -> None:
    for path, about in subschemas(schema.document(name)):
        assert set(about) <= PORTABLE, path
        if about.get("type") == "object":
            assert "additionalProperties" in about or path == "", path
        if "pattern" in about:
            assert about["pattern"].startswith("^"), path
            assert about["pattern"].endswith("$"), path
            assert "patternErrorMessage" in about, path


@pytest.mark.parametrize("name", NAMES)
def test_every_example_and_default_fits(name: str) -> None:
    whole = schema.document(name)
    validator = schema.worded_validator(name)
    judged = 0
    for path, about in subschemas(whole):
        if "type" not in about:
            continue
        one = validator.evolve(schema={"$defs": whole.get("$defs", {}), **about})
        for example in (
            *about.get("examples", ()),
            *([about["default"]] if "default" in about else ()),
        ):
            assert one.is_valid(example), f"{path}: {example}"
            judged += 1

    assert judged > 40


def test_the_schemas_are_schemas() -> None:
    for name in NAMES:
        validator = schema.worded_validator(name)
        validator.check_schema(schema.document(name))


def test_the_patterns_are_those_of_the_code() -> None:
    definitions = schema.document(schema.CONFIG)["$defs"]
    patterns = {
        about["pattern"][1:-1]
        for name in NAMES
        for _, about in subschemas(schema.document(name))
        if about.get("patternErrorMessage", "").startswith("a duration")
    }

    assert {formats.DURATION.pattern} == patterns
    assert formats.INSTANT.pattern == definitions["instant"]["pattern"][1:-1]
    assert formats.NAME.pattern == definitions["name"]["pattern"][1:-1]


def test_settings_know_every_duration() -> None:
    about = schema.document(schema.SETTINGS)["properties"]["durations"]["properties"]
    for each in structs.fields(Timeouts):
        first, *rest = each.name.split("_")
        for spelling in (first + "".join(map(str.title, rest)), "-".join((first, *rest))):
            assert formats.duration(about[spelling]["default"]) == each.default, spelling

    assert {re_spelt(name) for name in about} == set(Timeouts.__struct_fields__)


def re_spelt(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).replace("-", "_")


@pytest.mark.parametrize(
    "body",
    [
        "".join(f"x{i}y: 1\n" for i in range(60_000)),
        "spec: {security: {permissions: {allow: [" + "1,spot," * 90_000 + "]}}}\n",
        "spec: {exchanges: {" + ",".join(f"e{i}: {{state: x}}" for i in range(25_000)) + "}}\n",
        "spec: {url: '" + "eyJaaaaaaaaaa-" * 60_000 + "'}\n",
        "spec: {owner: '" + "vault:" + "a/" * 400_000 + "'}\n",
    ],
    ids=["unknown-keys", "mixed-list", "exchanges", "token-like", "long-text"],
)
def test_a_large_wrong_document_is_judged_soon(tmp_path: Path, body: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"apiVersion: jtr/v1\nkind: TradingServer\n{body}")
    begin = time.monotonic()

    with pytest.raises(InvalidConfig) as raised:
        load([str(path)])

    assert time.monotonic() - begin < 60
    assert len(raised.value.problems) <= 51


def test_more_than_fifty_problems_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "apiVersion: jtr/v1\nkind: Defaults\nspec: {"
        + ",".join(f"k{i}: 1" for i in range(80))
        + "}\n"
    )

    with pytest.raises(InvalidConfig) as raised:
        load([str(path)])

    assert len(raised.value.problems) == 51
    assert raised.value.problems[-1] == "... and 30 more"


def test_without_the_fast_validator_the_verdict_is_the_same() -> None:
    program = (
        "import sys; sys.modules['jsonschema_rs'] = None\n"
        "from reconciler.documents import schema\n"
        "ok = {'apiVersion': 'jtr/v1', 'kind': 'TradingServer', 'metadata': {'name': 'a'},"
        " 'spec': {'url': 'https://a.test'}}\n"
        "assert schema.valid(ok, 'config')\n"
        "assert not schema.valid({**ok, 'kind': 'x'}, 'config')\n"
        "assert not schema.valid({**ok, 'metadata': {'name': 'a' + chr(10)}}, 'config')\n"
        "print('jsonschema' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stdout.strip() == "True", done.stderr


def test_a_valid_file_costs_few_imports() -> None:
    program = (
        "import sys\n"
        "from reconciler.documents.load import load\n"
        "import reconciler.settings.load\n"
        "load(['examples/config.yaml'])\n"
        "print(*sorted(m for m in sys.modules if '.' not in m))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    loaded = set(done.stdout.split())

    assert {"yaml", "jsonschema_rs"} <= loaded, done.stderr
    assert not loaded & {
        *("jsonschema", "referencing", "attrs", "hvac", "requests", "aiohttp", "socketio"),
        *("click", "rich", "ccxt", "watchdog", "difflib", "logging", "asyncio", "sqlite3"),
    }


def test_an_installed_schema_wins_over_the_checkout(tmp_path: Path) -> None:
    package = tmp_path / "reconciler"
    for module in (ROOT / "reconciler").rglob("*.py"):
        copy = package / module.relative_to(ROOT / "reconciler")
        copy.parent.mkdir(exist_ok=True, parents=True)
        copy.write_bytes(module.read_bytes())
    (package / "_schemas").mkdir()
    (package / "_schemas" / "config.schema.json").write_text('{"title": "installed"}')
    program = "from reconciler.documents import schema; print(schema.document('config')['title'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stdout.strip() == "installed", done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_the_reference_is_fresh(page: str) -> None:
    assert (ROOT / "docs" / page).read_text("utf-8") == PAGES[page]()


def test_problems_are_empty_exactly_when_valid() -> None:
    for text in ("apiVersion: jtr/v1\nkind: Defaults\nspec: {}\n", "kind: Defaults\n", "a: b\n"):
        (root,) = parse(text.encode(), "f")
        found = schema.problems(root, schema.CONFIG)

        assert bool(found) != schema.valid(plain(root), schema.CONFIG)
