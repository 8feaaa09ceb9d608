"""Reads a systemd unit, as far as ours go: lists of values by section and name."""

import shlex
from pathlib import Path


class Unit:
    """A unit file; an empty value clears nothing here, because ours have none to clear."""

    def __init__(self, path: Path) -> None:
        self._values: dict[tuple[str, str], list[str]] = {}
        section = ""
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            elif line and not line.startswith("#"):
                name, _, value = line.partition("=")
                self._values.setdefault((section, name), []).append(value)

    def all(self, name: str, section: str = "Service") -> list[str]:
        """Every value of a name."""
        return self._values.get((section, name), [])

    def get(self, name: str, section: str = "Service") -> str:
        """The one value of a name."""
        (value,) = self.all(name, section)
        return value

    def environment(self, specifiers: dict[str, str]) -> dict[str, str]:
        """What `Environment=` sets, with specifiers such as `%S` replaced."""
        found = {}
        for pair in self.all("Environment"):
            name, _, value = pair.partition("=")
            for specifier, meaning in specifiers.items():
                value = value.replace(specifier, meaning)
            found[name] = value
        return found

    def command(self) -> list[str]:
        """The words of `ExecStart=`."""
        return shlex.split(self.get("ExecStart"))
