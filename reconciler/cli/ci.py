"""`jtr ci`: what a job does for a pull request, and what it does on the main branch."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import click

from reconciler import bootstrap
from reconciler.ci.job import Event, Job, find_job
from reconciler.cli import ci_report, commands, options, output
from reconciler.cli.apply import ApplyJob, merged_proposals
from reconciler.cli.origin import origin_of
from reconciler.cli.plan import planned
from reconciler.cli.settings_source import SettingsSource, settings_options
from reconciler.documents.load import load
from reconciler.errors import Exit, Interrupted, InvalidConfig, JtrError, UsageError, worst
from reconciler.model.annotations import Annotation
from reconciler.model.desired import DesiredState
from reconciler.model.origin import Origin
from reconciler.model.proposals import Proposal
from reconciler.model.values import replace
from reconciler.plan.inputs import Consents
from reconciler.render.annotate import of_mistakes, of_plan, of_remembered, of_violations
from reconciler.render.layout import View
from reconciler.render.plan_json import RENDERER as AS_JSON
from reconciler.render.plan_markdown import RENDERER as AS_MARKDOWN
from reconciler.render.plan_text import RENDERER as AS_TEXT
from reconciler.settings.model import Settings
from reconciler.system.console import say
from reconciler.system.interrupts import run

GROUPED: Final = View(wide=False)
_EVENTS: Final = (Event.PULL_REQUEST, Event.MAIN)


@click.command("ci")
@commands.paths
@click.option(
    "--event",
    "said",
    type=click.Choice([str(event) for event in _EVENTS]),
    help="What this job is for, where no CI system says so that jtr knows.",
)
@click.option(
    "--name",
    default="",
    metavar="NAME",
    help="Tells this job's comment and status from those of others in the same repository.",
)
@click.option(
    "--out",
    metavar="DIR",
    help="Write plan.json, comment.md, jtr.sarif, code-quality.json and junit.xml there.",
)
@options.visiting
@commands.max_disruptive
@settings_options
def command(  # noqa: PLR0917  - one parameter per option
    paths: tuple[str, ...],
    said: str | None,
    name: str,
    out: str | None,
    parallelism: int,
    max_disruptive: int,
    source: SettingsSource,
) -> int:
    """
    Do what a CI job does for the documents of PATH...; finds out where it runs and what for.

    PATH is the current directory unless given.  For a pull request: validate, judge by the policy,
    plan without contacting any server, propose that plan, and tell reviewers in one comment that is
    edited in place, with what exchanges said of the keys last.  On the main branch: apply what
    merged pull requests proposed, and say what became of it in the same comment and in the commit's
    status.  For a fork, and on any other branch: validate.
    """
    job = find_job(os.environ)
    if said is not None:
        if job.event not in (Event.OTHER, Event.UNKNOWN, Event(said)):
            raise UsageError(f"this job is for: {job.event}", "leave --event out")
        job = replace(job, event=Event(said))
    if job.event is Event.UNKNOWN:
        raise UsageError(
            "nothing says which branch is the main one, so whether this job applies",
            "on the main branch: jtr ci --event main; elsewhere: jtr validate",
        )
    ci_report.check_name(name)
    story = _Story(job, paths, source, parallelism, max_disruptive)
    return story.told(ci_report.Reporter(job, name, out))


@dataclass(slots=True)
class _Story:
    """One job, from the documents to what is told of it."""

    job: Job
    paths: tuple[str, ...]
    source: SettingsSource
    parallelism: int
    most: int
    found: list[Annotation] = field(default_factory=list)
    told_of: Proposal | None = None
    asked: Sequence[Proposal] = ()
    markdown: str = ""
    json: str = ""

    def told(self, reporter: ci_report.Reporter) -> int:
        """Do it and tell it; whatever ends it early is told as well, and then raised."""
        try:
            code, words = self._done()
        except InvalidConfig as error:
            self.found.extend(of_mistakes(error))
            self._tell(reporter, error.exit_code, "the documents are not valid")
            raise
        except JtrError as error:
            with suppress(Interrupted):
                self._tell(reporter, error.exit_code, str(error))
            raise
        self._tell(reporter, code, words)
        return code

    def _tell(self, reporter: ci_report.Reporter, code: Exit, words: str) -> None:
        pull = self.job.pull if self.told_of is None else self.told_of.pull
        reporter.tell(
            ci_report.Result(
                code,
                words,
                tuple(self.found),
                self.markdown,
                self.json,
                pull,
                self.told_of,
                tuple(one.pull for one in self.asked if one.pull != pull),
            )
        )

    def _done(self) -> tuple[Exit, str]:
        if self.job.fork or self.job.event is Event.OTHER:
            why = "a fork gets no login" if self.job.fork else f"this job is for: {self.job.event}"
            loaded = load(self.paths)
            output.show(loaded.summary())
            say(f"{why}: documents were validated, and that is all")
            return Exit.DONE, "the documents are valid; nothing was planned"
        state, settings = self.source.inputs(*self.paths)
        if settings.policy.speaks:
            found = [(server, settings.policy.violations(server)) for server in state.servers]
            self.found.extend(of_violations(found))
        if self.job.event is Event.MAIN:
            return self._applied(state, settings)
        return self._planned(state, settings)

    def _planned(self, state: DesiredState, settings: Settings) -> tuple[Exit, str]:
        found = planned(
            state,
            settings,
            Consents(),
            paths=self.paths,
            parallelism=self.parallelism,
            recorded=True,
            job=self.job,
            recalls=True,
        )
        plan, code, audit = found.plan, found.code, found.audit
        self.found.extend(of_plan(plan, state))
        self.found.extend(of_remembered(found.keys, state))
        self.markdown = AS_MARKDOWN.plan(plan, code, recorded=True, audit=audit)
        self.json = AS_JSON.plan(plan, code, recorded=True, audit=audit)
        text = AS_TEXT.seen(GROUPED).plan(plan, code, recorded=True, audit=audit)
        output.show(ci_report.log(self.job, text))
        return code, ci_report.title(self.markdown)

    def _applied(self, state: DesiredState, settings: Settings) -> tuple[Exit, str]:
        recorder = ci_report.Recorder(self.job)
        try:
            with bootstrap.prepared(
                settings, "apply", parallelism=self.parallelism, writes=True
            ) as context:
                expected = merged_proposals(context, state, self.paths, self._about)
                consents = Consents(recipients=expected.agreed(state))
                consents = bootstrap.beside_controller(settings, context, state, consents)
                apply = ApplyJob(
                    state=state,
                    consents=consents,
                    context=context,
                    origin=self._asked,
                    renderer=recorder,
                    view=GROUPED,
                    asks=False,
                    expected=expected,
                    most=self.most,
                    skip=False,
                    detailed=False,
                )
                code = run(apply.run)
        finally:
            self.markdown, self.json = recorder.markdown, recorder.json
            if recorder.shown is not None:
                self.found.extend(of_plan(recorder.shown, state))
        return worst([code]), ci_report.title(self.markdown)

    def _about(self, proposal: Proposal) -> None:
        self.told_of = proposal

    def _asked(self, asked: Sequence[Proposal]) -> Origin:
        self.asked = asked
        return origin_of(self.job, self.paths, next(iter(asked), self.told_of))
