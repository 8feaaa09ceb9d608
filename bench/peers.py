"""
Other tools on a like task: nothing to do on a thousand resources of theirs, and checking a file.

Theirs are local, except that Ansible and pyinfra start what they would start on a host: octoDNS
compares two folders, Terraform reads files, Ansible asserts.  Ours are exchanges, five on each of
200 servers that are visited over the network.  Run it from the repository's root:
`python -m bench.peers`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from bench.scale.__main__ import show
from bench.scale.bench import Bench, say
from bench.scale.files import write
from bench.scale.measure import ROOT, Row, Unfinished, median, run
from bench.scale.standin import Unavailable

RESOURCES: Final = 1000
VERSIONS: Final = Path(__file__).parent / "peers.txt"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jtr-bench"
BOUND: Final = 120.0


@dataclass(slots=True)
class Peer:
    """A command; *most* is how much of its time ours may take."""

    name: str
    command: Sequence[str]
    most: float
    environment: dict[str, str] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)

    def run(self, home: Path) -> None:
        """Run it once."""
        environment = {"HOME": str(home), "LC_ALL": "C.UTF-8", **self.environment}
        self.took.append(run(self.command, environment, bound=BOUND).wall)


def installed() -> Path:
    """Return the folder of the peers' commands, installed on first use.  Raises Unavailable."""
    folder = CACHE / "peers"
    stamp = folder / "installed"
    wanted = VERSIONS.read_text()
    if not stamp.is_file() or stamp.read_text() != wanted:
        say(f"installing the peers in {folder}")
        venv.create(folder, with_pip=True, clear=True)
        command = [str(folder / "bin" / "pip"), "install", "--quiet", "-r", str(VERSIONS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"the peers could not be installed:\n{done.stderr[-1000:]}")
        stamp.write_text(wanted)
    return folder / "bin"


def octodns(bin_: Path, home: Path, records: int) -> tuple[Peer, Peer]:
    """A zone in two folders; and its validation, of one record."""
    peers = []
    for count, tool in ((records, "octodns-sync"), (1, "octodns-validate")):
        top = home / tool
        zone = {f"r{number}": {"type": "A", "value": "192.0.2.1"} for number in range(count)}
        for side in ("source", "target"):
            (top / side).mkdir(parents=True)
            (top / side / "example.test.yaml").write_text(yaml.safe_dump(zone))
        provider = "octodns.provider.yaml.YamlProvider"
        config = {
            "providers": {
                side: {"class": provider, "directory": str(top / side), "enforce_order": False}
                for side in ("source", "target")
            },
            "zones": {"example.test.": {"sources": ["source"], "targets": ["target"]}},
        }
        (top / "config.yaml").write_text(yaml.safe_dump(config))
        command = [str(bin_ / tool), "--config-file", str(top / "config.yaml")]
        peers.append(Peer(tool, command, 2.5 if count > 1 else 1.0))
    return peers[0], peers[1]


def pyinfra(bin_: Path, home: Path) -> Peer:
    """Files that are there already."""
    folder = home / "pyinfra"
    folder.mkdir()
    for number in range(RESOURCES):
        (folder / f"f{number}").touch()
    deploy = folder / "deploy.py"
    deploy.write_text(
        "from pyinfra.operations import files\n"
        f"for number in range({RESOURCES}):\n"
        f"    files.file(name=str(number), path=f'{folder}/f{{number}}', present=True)\n"
    )
    command = [str(bin_ / "pyinfra"), "@local", str(deploy), "--dry", "-y"]
    return Peer("pyinfra", command, 1.0, {"PATH": f"{bin_}:{os.defpath}"})


def ansible(bin_: Path, home: Path) -> Peer:
    """Assertions: the cheapest thing that it can look at."""
    book = home / "book.yaml"
    task = {
        "ansible.builtin.assert": {"that": "item >= 0", "quiet": True},
        "loop": f"{{{{ range({RESOURCES}) | list }}}}",
    }
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}
    book.write_text(yaml.safe_dump([play]))
    command = [str(bin_ / "ansible-playbook"), "--check", "-i", "localhost,", str(book)]
    return Peer("ansible-playbook", command, 1.0, {"PATH": f"{bin_}:{os.defpath}"})


