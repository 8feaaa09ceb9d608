"""
`make dev` installs what the locks name by hash, and nothing else: our Makefile, made-up packages.

The oracle is what pip left behind: a package that was refused is not there, and what would have
built another never ran.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.house.locks import NAMES, ROOT

pytestmark = [pytest.mark.timeout(600), pytest.mark.volume]

# One package a lock.  The first builds the project, and says so.
BACKEND = """
import base64, hashlib, pathlib, zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    pathlib.Path("was-built").touch()
    name = "made_up-1-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as wheel:
        for file, text in FILES.items():
            wheel.writestr(file, text)
    return name
"""


def files(name: str, code: str) -> dict[str, str]:
    """What a wheel holds."""
    info = f"{name}-1.dist-info"
    held = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{file},{digest(text)},{len(text.encode())}" for file, text in held.items()]
    return held | {f"{info}/RECORD": "\n".join([*record, f"{info}/RECORD,,", ""])}


def digest(text: str) -> str:
    """A hash as a wheel's record spells it."""
    plain = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256={plain.rstrip('=')}"


def wheel(folder: Path, name: str, code: str = "") -> str:
    """Make a wheel; returns its line in a lock."""
    path = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for file, text in files(name, code).items():
            packed.writestr(file, text)
    return f"{name}==1 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


class Checkout:
    """A project with our Makefile and a lock for each of ours, with made-up packages in them."""

    def __init__(self, folder: Path, environment: Path) -> None:
        self.folder = folder / "checkout"
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        (self.folder / "locks").mkdir(parents=True)
        # Made once, as `make` makes it, and linked: that takes longer than all the rest.
        shutil.copytree(environment, self.folder / ".venv", symlinks=True, copy_function=os.link)
        shutil.copy(ROOT / "Makefile", self.folder)
        (self.folder / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["in_build"]\nbuild-backend = "in_build"\n', "utf-8"
        )
        for name in NAMES:
            code = f"FILES = {files('made_up', '')!r}{BACKEND}" if name == "build" else ""
            self.lock(name).write_text(wheel(self.wheels, f"in_{name}", code), "utf-8")

    def lock(self, name: str) -> Path:
        return self.folder / "locks" / f"{name}.txt"

    def make(self, target: str) -> tuple[int, str]:
        """Run make without any network; returns its exit code and what it printed."""
        environment: Mapping[str, str] = {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
        }
        done = subprocess.run(
            ["make", target, f"PYTHON={sys.executable}"],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def was_built(self) -> bool:
        return (self.folder / "was-built").exists()

    @property
    def there(self) -> set[str]:
        """The made-up packages that are installed."""
        return {path.stem for path in (self.folder / ".venv").glob("lib/*/site-packages/*.py")}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing but pip, as the Makefile would have made it."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=300)
    version = ".".join(map(str, sys.version_info[:3]))
    (folder / "venv" / f"made-by-python-{version}").touch()
    return folder / "venv"


@pytest.fixture
def checkout(tmp_path: Path, environment: Path) -> Checkout:
    return Checkout(tmp_path, environment)


def test_positive_control_what_the_locks_name_is_installed(checkout: Checkout) -> None:
    code, said = checkout.make("dev")

    assert code == 0, said
    assert {f"in_{name}" for name in NAMES} | {"made_up"} <= checkout.there
    assert checkout.was_built


@pytest.mark.parametrize(
    "name", [n if n == "run" else pytest.param(n, marks=pytest.mark.long) for n in NAMES]
)
def test_t18_a_file_with_another_hash_is_refused(checkout: Checkout, name: str) -> None:
    text = checkout.lock(name).read_text("utf-8").rstrip()
    checkout.lock(name).write_text(f"{text[:-1]}{'10'[text[-1] == '1']}\n", "utf-8")

    code, said = checkout.make("dev")

    assert code != 0
    assert "DO NOT MATCH THE HASHES" in said
    assert f"in_{name}" not in checkout.there
    assert checkout.was_built == (name == "dev")


def test_t18_a_file_that_was_changed_on_its_way_is_refused(checkout: Checkout) -> None:
    wheel(checkout.wheels, "in_run", "import os  # somebody else's")

    code, said = checkout.make("install")

    assert code != 0
    assert "DO NOT MATCH THE HASHES" in said
    assert "in_run" not in checkout.there


def test_t18_a_package_without_a_hash_is_refused(checkout: Checkout) -> None:
    checkout.lock("build").write_text("in_build==1\n", "utf-8")

    code, said = checkout.make("install")

    assert code != 0
    assert "Hashes are required in --require-hashes mode" in said
    assert "in_build" not in checkout.there
    assert not checkout.was_built


def test_t18_what_builds_the_package_comes_from_the_lock_or_not_at_all(checkout: Checkout) -> None:
    other = wheel(checkout.wheels, "in_other")
    checkout.lock("build").write_text(other, "utf-8")

    code, said = checkout.make("install")

    assert code != 0, said
    assert not checkout.was_built
