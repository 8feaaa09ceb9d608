"""
Write a software bill of materials: what locks/ names, as CycloneDX JSON, to standard output.

`make sbom` runs this in .venv.  Versions and hashes are those of the locks; licences, and what
needs what, are read from the packages that are installed there.  The same installation gives the
same bytes: no time of its making, no number of its own.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parent.parent
OURS: Final = "jt-reconciler"
# What a file of locks/ is to somebody who runs `jtr`.  Excluded: a tool, never shipped.
SCOPES: Final = {
    "run": ComponentScope.REQUIRED,
    "sandbox": ComponentScope.OPTIONAL,
    "build": ComponentScope.EXCLUDED,
    "dev": ComponentScope.EXCLUDED,
}
_ENTRY: Final = re.compile(r"^([a-z0-9-]+)==([^ ;]+)(.*(?:\n[ ]+.*)*)", re.MULTILINE)
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Locked:
    """A package of a lock, with the SHA-256 of every file of its release."""

    name: str
    version: str
    lock: str
    hashes: tuple[str, ...]

    @property
    def purl(self) -> PackageURL:
        return PackageURL("pypi", name=self.name, version=self.version)


def locked(folder: Path) -> Iterator[Locked]:
    """What the files of *folder* name; of one that stands in two the first file counts."""
    seen: set[str] = set()
    for lock in SCOPES:
        text = (folder / f"{lock}.txt").read_text("utf-8")
        for name, version, rest in _ENTRY.findall(text):
            if name not in seen:
                seen.add(name)
                yield Locked(name, version, lock, tuple(_HASH.findall(rest)))


def installed(name: str, version: str) -> Distribution | None:
    """A package as it is installed; None when it is not, or in another version."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    return found if found.version == version else None


def licences(found: Distribution) -> Iterator[License]:
    """
    What a package says of its licence: an expression, a short text, or classifiers.

    One that says nothing there has at least the title of the file that its licence stands in.
    """
    said = found.metadata
    classified = [one for one in said.get_all("Classifier") or () if one.startswith("License :: ")]
    texts = said.get_all("License-Expression") or said.get_all("License") or ()
    short = [text for text in texts if text and "\n" not in text]
    titles = (
        one.read_text("utf-8").lstrip().partition("\n")[0]
        for one in found.files or ()
        if ".dist-info" in one.parts[0] and one.name in (said.get_all("License-File") or ())
    )
    for text in short or sorted(one.split(" :: ")[-1] for one in classified) or titles:
        yield LicenseFactory().make_from_string(text)


def needs(found: Distribution) -> set[str]:
    """The names of what a package needs here, without its extras."""
    wanted = [Requirement(text) for text in found.requires or ()]
    return {
        canonicalize_name(one.name)
        for one in wanted
        if one.marker is None or one.marker.evaluate({"extra": ""})
    }


def bill(folder: Path) -> dict[str, Any]:
    """The bill of what *folder* names, as a JSON document of CycloneDX 1.6."""
    ours = distribution(OURS)
    root = Component(
        name=OURS,
        version=ours.version,
        type=ComponentType.APPLICATION,
        bom_ref=OURS,
        purl=PackageURL("pypi", name=OURS, version=ours.version),
        licenses=licences(ours),
    )
    bom = Bom()
    bom.metadata.component = root
    made: dict[str, Component] = {}
    required = {OURS: needs(ours)}
    for one in locked(folder):
        found = installed(one.name, one.version)
        if found is not None:
            required[one.name] = needs(found)
        made[one.name] = Component(
            name=one.name,
            version=one.version,
            scope=SCOPES[one.lock],
            bom_ref=str(one.purl),
            purl=one.purl,
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=text) for text in one.hashes],
            licenses=() if found is None else licences(found),
        )
        bom.components.add(made[one.name])
    for name, component in ({OURS: root} | made).items():
        below = sorted(required.get(name, set()) & set(made))
        bom.register_dependency(component, [made[one] for one in below])
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["serialNumber"], document["metadata"]["timestamp"]
    return document


def main() -> None:
    """Print the bill, and to standard error what it says no licence of."""
    document = bill(ROOT / "locks")
    sys.stdout.write(json.dumps(document, indent=2, sort_keys=True) + "\n")
    if unknown := [one["name"] for one in document["components"] if "licenses" not in one]:
        sys.stderr.write(f"not installed here, so without a licence: {', '.join(unknown)}\n")


if __name__ == "__main__":
    main()
