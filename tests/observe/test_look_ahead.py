"""What a survey asks Vault for in one go: all that it will need, and nothing that is forbidden."""

from typing import Any, cast

from reconciler.model.desired import DesiredExchange, DesiredServer, DesiredState, Presence
from reconciler.model.references import SecretRef
from reconciler.model.source import NOWHERE
from reconciler.observe.context import PassContext
from reconciler.policy.model import ANYTHING, Policy, Rule
from reconciler.reconcile.survey import asked_for


class Context:
    """All that is looked at."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy


def ref(text: str) -> SecretRef:
    found = SecretRef.parse(f"vault:{text}")
    assert found is not None
    return found


def server(name: str, *exchanges: DesiredExchange, **more: Any) -> DesiredServer:
    url = f"https://{name}.internal"
    return DesiredServer(
        name, url, NOWHERE, access_secret=ref(f"secret/jt/{name}#it"), exchanges=exchanges, **more
    )


def exchange(code: str, path: str, presence: Presence = Presence.PRESENT) -> DesiredExchange:
    return DesiredExchange(code, NOWHERE, presence, secret=ref(path))


TOKYO = server(
    "tokyo-1",
    exchange("bybit", "secret/jt/tokyo-1/bybit"),
    exchange("okx", "secret/other/okx"),
    exchange("mexc", "secret/jt/tokyo-1/mexc", Presence.ABSENT),
)
OSAKA = server("osaka-1", exchange("bybit", "secret/jt/osaka-1/bybit"))
STATE = DesiredState((TOKYO, OSAKA))


def asked(policy: Policy) -> set[str]:
    return {str(at) for at in asked_for(STATE, cast("PassContext", Context(policy)))}


def test_everything_that_is_present_is_asked_for() -> None:
    assert asked(ANYTHING) == {
        *("vault:secret/jt/tokyo-1", "vault:secret/jt/tokyo-1/bybit", "vault:secret/other/okx"),
        *("vault:secret/jt/osaka-1", "vault:secret/jt/osaka-1/bybit"),
    }


def test_nobody_asks_for_what_the_policy_forbids() -> None:
    rule = Rule(1, "asia", urls=("https://tokyo-1.internal",), secrets=("secret/jt/**",))
    policy = Policy((rule,), source="a")

    assert asked(policy) == {"vault:secret/jt/tokyo-1", "vault:secret/jt/tokyo-1/bybit"}
