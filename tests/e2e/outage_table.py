"""
What is to be seen of each outage: the rows that `test_outages.py` provokes and reads back.

`docs/outages.md` is made from them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

VAULT_DOWN: Mapping[str, float] = {"jtr_vault_up": 0.0}


def health(status: str) -> dict[str, float]:
    """The metric of a server whose health is *status*."""
    return {f'jtr_server_health{{server="tokyo-1",status="{status}"}}': 1.0}


@dataclass(frozen=True)
class Outage:
    """
    One row; `how` says how it is provoked.

    `status` stands in `/v1/status`, which `jtr status` prints; `log` in a line at warning or worse,
    `message` in what people are told: severity, colon, words.  Empty: nothing is said there.
    `healthz` and `readyz` are answers, 0 where nobody answers.  `hangs` names the deadlines that
    have to pass first, because what is away does not say so.
    """

    name: str
    how: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    status: str = ""
    log: str = ""
    alert: str = ""
    message: str = ""
    healthz: int = 200
    readyz: int = 200
    trading: str = "goes on"
    back: str = "by itself"
    hangs: tuple[str, ...] = ()


OUTAGES = (
    Outage(
        "Vault is frozen",
        "its process is stopped: it accepts connections and answers nothing",
        VAULT_DOWN,
        "no answer for more than",
        "Vault: no answer for more than",
        "JtrVaultDown",
        "critical: Vault is away: no answer for more than",
        hangs=("secretsTotal",),
    ),
    Outage(
        "Vault is sealed",
        "`sys/seal`",
        VAULT_DOWN,
        "is sealed",
        "is sealed",
        "JtrVaultDown",
        "critical: Vault is away: Vault at",
    ),
    Outage(
        "Vault is gone",
        "its port is closed",
        VAULT_DOWN,
        "cannot be reached",
        "cannot be reached",
        "JtrVaultDown",
        "critical: Vault is away",
    ),
    Outage(
        "Vault is slow",
        "every answer takes longer than a request may",
        VAULT_DOWN,
        "no answer for more than",
        "Vault: no answer for more than",
        "JtrVaultDown",
        "critical: Vault is away",
        hangs=("secretsTotal",),
    ),
    Outage(
        "our token is revoked",
        "`auth/token/revoke`",
        VAULT_DOWN,
        "does not accept the token",
        "does not accept the token",
        "JtrVaultDown",
        "critical: Vault is away",
        back="by itself, once the token file holds another one",
    ),
    Outage(
        "Vault is frozen, with the ledger in it",
        "its process is stopped",
        {"jtr_acting": 0.0, **VAULT_DOWN},
        "no answer for more than",
        "the ledger does not answer in time",
        "JtrVaultDown",
        "critical: Vault is away",
        hangs=("secretsTotal", "lease"),
    ),
    Outage(
        "the server is down",
        "its port is closed, its connections are cut",
        health("unreachable"),
        "nothing listens at that port",
        "pass failed no connection to",
        "JtrServerUnreachable",
        "critical: tokyo-1: unreachable",
        trading="stands still there if its process is dead",
    ),
    Outage(
        "the server is frozen",
        "nothing passes in either direction, and nobody is told",
        health("unreachable"),
        "did not answer in time",
        "pass failed no connection to",
        "JtrServerUnreachable",
        "critical: tokyo-1: unreachable",
        trading="nobody can see",
        hangs=("request", "connect"),
    ),
    Outage(
        "the server reboots",
        "its process ends and comes back later",
        health("unreachable"),
        "no connection to",
        "pass failed no connection to",
        "JtrServerUnreachable",
        "critical: tokyo-1: unreachable",
        trading="stands still while it boots; which robots run afterwards is told",
    ),
    Outage(
        "the server has another version",
        "a version that no test knows, and a key that is rotated",
        health("degraded"),
        "outside the tested range",
        "outside the tested range",
        "JtrServerDegraded",
        "warning: tokyo-1: degraded",
        trading="goes on, with the key from before",
        back="by itself, with the version from before, or with `acceptVersions`",
    ),
    Outage(
        "the disk is full",
        "not a byte is left where ledger and state file lie",
        {"jtr_state_file_up": 0.0},
        "cannot write its state file",
        "cannot write its state file",
        "JtrStateFileDown",
        "",
    ),
    Outage(
        "the clock jumps forward",
        "the clock that the controller reads is set two hours ahead",
        {"jtr_clock_steady": 0.0},
        "our own clock jumped by 7200 s",
        "our own clock jumped by 7200 s",
        "JtrClockUnsteady",
        "warning: requests wait: our own clock jumped by 7200 s",
        trading="goes on; no request and no restart begins, none expires",
        back="by itself: at once when it is right again, else ten minutes after its last jump",
    ),
    Outage(
        "the clock jumps backward",
        "the clock that the controller reads is set two hours back",
        {"jtr_clock_steady": 0.0},
        "our own clock jumped by -7200 s",
        "our own clock jumped by -7200 s",
        "JtrClockUnsteady",
        "warning: requests wait: our own clock jumped by -7200 s",
        trading="goes on; no request and no restart begins, none expires",
        back="by itself: at once when it is right again, else ten minutes after its last jump",
    ),
    Outage(
        "the documents are broken",
        "a file that is no YAML",
        {"jtr_documents_valid": 0.0},
        "this is not valid YAML",
        "the newest documents are not in force",
        "JtrDocumentsInvalid",
        "warning: the newest documents are not in force",
    ),
    Outage(
        "the documents vanish",
        "the files are removed",
        {"jtr_documents_valid": 0.0},
        "holds no document",
        "the newest documents are not in force",
        "JtrDocumentsInvalid",
        "warning: the newest documents are not in force",
    ),
    Outage(
        "the controller is killed",
        "SIGKILL",
        alert="JtrControllerDown",
        healthz=0,
        readyz=0,
        back="the service manager starts it; it knows what was told",
    ),
    Outage(
        "two controllers",
        "a second one on the same ledger; what it says itself",
        {"jtr_acting": 0.0, "jtr_ready": 1.0},
        "is the controller of",
        "waiting:",
        "",
        "info: waiting:",
        back="it acts when the other one stops",
    ),
    Outage(
        "the network is cut",
        "ports of Vault and server are closed, connections cut",
        {**VAULT_DOWN, **health("unreachable")},
        "nothing listens at that port",
        "pass failed no connection to",
        "JtrServerUnreachable",
        "critical: tokyo-1: unreachable",
        trading="nobody can see",
    ),
)


INTRODUCTION = """\
What is to be seen while something is away, each provoked for real and read back, and mended then:
`tests/e2e/test_outages.py` writes this page (`--rewrite-golden`). Metrics, status, log and alert
speak within the time of the second column, messages after `toldAfter` besides; that is counted in
looks at another server, which go on meanwhile. After each outage all of it was as before without a
restart, and people were told so with severity `info`.

