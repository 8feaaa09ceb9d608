"""How a job tells what it found: annotations, files, the summary, a comment, a status."""

import asyncio
import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from msgspec import Struct

from reconciler.ci.forges import forge
from reconciler.ci.http import Api, ForgeAway
from reconciler.ci.job import Event, Job, System
from reconciler.cli import output
from reconciler.errors import Exit, UsageError
from reconciler.model.annotations import Annotation
from reconciler.model.outcomes import Report
from reconciler.model.plan import Plan
from reconciler.model.proposals import Proposal, PullRequest
from reconciler.model.wording import counted
from reconciler.render.annotations import annotation_renderer
from reconciler.render.annotations.github import quiet
from reconciler.render.escape import plain
from reconciler.render.markdown import code as as_code
from reconciler.render.markdown import fenced_within
from reconciler.render.plan_json import RENDERER as AS_JSON
from reconciler.render.plan_markdown import MARKER
from reconciler.render.plan_markdown import RENDERER as AS_MARKDOWN
from reconciler.render.plan_text import RENDERER as AS_TEXT
from reconciler.render.registry import AuditPart, PlanRenderer
from reconciler.system.console import say
from reconciler.system.files import write_atomically

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}|")
_SUMMARY_LIMIT: Final = 1024 * 1024  # bytes that GitHub shows of one step
_TROUBLE_ROOM: Final = 20_000  # characters
_GOOD: Final = (Exit.DONE, Exit.CHANGES)
FILES: Final = {
    "jtr.sarif": "sarif",
    "code-quality.json": "gitlab",
    "junit.xml": "junit",
}


def check_name(name: str) -> None:
    """Raise UsageError for a name that could end the comment's marker."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name {name!a} is no name", "write letters a-z, digits and dashes, at most 63"
        )


class Result(Struct, frozen=True):
    """
    What a job found: `words` in one line, `markdown` and `json` empty where there is no plan.

    `others` are the pull requests besides `pull` whose wish was done with it.
    """

    code: Exit
    words: str
    found: Sequence[Annotation]
    markdown: str
    json: str
    pull: PullRequest
    proposal: Proposal | None = None
    others: Sequence[PullRequest] = ()


class Reporter:
    """
    Tells a result wherever somebody may look for it.

    What a forge makes of it changes nothing: what cannot be told there is said here.
    """

    def __init__(self, job: Job, name: str, out: str | None) -> None:
        self._job: Final = job
        self._label: Final = f"jtr {name}".rstrip()
        self._out: Final = out

    def tell(self, result: Result) -> None:
        body = self._comment(result)
        if self._job.speaks_commands:
            output.show(annotation_renderer("github")(result.found))
        if self._out is not None:
            _write(Path(self._out), result, body)
        if self._job.summary:
            _append(Path(self._job.summary), body)
        if not self._job.fork:
            asyncio.run(self._tell_forge(result, body))

    def _comment(self, result: Result) -> str:
        marker = f"<!-- {self._label.replace('jtr', 'jtr ci', 1)} -->\n"
        text = result.markdown.removeprefix(f"{MARKER}\n") or _trouble(result)
        about = f"\nCommit {as_code(self._job.commit)}.\n" if self._job.commit else ""
        return f"{marker}{text}{about}"

    async def _tell_forge(self, result: Result, body: str) -> None:
        job = self._job
        if job.event not in (Event.PULL_REQUEST, Event.MAIN) or job.system is System.PLAIN:
            return
        if not job.api or job.token is None:
            say("no token for the forge's API: no comment and no status is made")
            return
        header = "PRIVATE-TOKEN" if job.system is System.GITLAB else "Authorization"
        # What was applied long ago has its word there already.
        settled = result.proposal is not None and result.proposal.settled
        async with Api(job.api, job.token, header) as api:
            there = forge(job.system, api)
            marker = body.partition("\n")[0]
            try:
                if result.pull.number and not settled:
                    await there.comment(job, result.pull.number, marker, body)
                for other in result.others:
                    if other.number:
                        await there.comment(job, other.number, marker, body)
                if job.event is Event.MAIN:
                    good = result.code in _GOOD
                    await there.status(
                        job, job.commit, good=good, name=self._label, words=result.words
                    )
            except ForgeAway as error:
                say(f"{error}: what this job found stays as it is")


def title(markdown: str) -> str:
    """Return the line under a document's marker, without its sign of a heading."""
    found = markdown.removeprefix(f"{MARKER}\n").partition("\n")[0].lstrip("# ")
    return found or "nothing was planned"


