"""The locks hold all that pyproject.toml asks for, and a hash of everything."""

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.locks import NAMES, ROOT, Entry, entries

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
# What a file of locks/ is for, as pyproject.toml has it; it is installed with those before it.
WANTED = {
    "build": [*PROJECT["dependency-groups"]["build"], *PROJECT["build-system"]["requires"]],
    "run": PROJECT["project"]["dependencies"],
    "sandbox": PROJECT["project"]["optional-dependencies"]["sandbox"],
    "dev": [
        *(
            one
            for name, group in PROJECT["dependency-groups"].items()
            if name != "docs"
            for one in group
        ),
        *(one for extra in PROJECT["project"]["optional-dependencies"].values() for one in extra),
    ],
    "docs": PROJECT["dependency-groups"]["docs"],
}
EVERY = (*NAMES, "docs")


def missing(wanted: list[Any], locked: set[Entry]) -> Iterator[str]:
    """The requirements for which no lock has a version that will do."""
    versions = {one.name: one.version for one in locked}
    for text in wanted:
        if isinstance(text, str):  # groups include groups
            one = Requirement(text)
            version = versions.get(canonicalize_name(one.name))
            if version is None or not one.specifier.contains(version):
                yield text


@pytest.mark.parametrize("name", EVERY)
def test_a_lock_holds_what_it_is_for(name: str) -> None:
    before = {"sandbox": ["run", "sandbox"], "dev": NAMES, "docs": EVERY}

    assert list(missing(WANTED[name], entries(*before.get(name, [name])))) == []


def test_positive_control_what_no_lock_holds_is_noticed() -> None:
    (certifi,) = (one for one in entries("run") if one.name == "certifi")

    assert list(missing(["certifi", "certifi>=9999", "Nobody_Has.This"], {certifi})) == [
        "certifi>=9999",
        "Nobody_Has.This",
    ]


def test_every_package_has_hashes_and_one_version() -> None:
    found = entries()

    assert len(found) > 70
    assert all(one.hashes for one in entries(*EVERY))
    assert len({one.name for one in found}) == len(found)


def test_what_is_installed_together_names_nothing_twice() -> None:
    run, sandbox, dev = (entries(name) for name in ("run", "sandbox", "dev"))

    assert not run & sandbox
    assert not dev & (run | sandbox | entries("build"))
    assert not entries("docs") & entries(*NAMES)
