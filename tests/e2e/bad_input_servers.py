"""A trading server that is away, is another one, or does not behave."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from reconciler.drivers.jt_trader.driver import MESSAGE_LIMIT
from reconciler.errors import Exit
from reconciler.sandbox.jt_trader.server import StandInThread
from tests.e2e.bad_input_row import APPLY, Row, Scope, unreachable, visiting
from tests.e2e.bad_input_setup import HASTY, OWN_FIELDS, Setup
from tests.e2e.bad_input_tls import Authority

_BLOCKED = visiting(Exit.BLOCKED)
_FAILED = visiting(Exit.SERVER)


def _behaving(**changes: Any) -> Callable[[Setup], None]:
    def spoil(setup: Setup) -> None:
        for name, value in changes.items():
            setattr(setup.bad.behaviour, name, value)
        if {"silent", "silent-before", "silent-after", "fatal"} & set(map(str, changes.values())):
            setup.use(durations=HASTY)

    return spoil


# ── the documents do not fit the server ──────────────────────────────────────────────────────


def _moved(setup: Setup) -> None:
    other = setup.rig.server("tokyo-2")
    setup.edit(setup.bad.url, other.url)
    setup.later(lambda: _untouched(other))


def _untouched(other: StandInThread) -> None:
    assert not other.record.handshakes


def _swapped(setup: Setup) -> None:
    for name, value in setup.bad.values().items():
        setup.later(setup.bad.set_value, name, value)
        setup.bad.set_value(name, setup.rig.watch.secret("base62"))


def _unknown_exchange(setup: Setup) -> None:
    setup.edit("bybit: {", "binance: {")


def _no_password(setup: Setup) -> None:
    line = OWN_FIELDS.splitlines(keepends=True)[-1]
    setup.edit(line.format(path=setup.rig.reference("x")[:-2], name="tokyo-1"), "")


def _uid_as_well(setup: Setup) -> None:
    name = f"{setup.rig.reference('tokyo-1/okx')}#password"
    setup.edit(f"        password: {name}\n", f"        password: {name}\n        uid: {name}2\n")


def _foreign(setup: Setup) -> None:
    setup.bad.set_value("kucoin_api_key", setup.rig.watch.secret("base62"))
    setup.rig.rotate("tokyo-1", "kucoin")
    path = setup.rig.reference("tokyo-1/kucoin")
    setup.edit("    bybit: {", f"    kucoin: {{credentials: {path}}}\n    bybit: {{")
    setup.later(setup.bad.remove_value, "kucoin_api_key")


# ── no way to the server ─────────────────────────────────────────────────────────────────────


def _stopped(setup: Setup) -> None:
    setup.bad.stop()
    setup.later(setup.bad.start)


def _other_service(status: int, **headers: str) -> Callable[[Setup], None]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    def spoil(setup: Setup) -> None:
        _stopped(setup)
        port = int(setup.bad.url.rpartition(":")[2])
        server = ThreadingHTTPServer(("127.0.0.1", port), Page)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        setup.later(server.server_close)
        setup.later(thread.join)
        setup.later(server.shutdown)

    return spoil


def _tls(change: Callable[[Setup, Authority], Any]) -> Callable[[Setup], None]:
    """Let the server come back with the context that *change* returns."""

    def spoil(setup: Setup) -> None:
        assert setup.authority is not None
        server = setup.bad.server
        before, server._tls = server._tls, change(setup, setup.authority)
        setup.bad.restart()

        def back() -> None:
            server._tls = before
            setup.bad.restart()

        setup.later(back)

    return spoil


def _other_authority(setup: Setup, _ours: Authority) -> Any:
    return Authority(setup.home / "private", "theirs").context()


def _ca_file(name: str) -> Callable[[Setup], None]:
    return lambda s: s.use(tls=[{"urls": [s.bad.url], "caFile": name}])


def _encrypted(name: str, spoil: Callable[[Setup], None], why: str, remedy: str) -> Row:
    return Row(
        name,
        spoil,
        _FAILED,
        f"no connection to {{bad}}: {why}",
        remedy,
        connections=0,
        tls=True,
    )


# ── a server that does not behave ────────────────────────────────────────────────────────────


def _other_secret(setup: Setup) -> None:
    setup.log_in_with(setup.rig.watch.secret("base62"))


def _other_account(setup: Setup) -> None:
    state = setup.bad.server._state
    setup.later(setattr, state, "account", state.account)
    state.account = "7"


def _site_account(setup: Setup) -> None:
    """The server stops believing the vendor's site: an access token is wanted."""
    setup.bad.behaviour.standalone = False


