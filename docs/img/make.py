"""
Take the pictures of the documentation: real output of real commands on the sandbox.

Run it with `make pictures`.  Text in the pictures is what the commands printed; only directories
and ports, which differ each time, are replaced.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from reconciler.sandbox.playground import Playground

HERE = Path(__file__).parent
COLOURS = {"+": "green", "~": "yellow", "≠": "magenta", "!": "red", "-": "red", "✓": "green"}
WIDTH = 140


def jtr(ground: Playground, *args: str) -> str:
    """Run a command in the sandbox and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", *args],
        cwd=ground.folder,
        env=ground.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    text = done.stdout + done.stderr
    text = text.replace(ground.server.url, "http://127.0.0.1:18443")
    return re.sub(r"/tmp/\S*?jtr-\w+-\w+", "~/jtr", text)  # noqa: S108  - a pattern, no file


def picture(name: str, *runs: tuple[str, str]) -> None:
    """Draw commands and what they printed."""
    console = Console(record=True, width=WIDTH, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    for command, printed in runs:
        console.print(Text(f"$ {command}", style="bold"))
        for line in printed.splitlines():
            bare = line.lstrip()
            sign = bare[:1] if bare[1:2] == " " else ""
            console.print(Text(line, style=COLOURS.get(sign, "")), soft_wrap=False)
    svg = console.export_svg(title="jtr")
    # The viewer's own fonts: a picture fetches nothing from elsewhere.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    (HERE / f"{name}.svg").write_text(svg, "utf-8")


def main() -> None:
    """Play a short story and take pictures on the way."""
    with (
        tempfile.TemporaryDirectory(prefix="jtr-demo-") as folder,
        Playground(Path(folder)) as ground,
    ):
        jtr(ground, "ledger", "init")
        jtr(ground, "apply", "docs", "--auto-approve")
        ground.rotate("bybit")
        ground.server.set_value("okx_password", "typed-by-hand-on-the-server")
        for field in ("kucoin_api_key", "kucoin_secret", "kucoin_password"):
            ground.server.set_value(field, f"connected-by-hand-{field}")
        ground.declare("bybit", "gateio", "kucoin", "okx")
        ground.rotate("kucoin")
        picture("plan", ("jtr plan docs", jtr(ground, "plan", "docs")))
    with tempfile.TemporaryDirectory(prefix="jtr-home-") as home:
        done = subprocess.run(
            [sys.executable, "-m", "reconciler", "demo"],
            cwd=HERE.parent.parent,
            env={"HOME": home, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        told = re.sub(r"in /tmp/\S+\.", "in a temporary directory.", done.stdout)
        picture("demo", ("make demo", told))


if __name__ == "__main__":
    main()
