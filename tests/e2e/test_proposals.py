"""
What a merge applies is what reviewers saw: on a real repository, judged by the server.
"""

from typing import Any

import pytest

from reconciler.apply import send
from reconciler.cli.expectation import Proposed
from reconciler.ledger.ledger import Ledger
from reconciler.plan import server as plan_server
from reconciler.plan.windows import Opening
from reconciler.sandbox.jt_trader.server import StandInThread
from tests.e2e.answers import document
from tests.e2e.pausing import go_on, pause
from tests.e2e.test_requests import kinds
from tests.support.repository import Repository
from tests.support.rig import LEDGERS, Ran, Rig

pytestmark = pytest.mark.usefixtures("bao")


@pytest.fixture
def repository(rig: Rig) -> Repository:
    """Documents in the checkout of a repository, from now on."""
    repository = Repository(rig.home)
    rig.docs = repository.work / "servers"
    rig.docs.mkdir()
    return repository


def propose(rig: Rig) -> str:
    """Show a plan to reviewers; returns its id."""
    return str(document(rig.plan("--recorded", "--propose", "-o", "json"))["planId"])


def merged(rig: Rig, *args: str) -> Ran:
    return rig.jtr("apply", str(rig.docs), "--expect-proposed", *args)


def begun(rig: Rig, repository: Repository, *exchanges: str) -> StandInThread:
    """Return a server whose document is on main, applied."""
    server = rig.server()
    rig.document("tokyo-1", *(exchanges or ("bybit", "okx")))
    repository.commit("Begin")
    rig.begin()
    assert rig.apply().code == 0
    return server


@pytest.mark.parametrize("kind", LEDGERS)
def test_a_new_server_is_applied_by_what_its_pull_request_proposed(
    rig: Rig, repository: Repository, kind: str
) -> None:
    rig.settings(**rig.ledger(kind))
    rig.begin()
    repository.git("commit", "--quiet", "--allow-empty", "-m", "Begin")
    repository.git("branch", "-M", "main")
    server = rig.server()
    repository.branch("new")
    rig.document("tokyo-1", "bybit", "okx")
    repository.commit("Add tokyo-1")

    recorded = propose(rig)
    seen = len(server.record.handshakes)
    live = document(rig.plan("-o", "json"))["planId"]
    before = merged(rig, "--server", "tokyo-1")
    repository.merge("new")
    again = merged(rig)

    assert seen == 0
    assert recorded == live
    assert (before.code, again.code) == (0, 0), before.text + again.text
    assert server.record.saves == 2


def test_nothing_is_applied_that_nobody_proposed(rig: Rig, repository: Repository) -> None:
    server = begun(rig, repository)
    rig.rotate(exchange="okx")
    greeted = len(server.record.handshakes)

    ran = merged(rig)

    assert ran.code == 4
    assert "no proposal was merged here" in ran.err
    assert len(server.record.handshakes) == greeted


def test_a_branch_that_was_not_merged_proposes_nothing(rig: Rig, repository: Repository) -> None:
    server = begun(rig, repository)
    repository.branch("more")
    rig.document("tokyo-1", "bybit", "okx", "kucoin")
    repository.commit("Add kucoin")
    propose(rig)
    repository.git("checkout", "--quiet", "main")
    saves = server.record.saves

    ran = merged(rig)

    assert ran.code == 4, ran.text
    assert "no proposal was merged here" in ran.err
    assert server.record.saves == saves


def test_a_squash_is_found_by_what_its_documents_mean(rig: Rig, repository: Repository) -> None:
    server = begun(rig, repository)
    saves = server.record.saves
    repository.branch("more")
    rig.document("tokyo-1", "bybit", "okx", rotate=False)
    rig.document("tokyo-1", "bybit", "okx", "kucoin", rotate=False)
    rig.rotate(exchange="kucoin")
    repository.commit("Add kucoin")
    propose(rig)
    repository.squash("more")

    ran = merged(rig)

    assert ran.code == 0, ran.text
    assert server.record.saves == saves + 1


def test_three_merges_and_one_apply(rig: Rig, repository: Repository) -> None:
    """Jobs that wait are replaced by newer ones: the last one does what all three proposed."""
    server = begun(rig, repository, "bybit", "okx", "kucoin")
    saves = server.record.saves
    for exchange in ("bybit", "okx", "kucoin"):
        # Each proposed beside the others, before any of them was merged.
        repository.branch(exchange)
        rig.write(f"notes-{exchange}.yaml", "apiVersion: v1\nkind: Note\n")
        repository.commit(f"Rotate {exchange}")
        rig.rotate(exchange=exchange)
        propose(rig)
    for exchange in ("bybit", "okx", "kucoin"):
        repository.merge(exchange)

    ran, again = merged(rig), merged(rig)

    assert (ran.code, again.code) == (0, 0), ran.text + again.text
    assert server.record.saves == saves + 3


def test_what_a_pause_holds_back_stays_proposed_until_it_is_done(
    rig: Rig, repository: Repository
) -> None:
    server = begun(rig, repository)
    saves = server.record.saves
    repository.branch("more")
    rig.document("tokyo-1", "bybit", "okx", "kucoin", rotate=False)
    rig.rotate(exchange="kucoin")
    repository.commit("Add kucoin")
    propose(rig)
    repository.merge("more")

    pause(rig, server)
    held = merged(rig)
    go_on(rig, server)
    done = merged(rig)

    assert (held.code, done.code) == (0, 0), held.text + done.text
    assert server.record.saves == saves + 1


