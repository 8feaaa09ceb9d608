"""Who does something and where from, in words that the environment may have chosen."""

import os
import socket
from collections.abc import Mapping

import pytest

from reconciler.system.who import who

HERE = f"apply {os.getpid()}@{socket.gethostname()}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {
                "GITHUB_RUN_ID": "99",
                "GITHUB_REPOSITORY": "acme/desk",
                "GITHUB_SHA": COMMIT,
                "GITHUB_ACTOR": "anna",
            },
            "anna, job 99 of acme/desk, commit 0123456789ab",
        ),
        (
            {"CI_JOB_ID": "7", "CI_COMMIT_SHA": COMMIT, "GITLAB_USER_LOGIN": "ben"},
            "ben, job 7, commit 0123456789ab",
        ),
        ({"SUDO_USER": "anna"}, "anna"),
        ({"SUDO_USER": "anna", "GITHUB_SHA": COMMIT}, "anna"),  # no job: nobody ran that commit
        ({"SUDO_USER": "an na\x1b[2J", "GITHUB_ACTOR": "x" * 200, "CI_JOB_ID": "7\n8"}, None),
    ],
)
def test_a_job_says_who_started_it_and_for_which_commit(
    environ: Mapping[str, str], said: str | None
) -> None:
    found = who("apply", environ)

    assert found.startswith(f"{HERE} (")
    if said is None:  # what is no name is not repeated
        assert found == who("apply", {})
    else:
        assert found == f"{HERE} ({said})"
