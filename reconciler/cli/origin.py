"""Where a run of `jtr` comes from: what its job's environment, its checkout and proposals say."""

import os
from collections.abc import Sequence
from contextlib import suppress

from reconciler.ci.job import Event, Job, System, find_job
from reconciler.cli.expectation import checkout
from reconciler.errors import JtrError, UsageError
from reconciler.model.origin import NO_ORIGIN, Origin, pull_of
from reconciler.model.proposals import Proposal, PullRequest


def job_here() -> Job:
    """Return the job that this runs in; none where its environment contradicts itself."""
    try:
        return find_job(os.environ)
    except UsageError:
        return Job(System.PLAIN, Event.OTHER)


def origin_of(job: Job, paths: Sequence[str], proposal: Proposal | None) -> Origin:
    """
    Return which commit asks for what this run does, as far as anybody says it.

    Outside of a job only a merged *proposal* tells: a checkout may hold what no commit has.
    """
    if job.system is System.PLAIN and proposal is None:
        return NO_ORIGIN
    commit, committer, message = job.commit, "", ""
    with suppress(JtrError):
        tree = checkout(paths)
        commit = commit or tree.head()
        committer, message = tree.about(commit)
    pull = job.pull if proposal is None else proposal.pull
    named = str(pull) if pull != PullRequest() else pull_of(message)
    return Origin(commit, named, job.actor or committer)