`/healthz` depends on the controller alone: restarting it brings neither Vault nor a server back.
`/readyz` stays 200 once documents, Vault and ledger were all there.

"""
COLUMNS = (
    *("outage", "provoked by", "said within", "metrics", "`/healthz`, `/readyz`", "`jtr status`"),
    *("log, `-p warning`", "alert", "message", "trading", "comes back"),
)


def page() -> Iterator[str]:
    """Yield the lines of docs/outages.md."""
    yield "# Outages"
    yield ""
    yield from INTRODUCTION.splitlines()
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|" + "---|" * len(COLUMNS)
    for row in OUTAGES:
        shown = [f"`{name} {value:g}`" for name, value in row.metrics.items()]
        pages = "no answer" if row.healthz == 0 else f"{row.healthz}, {row.readyz}"
        alert = f"[{row.alert}](alerts.md#{row.alert.lower()})" if row.alert else "none"
        cells = [
            row.name,
            row.how,
            " and ".join(f"`{one}`" for one in ("interval", *row.hangs))
            if row.healthz
            else "never",
            ", ".join(shown) or "none to scrape",
            pages,
            _said(row.status),
            _said(row.log),
            alert,
            _said(row.message),
            row.trading,
            row.back,
        ]
        yield f"| {' | '.join(cells)} |"


def _said(words: str) -> str:
    return f"`{words}`" if words else "nothing"