def _trouble(result: Result) -> str:
    sign = "✅" if result.code in _GOOD else "❌"
    head = f"### {sign} jtr: {as_code(result.words, 400)}\n\nExit code {int(result.code)}.\n"
    if not result.found:
        return head
    rows = [
        f"{one.source}: {one.words}" if one.source.line else one.words
        for one in sorted(result.found, key=lambda one: one.order)
    ]
    block = fenced_within("\n".join(plain(row, 600) for row in rows), _TROUBLE_ROOM) or ""
    return f"{head}\n{counted(len(rows), 'mistake')}:\n\n{block}\n"


def _write(folder: Path, result: Result, body: str) -> None:
    files = {name: annotation_renderer(form)(result.found) for name, form in FILES.items()}
    files["comment.md"] = body
    if result.json:
        files["plan.json"] = result.json
    # In a checkout whoever made the branch may have put links there.
    if not folder.is_absolute() and folder.resolve() != Path(
        os.path.normpath(Path.cwd().resolve() / folder)
    ):
        raise UsageError(f"{str(folder)!a} is a link", "name another --out, or remove the link")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_atomically(folder / name, text.encode())
    except OSError:
        raise UsageError(f"{str(folder)!a} cannot be written", "name another --out") from None


def _append(path: Path, body: str) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "ab") as file:
            if file.tell() + len(body.encode()) <= _SUMMARY_LIMIT:
                file.write(body.encode())
    except OSError:
        say("the job's summary cannot be written")


def log(job: Job, text: str) -> str:
    """Return *text* as a job's log may have it: what is quoted there is no command."""
    return quiet(text) if job.speaks_commands else text


class Recorder(PlanRenderer):
    """Prints a text for people, and keeps the comment and the JSON of the same."""

    live = False

    def __init__(self, job: Job) -> None:
        self._job: Final = job
        self.markdown = ""
        self.json = ""
        self.shown: Plan | None = None

    def plan(
        self, plan: Plan, code: Exit, *, recorded: bool = False, audit: AuditPart | None = None
    ) -> str:
        self._keep(plan, AS_MARKDOWN.plan(plan, code), AS_JSON.plan(plan, code))
        return log(self._job, AS_TEXT.plan(plan, code, recorded=recorded, audit=audit))

    def already(self, plan: Plan, code: Exit, *, at: datetime | None = None) -> str:
        self._keep(plan, AS_MARKDOWN.already(plan, code, at=at), AS_JSON.already(plan, code, at=at))
        return log(self._job, AS_TEXT.already(plan, code, at=at))

    def refused(self, plan: Plan, code: Exit, *, at: datetime | None = None) -> str:
        self._keep(plan, AS_MARKDOWN.refused(plan, code, at=at), AS_JSON.plan(plan, code))
        return log(self._job, AS_TEXT.plan(plan, code))

    def done(
        self, plan: Plan, reports: Sequence[Report], code: Exit, *, at: datetime | None = None
    ) -> str:
        self._keep(
            plan,
            AS_MARKDOWN.done(plan, reports, code, at=at),
            AS_JSON.done(plan, reports, code, at=at),
        )
        return log(self._job, AS_TEXT.done(plan, reports, code, at=at))

    def _keep(self, plan: Plan, markdown: str, json: str) -> None:
        self.shown, self.markdown, self.json = plan, markdown, json