def test_a_request_for_later_stays_proposed_until_it_is_done(
    rig: Rig, repository: Repository
) -> None:
    rig.settings(soleWriter=True)
    begun(rig, repository)
    repository.branch("later")
    wish = {"bootedAfter": "2099-01-01T00:00:00Z", "robots": "leave", "reason": "later"}
    rig.document("tokyo-1", "bybit", "okx", rotate=False, supervised=True, reboot=wish)
    repository.commit("Ask for a reboot")
    propose(rig)
    repository.merge("later")

    first, again = merged(rig), merged(rig)
    rig.document("tokyo-1", "bybit", "okx", rotate=False)
    withdrawn = merged(rig)
    last = merged(rig, "-o", "markdown")

    assert (first.code, again.code, withdrawn.code) == (0, 0, 0), first.text + again.text
    assert "already applied" not in first.text + again.text + withdrawn.text
    assert "already applied" in last.out


def test_where_main_was_rewritten_somebody_says_so_once(rig: Rig, repository: Repository) -> None:
    server = begun(rig, repository, "bybit")
    saves = server.record.saves
    for exchange in ("okx", "kucoin"):
        repository.git("checkout", "--quiet", "-B", exchange, "main~0")
        rig.document("tokyo-1", "bybit", exchange, rotate=False)
        rig.rotate(exchange=exchange)
        repository.commit(f"Add {exchange}")
        propose(rig)
    repository.git("checkout", "--quiet", "okx")
    first = merged(rig)
    repository.git("checkout", "--quiet", "kucoin")

    beside = merged(rig)
    refused = server.record.saves
    allowed = merged(rig, "--allow-rollback")
    again = merged(rig)
    alone = rig.apply("--allow-rollback")

    assert [one.code for one in (first, beside, allowed, again, alone)] == [0, 4, 0, 0, 64]
    assert "does not come after" in beside.err
    assert "--allow-rollback" in beside.err
    assert (refused, server.record.saves) == (saves + 1, saves + 2)


@pytest.mark.parametrize("before", [True, False], ids=["before-it-began", "while-it-ran"])
def test_a_job_that_another_one_overtook_sends_nothing(
    rig: Rig, repository: Repository, monkeypatch: pytest.MonkeyPatch, *, before: bool
) -> None:
    """Also a job of the very commit that was in force when it was judged."""
    server = begun(rig, repository, "bybit")
    repository.branch("key")
    rig.rotate(exchange="bybit")
    repository.commit("A new key")
    propose(rig)
    repository.merge("key")
    begin, saves = Proposed.begun, server.record.saves

    def overtaken(job: Proposed, ledger: Ledger) -> None:
        if not before:
            begin(job, ledger)
        known = ledger.revisions.applied(job.repository, job.folders)
        ledger.revisions.apply(job.repository, job.folders, "f" * 40, after=known)
        if before:
            begin(job, ledger)

    monkeypatch.setattr(Proposed, "begun", overtaken)
    late = merged(rig)
    monkeypatch.undo()

    assert late.code == 4, late.text
    assert "another commit of these documents was applied since the job of commit" in late.text
    assert "the job of the newest commit does what is left" in late.text
    assert server.record.saves == saves


def test_robots_are_restarted_only_where_a_pull_request_says_so(
    rig: Rig, repository: Repository
) -> None:
    """A key was changed and its robots were left; restarts that somebody pushed are nobody's."""
    rig.settings(soleWriter=True)
    server = begun(rig, repository, "bybit")
    repository.branch("key")
    rig.rotate(exchange="bybit")
    repository.commit("A new key")
    propose(rig)
    repository.merge("key")
    first = merged(rig)
    restart: dict[str, Any] = {"robots": {"onCredentialChange": "restart"}}
    rig.document("tokyo-1", "bybit", rotate=False, **restart)
    repository.commit("Restart them")

    refused = merged(rig)
    before = kinds(server)
    repository.branch("seen")
    repository.commit("Have it seen")
    propose(rig)
    repository.merge("seen")
    done, again = merged(rig), merged(rig)

    assert (first.code, refused.code) == (0, 4), first.text + refused.text
    assert "+ tokyo-1: restart robots on bybit" in refused.err
    assert before == ["save", "save"]
    assert (done.code, again.code) == (0, 0), done.text
    assert kinds(server) == ["save", "save", "stop", "start"]


def test_a_restart_that_waits_for_its_window_stays_proposed_until_it_is_done(
    rig: Rig, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.settings(soleWriter=True)
    server = begun(rig, repository, "bybit")
    closed = {"kind": "deny", "schedule": "* * * * *", "duration": "2h", "timeZone": "UTC"}
    restart: dict[str, Any] = {"robots": {"onCredentialChange": "restart"}, "windows": [closed]}
    repository.branch("key")
    rig.document("tokyo-1", "bybit", **restart)
    repository.commit("A new key, and restarts")
    propose(rig)
    repository.merge("key")

    first = merged(rig)
    waiting = kinds(server)
    for module in (plan_server, send):
        monkeypatch.setattr(module, "standing", lambda _windows, _now: Opening(open=True))
    second = merged(rig)

    assert (first.code, second.code) == (0, 0), first.text + second.text
    assert waiting == ["save", "save"]
    assert kinds(server) == ["save", "save", "stop", "start"]
