"""The part of `jtr demo` about credentials: how they get onto a server, and how they stay there."""

from typing import Final

from reconciler.sandbox.demo.steps import APPLY, PLAN, THAT_PLAN, Hands, Step
from reconciler.sandbox.playground import DECLARED, DOCUMENTS, ROWS, SERVER

_OWED: Final = (
    r"owed: restart of robot grid-btc \(1\): it holds the bybit key",
    r"owed: restart of robot arb \(2\): it holds the okx key",
)
_DRIFT: Final = frozenset({("≠", "okx")})
_CHANGED: Final = (r"okx  write .*somebody changed it",)


def credential_steps(hands: Hands) -> tuple[Step, ...]:
    """Return the steps from the first document to the last key."""
    return (*_first(), *_rotated(hands), *_drifted(hands), *_foreign(hands))


def mistake_steps(hands: Hands) -> tuple[Step, ...]:
    """Return the steps that must be refused, with words that help."""
    return (
        Step(
            "a wrong access secret; plan",
            PLAN,
            "a clear error",
            prepare=hands.ground.spoil_access,
            code=6,
            says=("the server did not accept the access secret", "spec.accessSecret"),
            refused=True,
        ),
        Step(
            "broken YAML and a pasted key; apply",
            APPLY,
            "refused, with positions",
            prepare=lambda: _break_documents(hands),
            code=3,
            says=(
                rf"^{DOCUMENTS}/broken\.yaml:6:3: .*line 5, column 3",
                rf"^{DOCUMENTS}/broken\.yaml:8:\d+: ",
            ),
            connections=0,
        ),
    )


def _first() -> tuple[Step, ...]:
    new = frozenset(("+", code) for code in DECLARED)
    return (
        Step(
            "check the documents",
            ("validate", DOCUMENTS),
            "valid",
            says=("^valid: 1 server, 3 exchanges",),
            connections=0,
        ),
        Step(
            "plan",
            PLAN,
            "3 exchanges to write",
            planned=new,
            says=("^Blast radius: 1 server, 3 exchanges, 2 robots",),
        ),
        Step("begin a ledger", ("ledger", "init"), "begun", connections=0),
        Step("apply", APPLY, "3 done", planned=new, stores=DECLARED),
        Step("plan again", PLAN, "no action; both robots are owed a restart", says=_OWED),
        Step("apply again", APPLY, "no action", says=("^Nothing to do",)),
    )


def _rotated(hands: Hands) -> tuple[Step, ...]:
    def rotate() -> None:
        hands.ground.rotate("bybit")

    changed = frozenset({("~", "bybit")})
    return (
        Step(
            "bybit rotated in Vault; plan",
            PLAN,
            "exactly bybit; robot grid-btc keeps the old key",
            prepare=rotate,
            planned=changed,
            says=(r"robot grid-btc \(1\) keeps the old key until restarted$",),
        ),
        Step(
            "apply that plan and no other",
            ("apply", DOCUMENTS, "--expect", THAT_PLAN),
            "1 done",
            planned=changed,
            stores=("bybit",),
        ),
    )


def _drifted(hands: Hands) -> tuple[Step, ...]:
    return (
        Step(
            "okx changed by hand on the server; plan",
            PLAN,
            "shown as drift",
            prepare=lambda: hands.type("okx_api_secret"),
            planned=_DRIFT,
            says=_CHANGED,
        ),
        Step("apply", APPLY, "drift left alone", planned=_DRIFT, says=("left alone",)),
        Step(
            "correct it",
            (*APPLY, "--correct-drift"),
            "1 done",
            planned=_DRIFT,
            says=_CHANGED,
            stores=("okx",),
        ),
    )


def _foreign(hands: Hands) -> tuple[Step, ...]:
    def connect() -> None:
        for row in ROWS["kucoin"].values():
            hands.type(row)
        hands.ground.rotate("kucoin")
        hands.ground.declare(*DECLARED, "kucoin")

    return (
        Step(
            "kucoin connected by hand, declared with another key; apply",
            APPLY,
            "blocked",
            prepare=connect,
            code=4,
            planned=frozenset({("!", "kucoin")}),
            says=("blocked: somebody else connected it with another key",),
        ),
        Step(
            "take it over",
            (*APPLY, "--take-over", f"{SERVER}/kucoin"),
            "1 done",
            planned=frozenset({("~", "kucoin")}),
            stores=("kucoin",),
        ),
        Step(
            "kucoin `state: absent`; apply",
            APPLY,
            "deleted, nothing else touched",
            prepare=lambda: hands.ground.declare(*DECLARED, absent=["kucoin"]),
            planned=frozenset({("-", "kucoin")}),
            removes=("kucoin",),
        ),
    )


def _break_documents(hands: Hands) -> None:
    hands.ground.spoil_access(back=True)
    (hands.ground.documents / "broken.yaml").write_text(
        "apiVersion: jtr/v1\n"
        "kind: TradingServer\n"
        "metadata: {name: osaka-1}\n"
        "spec:\n"
        "  url: https://osaka-1.internal\n"
        "  url: https://osaka-2.internal\n"
        "  exchanges:\n"
        f"    bybit: {{credentials: {hands.ground.made_up()}}}\n",
        "utf-8",
    )
