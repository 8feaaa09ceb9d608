"""A team's own cases: what is told when they hold, and when not."""

from pathlib import Path

import pytest

from reconciler.errors import InvalidConfig, UsageError
from reconciler.policy.cases import CaseResult, run_cases
from reconciler.policy.model import Policy, Rule

DOCUMENT = """
apiVersion: jtr/v1
kind: TradingServer
metadata: {name: tokyo-1}
spec:
  url: https://tokyo-1.internal
  accessSecret: vault:secret/jt/tokyo-1#access_secret
  exchanges:
    bybit: {credentials: vault:secret/jt/tokyo-1/bybit}
    okx: {credentials: vault:secret/other/okx}
"""
POLICY = Policy(
    (Rule(1, "asia", urls=("https://*.internal",), files=("asia/**",), secrets=("secret/jt/**",)),),
    source="a policy",
)
OKX = "- {server: tokyo-1, action: write, exchange: okx, verdict: denied, rule: none}\n"


def run(folder: Path, expected: str, place: str = "asia") -> CaseResult:
    documents = folder / "case" / "documents" / place
    documents.mkdir(parents=True)
    (documents / "tokyo-1.yaml").write_text(DOCUMENT, "utf-8")
    (folder / "case" / "expected.yaml").write_text(expected, "utf-8")
    (result,) = run_cases(str(folder), POLICY)
    return result


@pytest.mark.parametrize(
    "row",
    [
        "- {server: tokyo-1, action: contact, verdict: allowed}\n",
        "- {server: tokyo-1, action: login, verdict: allowed, rule: asia}\n",
        "- {server: tokyo-1, action: write, exchange: bybit, verdict: allowed, rule: asia}\n",
    ],
)
def test_what_is_as_expected(tmp_path: Path, row: str) -> None:
    result = run(tmp_path, OKX + row)

    assert result == CaseResult("case", 2, ())


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (OKX.replace("denied", "allowed"), "expected allowed, denied: no rule allows it"),
        (OKX.replace("none", "asia"), "expected rule asia, denied: no rule allows it"),
        (
            OKX + "- {server: tokyo-1, action: write, exchange: bybit, verdict: denied}\n",
            "expected denied, allowed by rule 1 (asia)",
        ),
        (OKX + "- {server: tokyo-1, action: reboot, verdict: denied}\n", "no document asks for it"),
        (OKX + "- {server: osaka, action: contact, verdict: denied}\n", "no document asks for it"),
        (
            "- {server: tokyo-1, action: contact, verdict: allowed}\n",
            "tokyo-1 write okx: denied: no rule allows it, and no row expects that",
        ),
    ],
)
def test_what_is_not(tmp_path: Path, rows: str, words: str) -> None:
    (failure,) = run(tmp_path, rows).failures

    assert words in failure


def test_the_documents_folder_is_the_root_of_the_tree(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    result = run(tmp_path, OKX, place="elsewhere/asia")

    assert {"contact", "login", "write"} == {
        word
        for failure in result.failures
        for word in ("contact", "login", "write")
        if f"tokyo-1 {word}" in failure
    }


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ("", "a case is a list"),
        ("a: b\n", "a case is a list"),
        ("- a\n", "a row is a mapping"),
        ("- {server: a, action: fly, verdict: allowed}\n", "action must be one of"),
        ("- {server: a, action: write, verdict: maybe}\n", "verdict must be one of"),
        ("- {action: write, verdict: allowed}\n", "names no server"),
        ("- {server: a, action: write, verdict: allowed, why: b}\n", "this key is not known"),
        ("- {server: [a], action: write, verdict: allowed}\n", "server is not text"),
    ],
)
def test_a_case_that_cannot_be_read(tmp_path: Path, expected: str, words: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        run(tmp_path, expected)
    assert words in "\n".join(map(str, refused.value.problems))


def test_no_case_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no case"):
        run_cases(str(tmp_path), POLICY)
