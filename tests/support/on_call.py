"""
What somebody does who is woken by an alert and has the runbooks: from the alert to its page, and
what the page says is typed at one terminal, as it stands there.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import yaml

from tests.e2e.terminal import Hidden, Shell
from tests.house.pages import ROOT, blocks, page
from tests.support.night import RUNBOOKS, Night, Served

PAGES: Final = {
    path.stem: path.read_text("utf-8")
    for path in sorted((ROOT / "docs/runbooks").glob("*.md"))
    if path.stem != "README"
}
ALERTS: Final[Mapping[str, Mapping[str, Any]]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(page("deploy/prometheus/alerts.yaml"))["groups"]
    for rule in group["rules"]
}
SITE: Final = "https://jtr.internal/docs/"
Answers = Mapping[str, Sequence[tuple[str, str | Hidden]]]
"""What is asked after a line that begins so, and what is said to it."""


# ── from the alert to its page ───────────────────────────────────────────────────────────────


def place(alert: str) -> tuple[str, str]:
    """The name of the page to which an alert leads, or none, and the section of docs/alerts.md."""
    url: str = ALERTS[alert]["annotations"]["runbook_url"]
    path, _, section = url.removeprefix(SITE).partition("#")
    found = re.fullmatch(r"runbooks/([\w-]+)\.md", path)
    assert found or path == "alerts.md", url
    return (found[1] if found else ""), section


def rule(alert: str) -> str:
    return str(ALERTS[alert]["expr"])


def rings(alert: str, metrics: Mapping[str, float]) -> bool:
    """
    Whether an alert would ring once it lasted, by the first comparison of its rule.

    The rest of a rule says when not; what counts from a beginning counts from nothing.
    """
    if gone := re.fullmatch(r"absent\((\w+)\)", rule(alert)):
        return not any(row.startswith(gone[1]) for row in metrics)
    first = re.search(r"(\w+)(?:\{(.*?)\})?[^<>={]*?(==|<|>) (\d+)(?: \* (\d+))?", rule(alert))
    assert first, f"{alert} has a rule of another kind"
    name, labels, than = first[1], first[2] or "", int(first[4]) * int(first[5] or 1)
    holds = {"==": operator.eq, "<": operator.lt, ">": operator.gt}[first[3]]
    wanted = [
        re.compile(rf'[{{,]{label}="({value})"[}},]')
        for label, value in re.findall(r'(\w+)=~?"(.*?)"', labels)
    ]
    return any(
        holds(value, than)
        for row, value in metrics.items()
        if re.fullmatch(rf"{name}(\{{.*\}})?", row) and all(one.search(row) for one in wanted)
    )


def rung(night: Served, alert: str) -> str:
    """Wait until an alert rings; returns the name of the page to which it leads."""
    night.until(lambda: rings(alert, night.metrics()), f"{alert} rings")
    name, _ = place(alert)
    assert name, f"{alert} leads to no page"
    return name


def over(night: Served, alert: str) -> None:
    """Wait until an alert rings no more, and somebody is there to say so."""

    def silent() -> bool:
        metrics = night.metrics()
        return "jtr_acting" in metrics and not rings(alert, metrics)

    night.until(silent, f"{alert} is over")


def led(message: Mapping[str, object]) -> str:
    """The name of the page to which a message leads; it says what it means, and which fleet."""
    assert message.get("controller", "desk-asia") == "desk-asia"
    assert message["meaning"]
    assert message["remedy"]
    link = str(message["link"])
    assert link.startswith(f"{RUNBOOKS}/"), link
    return link.removeprefix(f"{RUNBOOKS}/").removesuffix(".md")


def listed(what: str) -> str:
    """The name of the page that the list of runbooks has for it: nothing rings there."""
    rows = page("docs/runbooks/README.md").splitlines()
    (row,) = [row for row in rows if row.startswith("|") and what in row]
    found = re.search(r"\]\(([\w-]+)\.md\)", row)
    assert found, row
    return found[1]


# ── what the page says is typed ──────────────────────────────────────────────────────────────


def follow(
    night: Served,
    name: str,
    *,
    by_hand: Callable[[str], object] = lambda _seen: None,
    mend: bool = True,
    mended: Callable[[], object] | None = None,
    answers: Answers | None = None,
    exits: Mapping[str, int] | None = None,
    still: Mapping[str, int] | None = None,
    shell: Shell | None = None,
) -> dict[str, str]:
    """
    Do what a page says, in its order; returns what was to be read, in one line for each part.

    *by_hand* comes before `mend` and gets what the first look showed: what no command can do.
    Without *mend* the page says that its commands are for another case.  Then *mended* is waited
    for.  All commands end with 0, but those of the first look that begin as *exits* has them, and
    those of the proof that begin as *still* has them.  *shell* is for who has another terminal.
    """
    if shell is None:
        assert isinstance(night, Night)
        shell = night.person
    answers, exits, still = dict(answers or {}), dict(exits or {}), dict(still or {})
    seen = {"look": _typed(shell, name, "look", answers, exits)}
    assert not exits, f"never typed: {exits}"
    by_hand(seen["look"])
    if mend:
        seen["mend"] = _typed(shell, name, "mend", answers, {})
    assert not answers, f"never typed: {answers}"
    if mended is None:
        night.until(lambda: healthy(night), f"{name}: mended")
    else:
        mended()
    seen["proof"] = _typed(shell, name, "proof", {}, still)
    assert not still, f"never typed: {still}"
    return seen


def healthy(night: Served) -> bool:
    """Whether the controller is ready, and all its servers are well."""
    servers = night.status().get("servers", ())
    return night.asks("/readyz")[0] == 200 and all(one["health"] == "healthy" for one in servers)


def _typed(
    shell: Shell,
    name: str,
    what: str,
    answers: dict[str, Sequence[tuple[str, str | Hidden]]],
    exits: dict[str, int],
) -> str:
    """Type the lines of a part; what was said and how they ended is taken out of both."""
    words = []
    for block in blocks(PAGES[name], what):
        for line in block.replace("\\\n", " ").splitlines():
            asked = next((key for key in answers if line.startswith(key)), "")
            ends = next((key for key in exits if line.startswith(key)), "")
            said = answers.pop(asked) if asked else ()
            words.append(shell.types(line, *said, code=exits.pop(ends) if ends else 0).words)
    return " ".join(words)