def _too_much(setup: Setup) -> None:
    # Meanwhile this process has no time for Vault either.
    setup.use(durations=dict.fromkeys(("request", "secretsRequest", "secretsTotal"), "10m"))
    setup.bad.behaviour.answer_padding = MESSAGE_LIMIT + 2**20


def _write(
    name: str,
    save: str,
    code: Exit,
    saves: int,
    rows: int,
    what: str,
    remedy: str,
    *,
    connections: int | None = None,
) -> Row:
    """Return a row for a save that goes wrong halfway."""
    remembers = REWRITTEN if code is Exit.DONE else UNFINISHED
    return Row(
        name,
        _behaving(save=save),
        {APPLY: code},
        what,
        remedy,
        Scope.WRITE,
        saves=saves,
        rows=rows,
        connections=1 + saves if connections is None else connections,
        remembers=remembers,
    )


UNFINISHED = "bybit: a write did not finish; `jtr apply` writes it again"
REWRITTEN = "bybit: written from {path}/tokyo-1/bybit@2"
_UNPROVEN = "bybit: failed: the server did not answer, and what it shows does not prove"
_LOOK = "look at its Config page and log; `jtr apply` writes again"
_READ_BACK = "✓ write bybit: done: the answer was lost, read back"

FITTING = (
    Row(
        "changed URL",
        _moved,
        _BLOCKED,
        "nothing is applied: its address changed: it was {bad}",
        "make sure that the old server is off … then --approve-target-change tokyo-1",
        connections=0,
    ),
    Row(
        "another server behind the address",
        _swapped,
        _BLOCKED,
        "nothing is applied: another server behind this address? nothing that we wrote is there",
        "look at it … --approve-target-change tokyo-1",
    ),
    Row(
        "unknown exchange on that server",
        _unknown_exchange,
        _BLOCKED,
        "binance  blocked: this server does not know the exchange binance",
        "add it to the server's exchanges.conf",
        Scope.EXCHANGE,
    ),
    Row(
        "missing field",
        _no_password,
        _BLOCKED,
        "okx  blocked: the server also asks for password",
        "add it under credentials",
        Scope.EXCHANGE,
        remembers=REWRITTEN,
    ),
    Row(
        "surplus field",
        _uid_as_well,
        _BLOCKED,
        "okx  blocked: the server does not ask for uid",
        "remove it",
        Scope.EXCHANGE,
        remembers=REWRITTEN,
    ),
    Row(
        "exchange that somebody else connected",
        _foreign,
        _BLOCKED,
        "kucoin  blocked: somebody else connected it with another key",
        "`jtr apply --take-over tokyo-1/kucoin` replaces what exists only there",
        Scope.EXCHANGE,
        remembers=REWRITTEN,
    ),
    Row(
        "version outside the tested range",
        _behaving(version="0.31.0"),
        _BLOCKED,
        "bybit  blocked: JT-Trader 0.31.0 is outside the tested range",
        "an operator who tried it adds it to acceptVersions in the settings",
    ),
)

