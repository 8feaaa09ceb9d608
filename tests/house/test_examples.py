"""The examples are valid and complete, the schemas explain themselves, and JSON is ASCII."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from reconciler.bootstrap import load_settings
from reconciler.documents.load import load
from reconciler.policy.load import load_policy
from tests.support.rig import Rig

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
OPERATORS = ("settings.yaml", "policy.yaml")
DESIRED = sorted(path for path in EXAMPLES.glob("*.yaml") if path.name not in OPERATORS)
POLICIES = [EXAMPLES / "policy.yaml", *sorted((EXAMPLES / "policies").glob("*.yaml"))]
SCHEMAS = sorted((ROOT / "schemas").glob("*.schema.json"))
HOSTILE = "gríd-btc \u202e\x1b[31m 漢字"


def schema(name: str) -> dict[str, Any]:
    """Return a schema as JSON values."""
    found = json.loads((ROOT / "schemas" / f"{name}.schema.json").read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def properties(node: Any, path: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield place, name and schema of every property below *node*."""
    if isinstance(node, dict):
        known = node.get("properties")
        # The condition of an `if` repeats a property that is described where it is declared.
        if isinstance(known, dict) and not path.endswith("/if"):
            for name, about in known.items():
                if isinstance(about, dict):
                    yield f"{path}/{name}", name, about
        for key, value in node.items():
            yield from properties(value, f"{path}/{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from properties(value, f"{path}/{number}")


def keys(node: Any) -> set[str]:
    """Every key of a document, at any depth."""
    if isinstance(node, dict):
        return set(node) | {key for value in node.values() for key in keys(value)}
    if isinstance(node, list):
        return {key for value in node for key in keys(value)}
    return set()


def missing(whole: Any, shown: list[Any]) -> set[str]:
    """
    Names of properties of a schema that no document shows.

    No exchange asks for every field, and codes of exchanges are there for editors only.
    """
    wanted = {
        name
        for place, name, _ in properties(whole)
        if "/$defs/credentials" not in place and "/exchanges/" not in place
    }
    return wanted - set().union(*map(keys, shown))


def undescribed(whole: dict[str, Any]) -> list[str]:
    """Places of properties that say nothing of themselves, nor what they refer to."""
    silent = []
    for place, _, about in properties(whole):
        while "$ref" in about and "description" not in about:
            about = whole["$defs"][about["$ref"].removeprefix("#/$defs/")]  # noqa: PLW2901
        if not about.get("description"):
            silent.append(place)
    return silent


# ── examples ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", DESIRED, ids=lambda path: path.name)
def test_an_example_is_valid(path: Path) -> None:
    assert load((str(path),)).state.servers


def test_the_smallest_example_is_small() -> None:
    lines = (EXAMPLES / "minimal.yaml").read_text("utf-8").splitlines()

    assert len([line for line in lines if line and not line.startswith("#")]) <= 7


def test_the_large_example_shows_every_property() -> None:
    text = (EXAMPLES / "config.yaml").read_text("utf-8")

    assert missing(schema("config"), list(yaml.safe_load_all(text))) == set()


def test_the_settings_example_loads() -> None:
    found = load_settings(str(EXAMPLES / "settings.yaml"), {}, (), in_repo_allowed=True)

    assert found.vault.address == "https://vault.internal:8200"
    assert found.policy.speaks


def test_the_policy_example_shows_every_property() -> None:
    text = (EXAMPLES / "policy.yaml").read_text("utf-8")

    assert missing(schema("policy"), [yaml.safe_load(text)]) == set()


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_a_policy_example_loads(path: Path) -> None:
    assert load_policy(str(path)).rules


def test_the_settings_example_shows_every_section() -> None:
    shown = yaml.safe_load((EXAMPLES / "settings.yaml").read_text("utf-8"))

    assert set(schema("settings")["properties"]) - set(shown) == {"allow"}  # or policy


def test_positive_control_what_is_missing_or_silent_is_seen() -> None:
    whole = schema("config")
    whole["$defs"]["server"]["properties"]["novel"] = {"type": "string"}
    text = (EXAMPLES / "config.yaml").read_text("utf-8")

    assert missing(whole, list(yaml.safe_load_all(text))) == {"novel"}
    assert undescribed(whole) == ["/$defs/server/novel"]


# ── schemas ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_a_schema_fits_the_metaschema_and_explains_every_property(path: Path) -> None:
    whole = json.loads(path.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(whole)

    assert whole["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert whole["title"]
    assert whole["description"]
    assert len(list(properties(whole))) > 20
    assert undescribed(whole) == []


@pytest.mark.parametrize("name", ["config", "settings", "policy"])
def test_properties_of_what_people_write_have_titles_for_their_editor(name: str) -> None:
    whole = schema(name)

    assert [
        place for place, _, about in properties(whole) if not {"title", "$ref"} & about.keys()
    ] == []


# ── JSON for programs ────────────────────────────────────────────────────────────────────────


def test_json_of_every_command_is_ascii_and_fits_its_schema(rig: Rig) -> None:
    """A name of a robot or an owner may hold anything; a pipe in a C locale must survive it."""
    server = rig.server()
    server.server._state.robots[0].name = HOSTILE
    metadata = {"name": "tokyo-1", "owner": "bureau-übersee"}
    path = rig.document("tokyo-1", "bybit")
    document = yaml.safe_load(path.read_text("utf-8")) | {"metadata": metadata}
    path.write_text(yaml.safe_dump(document, allow_unicode=True), "utf-8")
    rig.begin()
    plan = rig.plan("-o", "json")
    applied = rig.apply("-o", "json")
    status = rig.jtr("status", "-o", "json")
    live = rig.jtr("status", "--live", "--from", str(rig.docs), "-o", "json")

    validator = jsonschema.Draft202012Validator(schema("plan"))
    for ran in (plan, applied, status, live):
        assert ran.code == 0, ran.text
        assert ran.out.isascii()
        assert "bureau" in ran.out or ran is status
        assert HOSTILE in json.dumps(json.loads(ran.out), ensure_ascii=False).replace(
            "\\u001b", "\x1b"
        )
        if ran is not status:
            validator.validate(json.loads(ran.out))