def terraform(bin_: Path, home: Path) -> Peer | None:
    """Data that a provider of its own reads from files; resources of its own where it has them."""
    path = shutil.which("terraform") or shutil.which("tofu")
    for found in bin_.parent.glob("lib/*/site-packages/terraform*/**/terraform*"):
        if path is None and found.is_file() and os.access(found, os.X_OK):
            path = str(found)
    if path is None:
        return None
    folder = home / "terraform"
    folder.mkdir()
    state = folder / "item.tfstate"
    state.write_text('{"version": 4, "serial": 1, "lineage": "x", "outputs": {}, "resources": []}')
    said = run([path, "version"], {"HOME": str(home)}, bound=BOUND).out
    version = tuple(int(part) for part in said.split()[1].strip("v").split(".")[:2])
    new = version >= (1, 4)
    (folder / "main.tf").write_text(
        f'resource "terraform_data" "item" {{\n  count = {RESOURCES}\n  input = count.index\n}}\n'
        if new
        else f'data "terraform_remote_state" "item" {{\n  count = {RESOURCES}\n'
        f'  backend = "local"\n  config = {{ path = "{state}" }}\n}}\n'
    )
    chdir = [] if not new else [f"-chdir={folder}"]
    where = [] if new else [str(folder)]
    environment = {"HOME": str(home), "CHECKPOINT_DISABLE": "1", "TF_DATA_DIR": str(folder / "d")}
    run([path, *chdir, "init", "-input=false", *where], environment, bound=BOUND)
    if new:
        run([path, *chdir, "apply", "-auto-approve", "-input=false"], environment, bound=BOUND)
    name = "terraform " + ".".join(map(str, version))
    return Peer(name, [path, *chdir, "plan", "-input=false", *where], 2.5, environment)


def main() -> int:
    """Measure all in turn, print a table, return 1 when ours is past what it may take."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-limit", action="store_true", help="only show the table")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    try:
        rows = measure(options.rounds)
    except Unavailable as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 69
    show(rows, RESOURCES // 5, load)
    return int(not options.no_limit and any(row.over for row in rows))


def measure(rounds: int) -> list[Row]:
    """Return the rows."""
    bin_ = installed()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="jtr-bench-") as name, Bench(RESOURCES // 5) as bench:
        home = Path(name)
        sync, check = octodns(bin_, home, RESOURCES)
        document = home / "document"
        document.mkdir()
        write(document, 1, 2)
        example = str(next(document.iterdir()))
        schema = str(ROOT / "schemas" / "config.schema.json")
        checker = [str(bin_ / "check-jsonschema"), "--schemafile", schema, example]
        planners = [sync, pyinfra(bin_, home), ansible(bin_, home), terraform(bin_, home)]
        fleet = bench.converged(bench.servers)
        plan = Peer(
            "jtr plan", fleet.command("plan", str(fleet.docs), *bench.many), 0, fleet.environment
        )
        validate = Peer("jtr validate", fleet.command("validate", example), 0)
        groups: list[tuple[Peer, list[Peer], Callable[[float], str]]] = [
            (plan, [one for one in planners if one], lambda s: f"{1000 * s / RESOURCES:.2f} ms"),
            (validate, [check, Peer("check-jsonschema", checker, 1.0)], lambda s: f"{s:.3f} s"),
        ]
        for ours, theirs, each in groups:
            for number in range(rounds + 1):
                for peer in [ours, *theirs]:
                    peer.run(home)
                    if not number:
                        peer.took.clear()  # it filled caches
                say(f"{ours.name}: round {number} of {rounds}")
            mine = median(ours.took)
            for peer in theirs:
                pairs = zip(ours.took, peer.took, strict=True)
                ratio = median([one / other for one, other in pairs])
                more = f"{each(mine)} against {each(median(peer.took))}"
                rows.append(Row(f"{ours.name} / {peer.name}", ratio, peer.most, "x", more))
        if planners[-1] is None:
            rows.append(Row("jtr plan / terraform", None, None, "x", "there is no terraform here"))
    return rows


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unfinished as why:
        sys.exit(f"bench: {why}")
