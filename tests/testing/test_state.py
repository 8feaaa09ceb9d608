"""`plan` and `apply` on plain values: what they return is what `jtr` would show and do."""

import copy
from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.errors import Blocked, Exit, InvalidConfig
from reconciler.ledger import Stored
from reconciler.model.actions import RebootServer, WriteExchange
from reconciler.model.observed import Robot
from reconciler.model.outcomes import Result
from reconciler.plan.inputs import Consents
from reconciler.testing.state import ServerState, State, apply, plan
from tests.support.leaks import Watch

URL = "https://tokyo-1.internal:8443"
TOKYO = f"""
apiVersion: jtr/v1
kind: TradingServer
metadata: {{name: tokyo-1}}
spec:
  url: {URL}
  accessSecret: vault:secret/jt/tokyo-1#access_secret
  exchanges:
    bybit: {{credentials: vault:secret/jt/tokyo-1/bybit}}
"""
REBOOT = """
  reboot: {bootedAfter: "2026-11-22T08:00:00Z", reason: quarterly, robots: resume}
  supervised: true
"""


@pytest.fixture
def state(watch: Watch) -> State:
    access = watch.secret()
    return State(
        documents={"tokyo-1.yaml": TOKYO},
        servers={URL: ServerState(access, robots=(Robot(1, "grid", "bybit", True),))},
        secrets={
            "secret/jt/tokyo-1": [{"access_secret": access}],
            "secret/jt/tokyo-1/bybit": [{"apiKey": watch.secret(), "secret": watch.secret()}],
        },
    )


def test_what_was_applied_is_planned_no_more(state: State) -> None:
    before = copy.deepcopy(state)
    wanted = plan(state)
    after = apply(state, wanted)

    ((_, action),) = wanted.actions
    assert isinstance(action, WriteExchange)
    ((version,),) = [state.secrets["secret/jt/tokyo-1/bybit"]]
    assert after.servers[URL].stored == {
        "bybit_api_key": version["apiKey"],
        "bybit_api_secret": version["secret"],
    }
    assert [o.result for report in after.reports for o in report.outcomes] == [Result.DONE]
    assert plan(after).actions == ()
    assert plan(state) == wanted, "and so is a plan"
    assert state == before, "a state is a value"


def test_a_new_version_is_written_and_its_robot_restarted(state: State, watch: Watch) -> None:
    path = "secret/jt/tokyo-1/bybit"
    done = apply(state, plan(state))
    fresh = {"apiKey": watch.secret(), "secret": watch.secret()}
    rotated = replace(done, secrets={**done.secrets, path: [*done.secrets[path], fresh]})
    after = apply(rotated, plan(rotated))

    assert set(after.servers[URL].stored.values()) == set(fresh.values())
    assert [robot.running for robot in after.servers[URL].robots] == [True]
    assert plan(after).actions == ()


def test_what_another_hand_wrote_is_left_alone_without_consent(state: State, watch: Watch) -> None:
    done = apply(state, plan(state))
    drifted = replace(
        done,
        servers={
            URL: replace(
                done.servers[URL],
                stored={**done.servers[URL].stored, "bybit_api_key": watch.secret()},
            )
        },
    )

    assert plan(drifted).actions == ()
    consent = Consents(drift=True)
    assert len(plan(drifted, consent).actions) == 1
    mended = apply(drifted, plan(drifted, consent), consent)
    assert mended.servers[URL].stored == done.servers[URL].stored


def test_a_reboot_is_done_once_and_time_goes_on(state: State) -> None:
    asked = replace(state, documents={"tokyo-1.yaml": TOKYO + REBOOT})
    wanted = plan(asked)
    after = apply(asked, wanted)

    assert [type(action) for _, action in wanted.actions] == [WriteExchange, RebootServer]
    assert {o.result for report in after.reports for o in report.outcomes} == {Result.DONE}
    assert len(after.servers[URL].log) > 5, "two boots"
    assert after.now > asked.now
    assert plan(after).actions == ()
    assert plan(replace(after, now=after.now + timedelta(days=30))).actions == ()


def test_the_plan_of_another_state_is_refused(state: State) -> None:
    other = plan(replace(state, documents={"tokyo-1.yaml": TOKYO + REBOOT}))

    with pytest.raises(Blocked):
        apply(state, other)


def test_documents_that_are_not_valid_raise(state: State) -> None:
    with pytest.raises(InvalidConfig, match=r"^tokyo-1\.yaml:8:3: exchange is not known"):
        plan(replace(state, documents={"tokyo-1.yaml": TOKYO.replace("exchanges", "exchange")}))


def test_a_url_without_a_server_leads_nowhere(state: State) -> None:
    (server,) = plan(replace(state, servers={}))

    assert server.exit_code is Exit.SERVER


def test_nothing_shows_a_secret(state: State, watch: Watch) -> None:
    after = apply(state, plan(state))
    watch.search("a state", repr((state, after)))

    assert isinstance(next(iter(after.ledger.values())), Stored)
