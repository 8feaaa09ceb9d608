"""Reads a Dockerfile, as far as ours goes: instructions by stage."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; `flags` are its `--name=value` words, `rest` what follows them."""

    name: str
    flags: dict[str, str]
    rest: str

    @property
    def words(self) -> list[str]:
        """What follows the flags, in words."""
        return shlex.split(self.rest)

    @property
    def command(self) -> list[str]:
        """What follows the flags, in exec form.  Raises ValueError in shell form."""
        value = json.loads(self.rest)
        assert isinstance(value, list)
        return [str(word) for word in value]


@dataclass(slots=True)
class Stage:
    """A stage and its instructions; `base` is what it begins with."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        """All instructions of a name."""
        return [one for one in self.instructions if one.name == name]

    def last(self, name: str) -> Instruction:
        """The last instruction of a name: the one that counts."""
        return self.all(name)[-1]

    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        pairs = [word.partition("=") for one in self.all("ENV") for word in one.words]
        return {name: value for name, _, value in pairs}


def parse(text: str) -> list[Stage]:
    """Read all stages; ARG before the first FROM is put in."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in _lines(text):
        name, _, rest = line.partition(" ")
        flags: dict[str, str] = {}
        rest = rest.strip()
        while found := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            flags[found[1]] = found[2]
            rest = rest[found.end() :]
        if name == "ARG" and not stages:
            key, _, value = rest.partition("=")
            arguments[key] = value
        elif name == "FROM":
            base, _, label = rest.partition(" AS ")
            for key, value in arguments.items():
                base = base.replace(f"${{{key}}}", value)
            stages.append(Stage(base, label))
        else:
            stages[-1].instructions.append(Instruction(name, flags, rest))
    return stages


def _lines(text: str) -> Iterator[str]:
    kept = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(kept)).splitlines():
        yield re.sub(r"\s+", " ", line).strip()
