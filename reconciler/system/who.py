"""
Who does something and where from, in words: for the ledger, the history and the log.

In a CI job that is the job, its commit and who started it, as the environment says.  Whoever wrote
the branch may have written that: it is shown, and never believed.
"""

import os
import re
import socket
from collections.abc import Mapping
from typing import Final

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:#+-]{0,79}")
_COMMIT: Final = 12  # characters that people read


def who(command: str, environ: Mapping[str, str]) -> str:
    """Return this process for people: `apply 812@host (anna, job 99 of acme/desk, commit 1a2b)`."""
    parts = ", ".join(filter(None, (_person(environ), *_job(environ))))
    return f"{command} {os.getpid()}@{socket.gethostname()}{f' ({parts})' if parts else ''}"


def _job(environ: Mapping[str, str]) -> tuple[str, str]:
    number = _word(environ, "GITHUB_RUN_ID", "CI_JOB_ID", "BUILD_NUMBER")
    where = _word(environ, "GITHUB_REPOSITORY", "CI_PROJECT_PATH", "JOB_NAME")
    commit = _word(environ, "GITHUB_SHA", "CI_COMMIT_SHA", "GIT_COMMIT")[:_COMMIT]
    job = f"job {number}{f' of {where}' if where else ''}" if number else ""
    return job, f"commit {commit}" if number and commit else ""


def _person(environ: Mapping[str, str]) -> str:
    """Return who started the job, else whom the system knows; behind sudo that is who called it."""
    started = _word(environ, "GITHUB_ACTOR", "GITLAB_USER_LOGIN", "SUDO_USER")
    if started:
        return started
    import pwd  # noqa: PLC0415

    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's user need have no name
        return f"uid {os.geteuid()}"
    return name if _WORD.fullmatch(name) else ""


def _word(environ: Mapping[str, str], *names: str) -> str:
    found = (environ.get(name, "") for name in names)
    return next((text for text in found if _WORD.fullmatch(text)), "")
