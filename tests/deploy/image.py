"""
Builds what our Dockerfile says, without an engine: each instruction is carried out in a clean root.

The packages come from a folder of wheels, so that a build needs no network of its own.
"""

import fnmatch
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.clean import CleanRoot, Mount
from tests.deploy.dockerfile import Instruction, Stage, parse
from tests.deploy.tools import DEPLOY, ROOT

USER = 65532
BASE = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"}
WHEELS = "/wheels"


def stages() -> list[Stage]:
    """Our Dockerfile."""
    return parse((DEPLOY / "docker" / "Dockerfile").read_text("utf-8"))


def context() -> list[Path]:
    """What `.dockerignore` lets into the build."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    return [path for path in _files() if _allowed(str(path.relative_to(ROOT)), rules)]


def _files() -> Iterator[Path]:
    for top in sorted(ROOT.iterdir()):
        if top.is_file():
            yield top
        elif top.name != ".git" and not top.name.startswith(".venv"):
            yield from (path for path in sorted(top.rglob("*")) if path.is_file())


def _allowed(name: str, rules: list[str]) -> bool:
    """The last rule that fits counts; a rule fits what lies below it, too."""
    parts = name.split("/")
    allowed = True
    for rule in rules:
        pattern = rule.removeprefix("!").removesuffix("/**")
        prefixes = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        if pattern.startswith("**/"):
            fits = any(fnmatch.fnmatch(part, pattern[3:]) for part in parts)
        else:
            fits = any("/" not in one and fnmatch.fnmatch(one, pattern) for one in prefixes)
        if fits:
            allowed = rule.startswith("!")
    return allowed


def wheelhouse(folder: Path) -> Path:
    """Fetch all that a build installs: the files of the locks."""
    locks = [f"--requirement={ROOT / 'locks' / name}" for name in ("build.txt", "run.txt")]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:"),
            *("--require-hashes", "--dest", str(folder), *locks),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=240,
        check=True,
    )
    return folder


class Image:
    """What a build left: the last stage's tree, variables and commands."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self._trees: dict[str, CleanRoot] = {}
        self._environment: dict[str, str] = {}
        self._cwd = "/"
        for number, stage in enumerate(stages()):
            self.tree = CleanRoot(folder / str(number), [Mount(wheels, WHEELS)])
            self._trees[stage.name] = self.tree
            self._environment, self._cwd = dict(BASE), "/"
            for instruction in stage.instructions:
                self._carry_out(instruction)
        self.last = stage
        self.tree.mounts.clear()
        self.environment = self._environment
        self.cwd = self._cwd

    def _carry_out(self, one: Instruction) -> None:
        match one.name:
            case "RUN":
                offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": WHEELS}
                environment = self._environment | offline
                self.tree.run(["/bin/sh", "-c", one.rest], environment, cwd=self._cwd)
            case "ENV":
                self._environment |= dict(word.split("=", 1) for word in one.words)
            case "WORKDIR":
                self._cwd = one.rest
                self.tree.path(self._cwd).mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(one)
            case "USER":
                assert one.rest == f"{USER}:{USER}"
            case "LABEL" | "VOLUME" | "EXPOSE" | "STOPSIGNAL":
                pass
            case "HEALTHCHECK" | "ENTRYPOINT" | "CMD":
                pass  # read by the tests
            case name:
                raise AssertionError(f"nobody carries out {name}")

    def _copy(self, one: Instruction) -> None:
        *sources, target = one.words
        origin = self._trees.get(one.flags.get("from", ""))
        for source in sources:
            place = self.tree.path(str(Path(self._cwd) / target))
            if origin is not None:
                shutil.copytree(origin.path(source), place, symlinks=True)
            elif (ROOT / source).is_dir():
                inside = [path for path in context() if path.is_relative_to(ROOT / source)]
                assert inside, f"{source} is not in the build's context"
                for path in inside:
                    copy = place / path.relative_to(ROOT / source)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, copy)
            else:
                assert ROOT / source in context(), f"{source} is not in the build's context"
                shutil.copy(ROOT / source, place)
        if owner := one.flags.get("chown"):
            user, _, group = owner.partition(":")
            shutil.chown(place, int(user), int(group))
