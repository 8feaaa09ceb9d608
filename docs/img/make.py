"""
Take the pictures of the documentation: real output of real commands.

Run it with `make pictures`; with names, such as `make pictures ONLY=comment`, it takes those alone.
Text in the pictures is what the commands printed on the sandbox; only directories and ports, which
differ each time, are replaced.  What needs five hundred servers or a forge is the files that
tests/golden holds the program to.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from rich.console import Console
from rich.text import Text

from reconciler.sandbox.playground import Playground

HERE = Path(__file__).parent
GOLDEN: Final = HERE.parent.parent / "tests" / "golden"
COLOURS = {"+": "green", "~": "yellow", "≠": "magenta", "!": "red", "-": "red", "✓": "green"}
WIDTH = 140
FLEET: Final = 120
"""Columns of the files in tests/golden/fleet that are shown."""

FORGE: Final = """
body {margin: 24px; background: white; color: #1f2328;
      font: 16px/1.5 -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif}
main {max-width: 920px; border: 1px solid #d1d9e0; border-radius: 6px; padding: 8px 18px 14px}
h3 {font-size: 1.25em; margin: 16px 0 12px} ul, ol {padding-left: 2em}
table {border-collapse: collapse; margin: 0 0 16px; display: block; width: max-content;
       max-width: 100%}
th, td {border: 1px solid #d1d9e0; padding: 6px 13px}
tr:nth-child(2n) {background: #f6f8fa} details {margin: 0 0 10px}
code {background: #818b981f; border-radius: 6px; padding: .2em .4em;
      font: 85% "DejaVu Sans Mono", monospace}
pre {background: #f6f8fa; border-radius: 6px; padding: 16px; overflow: auto}
pre code {background: none; padding: 0}
"""
"""How a forge shows a comment, near enough to see whether it reads well."""
TALL: Final = "<script>document.title = document.documentElement.scrollHeight</script>"


def jtr(ground: Playground, *args: str) -> str:
    """Run a command in the sandbox and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", *args],
        cwd=ground.repository,
        env=ground.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    text = done.stdout + done.stderr
    text = text.replace(ground.server.url, "http://127.0.0.1:18443")
    return re.sub(r"/tmp/\S*?jtr-\w+-\w+", "~/jtr", text)  # noqa: S108  - a pattern, no file


def picture(name: str, *runs: tuple[str, str], width: int = WIDTH) -> None:
    """Draw commands and what they printed."""
    console = Console(record=True, width=width, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
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


def comment(name: str, markdown: str, *, unfolded: bool = False) -> Path:
    """
    Draw a comment as a forge shows it; returns the picture, which Chromium takes.

    Raises FileNotFoundError where there is no Chromium.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        raise FileNotFoundError("chromium")
    body = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(markdown)
    if unfolded:
        body = body.replace("<details>", "<details open>")
    target = HERE / f"{name}.png" if "/" not in name else Path(f"{name}.png")
    with tempfile.TemporaryDirectory(prefix="jtr-picture-") as folder:
        page = Path(folder) / "page.html"
        text = f"<!doctype html><meta charset=utf-8><style>{FORGE}</style><main>{body}</main>{TALL}"
        page.write_text(text, "utf-8")

        def told(*more: str) -> str:
            done = subprocess.run(
                [
                    *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu"),
                    *("--hide-scrollbars", f"--user-data-dir={folder}/profile", *more),
                    page.as_uri(),
                ],
                check=True,
                capture_output=True,
                text=True,
                timeout=120,
            )
            return done.stdout

        found = re.search(r"<title>(\d+)</title>", told("--window-size=1000,100", "--dump-dom"))
        assert found is not None  # noqa: S101  - the page says how tall it is
        told(f"--window-size=1000,{int(found[1]) + 90}", f"--screenshot={target}")
    return target


def story() -> None:
    """A plan in the sandbox: a rotation, a change by hand, a key of somebody else's."""
    with (
        tempfile.TemporaryDirectory(prefix="jtr-demo-") as folder,
        Playground(Path(folder)) as ground,
    ):
        jtr(ground, "ledger", "init")
        jtr(ground, "apply", "servers", "--auto-approve")
        ground.rotate("bybit")
        ground.server.set_value("okx_password", "typed-by-hand-on-the-server")
        for field in ("kucoin_api_key", "kucoin_secret", "kucoin_password"):
            ground.server.set_value(field, f"connected-by-hand-{field}")
        ground.declare("bybit", "gateio", "kucoin", "okx")
        ground.rotate("kucoin")
        picture("plan", ("jtr plan servers", jtr(ground, "plan", "servers")))


def demo() -> None:
    """The demo, step by step."""
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


def fleet() -> None:
    """Five hundred servers, twenty changes, three problems."""
    for name, command in FLEETS.items():
        text = (GOLDEN / "fleet" / f"{name}-{FLEET}.txt").read_text("utf-8")
        picture(f"fleet-{name}", (command, text), width=FLEET)


def forge() -> None:
    """A pull request's comment."""
    comment("comment", (GOLDEN / "markdown" / "plan-fifty-servers.md").read_text("utf-8"))


FLEETS: Final = {"plan": "jtr plan servers", "status-ledger": "jtr status"}
"""Files of tests/golden/fleet, and what prints them."""
PICTURES: Final[Mapping[str, Callable[[], None]]] = {
    "plan": story,
    "demo": demo,
    "fleet": fleet,
    "comment": forge,
}


def main() -> None:
    """Take all pictures, or those that are named."""
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name]()


if __name__ == "__main__":
    main()