REACHING = (
    Row(
        "server down",
        _stopped,
        unreachable(),
        "no connection to {bad}: nothing listens at that port",
        "check the address, the tunnel and that the server is up",
        connections=0,
    ),
    Row(
        "server is something else",
        _other_service(404),
        unreachable(),
        "no connection to {bad}: it answers HTTP 404 instead of a websocket",
        "check the address, the tunnel and that the server is up",
        connections=0,
    ),
    Row(
        "server redirects",
        _other_service(302, Location="https://elsewhere.example/"),
        unreachable(),
        "no connection to {bad}: it redirects elsewhere, which jtr does not follow",
        "check the address, the tunnel and that the server is up",
        connections=0,
    ),
    _encrypted(
        "TLS wrong: unknown authority",
        _tls(_other_authority),
        "its certificate is not signed by a CA that is trusted for this address",
        "if it is the right server, name its CA as caFile in the settings (tls)",
    ),
    _encrypted(
        "TLS wrong: expired",
        _tls(lambda _, ours: ours.context(expired=True)),
        "its certificate has expired",
        "renew it on the server",
    ),
    _encrypted(
        "TLS wrong: another address",
        _tls(lambda _, ours: ours.context("127.0.0.9")),
        "its certificate is for another address",
        "write the address or name that it is for",
    ),
    Row(
        "TLS wrong: a client certificate is wanted",
        _tls(lambda _, ours: ours.context(ask=True)),
        unreachable(),
        "no connection to {bad}: … , as one does that wants a client certificate",
        "check the address, the tunnel and that the server is up",
        connections=0,
        tls=True,
    ),
    _encrypted(
        "TLS wrong: none at all",
        _tls(lambda _, __: None),
        "it does not speak TLS at this port",
        "check the port",
    ),
    Row(
        "TLS wrong: CA file missing",
        _ca_file("/nowhere/ca.pem"),
        _FAILED,
        "the CA file /nowhere/ca.pem cannot be used",
        "caFile in the settings (tls) names a readable PEM file",
        connections=0,
        tls=True,
    ),
)

BEHAVING = (
    Row(
        "wrong secret",
        _other_secret,
        _FAILED,
        "{bad}: the server did not accept the access secret",
        "put the server's own one into the secret that spec.accessSecret names",
        asks=False,
    ),
    Row(
        "wrong token",
        _site_account,
        _FAILED,
        "{bad}: the server did not accept the access token",
        "put the account's present token into the secret that spec.accessToken names",
        asks=False,
    ),
    Row(
        "wrong account",
        _other_account,
        _FAILED,
        "{bad} reports account '7' instead of '0'",
        "check spec.account and spec.accessToken",
        asks=False,
    ),
    Row(
        "silent login",
        _behaving(login="silent"),
        unreachable(),
        "{bad} is connected, but did not say whether it accepts us within 0.3 s",
        "look at the server's network",
        asks=False,
    ),
    Row(
        "silent read",
        _behaving(read="silent"),
        unreachable(),
        "{bad} did not answer exchange-config-request within 0.4 s",
        "try again, and look at its network if it stays silent",
    ),
    Row(
        "dropped in a read",
        _behaving(read="drop"),
        unreachable(),
        "{bad}: the connection was lost",
        "try again",
    ),
    Row(
        "unknown answer: the exchanges",
        _behaving(read="unknown-answer"),
        _FAILED,
        "has a shape that jtr does not know: `main` of the exchange list is no list",
        "check that the address is a JT-Trader server of a tested version",
    ),
    Row(
        "unknown answer: the robots",
        _behaving(unknown=frozenset({"background-jobs-list-response"})),
        _FAILED,
        "has a shape that jtr does not know: the robot list is no list",
        "check that the address is a JT-Trader server of a tested version",
    ),
    Row(
        "over-long answer",
        _too_much,
        {APPLY: Exit.SERVER},
        "{bad} sent a message over 67,108,864 bytes",
        "if its system log is that long, rotate it",
    ),
    _write(
        "dropped in mid-save: before the first row",
        *("drop-before", Exit.SERVER, 1, 0, _UNPROVEN, _LOOK),
    ),
    _write(
        "dropped in mid-save: after a row",
        *("drop-midway", Exit.SERVER, 1, 1, _UNPROVEN, _LOOK),
    ),
    _write(
        "dropped in mid-save: after the last row",
        *("drop-after", Exit.DONE, 2, 5, _READ_BACK, ""),
    ),
    _write("silent save: nothing done", "silent-before", Exit.SERVER, 1, 0, _UNPROVEN, _LOOK),
    _write("silent save: all done", "silent-after", Exit.DONE, 2, 5, _READ_BACK, ""),
    _write("unknown answer to a save", "unknown-answer", Exit.DONE, 2, 5, _READ_BACK, ""),
    _write(
        "save that loses a row",
        *("lose-last-row", Exit.SERVER, 1, 1),
        "bybit: failed: the server shows something else than was written: bybit_api_secret",
        _LOOK,
        connections=1,
    ),
)
