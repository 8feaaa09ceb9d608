"""What the end of a run says about programs that were missed."""

from tests.deploy.tools import not_run


def test_programs_that_were_missed_are_told_in_one_line() -> None:
    reasons = [
        "('a.py', 1, 'Skipped: promtool is not installed: run make tools, as root')",
        "('a.py', 9, 'Skipped: promtool is not installed: run make tools, as root')",
        "('b.py', 1, 'Skipped: hadolint is not installed: run make tools, as root')",
        "('b.py', 9, 'Skipped: it has no passphrase')",
    ]

    assert not_run(reasons) == "NOT RUN: 3 tests, for lack of hadolint, promtool"
    assert not_run(reasons[3:]) == ""
