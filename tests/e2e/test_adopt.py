"""`jtr adopt`: servers configured by hand become documents, and rotate like any other."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.documents.new import write_new
from reconciler.errors import JtrError
from reconciler.reconcile.adopt import candidate, record
from reconciler.sandbox.jt_trader.server import StandInThread
from reconciler.sandbox.openbao import OpenBao
from tests.e2e.answers import READS, asked, results, statuses, stored
from tests.e2e.terminal import Command
from tests.support.fleet import Fleet
from tests.support.rig import FIELDS, Ran, Rig

ME = ("--approve-recipient", "tokyo-1")


def connect(rig: Rig, exchange: str, name: str = "tokyo-1", **kept: str) -> dict[str, str]:
    """Let a person connect an exchange with what Vault has for it; returns that."""
    fields = rig.rotate(name, exchange, **kept)
    put(rig.servers[name], exchange, fields)
    return fields


def put(server: StandInThread, exchange: str, fields: dict[str, str]) -> None:
    for field, value in stored(exchange, fields).items():
        server.set_value(field, value)


def own(rig: Rig, exchange: str, name: str = "tokyo-1") -> None:
    """Let a person connect an exchange with a key that is nowhere in Vault."""
    names = ("apiKey", "secret", *FIELDS.get(exchange, ()))
    put(rig.servers[name], exchange, {field: rig.watch.secret() for field in names})


def adopt(rig: Rig, *args: str, names: tuple[str, ...] = ()) -> Ran:
    """Adopt servers of the rig by their addresses."""
    targets = [f"{name}={rig.servers[name].url}" for name in names or sorted(rig.servers)]
    return rig.jtr("adopt", *targets, *patterns(rig), "--out", str(rig.docs), *args)


def patterns(rig: Rig) -> tuple[str, ...]:
    return (
        "--paths",
        f"secret/{rig.path('{server}/{exchange}')}",
        "--access-secret",
        f"secret/{rig.path('{server}')}#access_secret",
    )


def written(rig: Rig, name: str = "tokyo-1") -> dict[str, object]:
    """The exchanges of a document that was written."""
    document = yaml.safe_load((rig.docs / f"{name}.yaml").read_text("utf-8"))
    return dict(document["spec"].get("exchanges") or {})


def test_hand_configured_servers_become_documents_and_all_rotate(rig: Rig) -> None:
    """Some masks prove too little, some keys are in no path; nothing of these is written over."""
    names = [f"tokyo-{number}" for number in range(1, 7)]
    for number, name in enumerate(names):
        rig.server(name, pid=1000 + number)
        connect(rig, "bybit", name)
        if number % 3 == 1:
            connect(rig, "okx", name, secret="abcdefgh-12")  # weak: under twelve characters
        if number % 3 == 2:
            own(rig, "kucoin", name)
    rig.begin()

    adopted = adopt(rig, "--record")
    planned = rig.plan("-o", "json")
    before = {name: dict(server.values()) for name, server in rig.servers.items()}
    fresh = {name: rig.rotate(name) for name in names}
    applied = rig.apply("-o", "json")

    assert adopted.code == 4, adopted  # what was not recognised wants a person
    assert "6 exchanges recognised, 4 not" in adopted.out
    assert all(list(written(rig, name)) == ["bybit"] for name in names)
    assert planned.code == 0, planned
    for number, name in enumerate(names):
        rest = {1: {"okx": "not managed"}, 2: {"kucoin": "not managed"}}.get(number % 3, {})
        assert statuses(planned, name) == {"bybit": "in sync", **rest}
    assert applied.code == 0, applied
    for name in names:
        assert results(applied, name) == {"bybit": "done"}
        new = stored("bybit", fresh[name])
        assert rig.servers[name].values() == before[name] | new


@pytest.mark.long
def test_a_fleet_of_fifty_rotates_without_a_block(rig: Rig) -> None:
    """Ten want a person: five keys are in no path, five masks are weak; then all fifty rotate."""
    with Fleet(rig, 50, name="tokyo") as fleet:
        lost, weak = fleet.names[1::10], fleet.names[2::10]
        held = {name: {word: rig.watch.secret() for word in ("apiKey", "secret")} for name in lost}
        for name in fleet.names:
            (rig.docs / f"{name}.yaml").unlink()
            put(fleet.servers[name], "bybit", held.get(name) or fleet.values[name, "bybit"])
        for name in weak:
            connect(rig, "okx", name, secret="abcdefgh-12")
        rig.begin()

        adopted = adopt(rig, "--record")
        planned = rig.plan("-o", "json")
        for name in lost:
            rig.put(f"{name}/bybit", **held[name])
        for name in (*lost, *weak):
            uncomment(rig, name)
        filled = rig.jtr("adopt", *lost, "--from", str(rig.docs), "--record")
        taken = rig.apply(*(word for name in weak for word in ("--take-over", f"{name}/okx")))
        for name in fleet.names:
            fleet.rotate(name)
        okx = {name: rig.rotate(name, "okx") for name in weak}
        applied = rig.apply("-o", "json")

        assert "50 documents written, 45 exchanges recognised, 10 not" in adopted.out
        codes = [ran.code for ran in (adopted, planned, filled, taken, applied)]
        assert codes == [4, 0, 0, 0, 0]
        assert "5 exchanges recognised, 0 not, 5 recorded as ours" in filled.out
        assert fleet.stale(fleet.names) == []
        for name in fleet.names:
            assert results(applied, name)["bybit"] == "done"
        for name in weak:
            assert stored("okx", okx[name]).items() <= fleet.servers[name].values().items()
        assert fleet.fatal_paths() == 0


def uncomment(rig: Rig, name: str) -> None:
    """Declare what stood in the document as a comment, because it was not recognised."""
    path = rig.docs / f"{name}.yaml"
    text = path.read_text("utf-8")
    for word in ("exchanges", "bybit", "okx", "kucoin"):
        text = text.replace(f"# {word}:", f"{word}:")
    path.write_text(text, "utf-8")


def test_it_only_reads_at_the_server_in_one_session(rig: Rig) -> None:
    server = rig.server()
    connect(rig, "bybit")
    rig.begin()

    ran = adopt(rig, "--record")

    assert ran.code == 0, ran
    assert {one.event for one in server.record.received} <= READS
    assert len(server.record.handshakes) == 1


def test_what_has_no_path_is_named_with_the_command_that_fills_it(rig: Rig) -> None:
    rig.server()
    own(rig, "kucoin")

    ran = adopt(rig)
    text = (rig.docs / "tokyo-1.yaml").read_text("utf-8")

    assert ran.code == 4
    assert "? kucoin" in ran.out
    fill = f"bao kv put -mount=secret -cas=0 {rig.path('tokyo-1/kucoin')} -"
    assert fill in ran.out
    assert '{"apiKey": "...", "password": "...", "secret": "..."}' in ran.out
    assert f"# kucoin: {{credentials: {rig.reference('tokyo-1/kucoin')}}}" in text
    assert rig.jtr("validate", str(rig.docs)).code == 0


def test_filled_in_and_uncommented_it_is_recognised_by_its_name(rig: Rig) -> None:
    """The document is a person's from then on: it is never written again, comments stay."""
    server = rig.server()
    fields = {field: rig.watch.secret() for field in ("apiKey", "secret", "password")}
    put(server, "kucoin", fields)
    rig.begin()
    adopt(rig)
    path = rig.docs / "tokyo-1.yaml"
    uncomment(rig, "tokyo-1")
    text = path.read_text("utf-8")
    path.write_text(f"# ours\n{text}", "utf-8")
    rig.put("tokyo-1/kucoin", **fields)

    ran = rig.jtr("adopt", "tokyo-1", "--from", str(rig.docs), "--record")

    assert ran.code == 0, ran
    assert path.read_text("utf-8") == f"# ours\n{text}"
    assert statuses(rig.plan("-o", "json")) == {"kucoin": "in sync"}


def test_what_an_apply_found_rotates_after_it_was_recorded(rig: Rig) -> None:
    server = rig.server()
    rig.document(rotate=False)
    connect(rig, "bybit")
    rig.begin()
    found = rig.apply("-o", "json")
    recorded = rig.jtr("adopt", "tokyo-1", "--from", str(rig.docs), "--record")
    fresh = rig.rotate()

    ran = rig.apply("-o", "json")

    assert statuses(found) == {"bybit": "found"}
    assert recorded.code == 0, recorded
    assert (ran.code, results(ran)) == (0, {"bybit": "done"})
    assert server.values() == stored("bybit", fresh)


def test_what_was_found_before_vault_went_on_is_adopted_at_that_version(rig: Rig) -> None:
    """Servers that are blocked already get out of it, too."""
    server = rig.server()
    rig.document(rotate=False)
    connect(rig, "bybit")
    rig.begin()
    rig.apply()
    fresh = rig.rotate()
    blocked = rig.apply()
    recorded = rig.jtr("adopt", "tokyo-1", "--from", str(rig.docs), "--record")

    ran = rig.apply("-o", "json")

    assert (blocked.code, recorded.code) == (4, 0), recorded
    assert f"{rig.reference('tokyo-1/bybit')}@1  recorded as ours" in recorded.out
    assert (ran.code, results(ran)) == (0, {"bybit": "done"})
    assert server.values() == stored("bybit", fresh)
    history = rig.jtr("history", "tokyo-1").out
    assert f"recorded as ours: {rig.reference('tokyo-1/bybit')}@1" in history


def test_what_changes_between_the_two_looks_is_said_and_not_recorded(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.server()
    rig.document(rotate=False)
    connect(rig, "bybit")
    rig.begin()

    async def later(*rest: Any) -> None:
        rig.rotate()
        await record(*rest)

    monkeypatch.setattr("reconciler.cli.adopt.record", later)
    ran = rig.jtr("adopt", "tokyo-1", "--from", str(rig.docs), "--record", *ME)

    assert ran.code == 4, ran
    assert "not recorded: it changed meanwhile" in ran.out


def test_another_hand_after_a_find_is_not_adopted(rig: Rig) -> None:
    server = rig.server()
    rig.document(rotate=False)
    connect(rig, "bybit")
    rig.begin()
    rig.apply()
    own(rig, "bybit")
    theirs = dict(server.values())
    rig.rotate()

    ran = rig.jtr("adopt", "tokyo-1", "--from", str(rig.docs), "--record")

    assert ran.code == 4
    assert rig.apply().code == 4
    assert server.values() == theirs


def test_what_a_document_does_not_name_is_shown_and_not_recorded(rig: Rig) -> None:
    rig.server()
    path = rig.document(rotate=False)
    connect(rig, "bybit")
    connect(rig, "okx")
    text = path.read_text("utf-8")
    rig.begin()

    ran = rig.jtr("adopt", "tokyo-1", "--from", str(rig.docs), "--record", *patterns(rig)[:2])

    assert ran.code == 4
    assert f"exchanges` of its document: okx: {{credentials: {rig.reference('tokyo-1/okx')}}}" in (
        ran.out
    )
    assert path.read_text("utf-8") == text
    assert statuses(rig.plan("-o", "json")) == {"bybit": "in sync", "okx": "not managed"}


def test_a_rotation_says_which_robots_keep_the_adopted_key(rig: Rig) -> None:
    rig.server()
    connect(rig, "bybit")
    rig.begin()
    adopt(rig, "--record")
    rig.rotate()

    assert "robot grid-btc (1) keeps the old key" in rig.plan().out


def test_without_record_nothing_is_ours(rig: Rig) -> None:
    rig.server()
    connect(rig, "bybit")
    rig.begin()
    ran = adopt(rig)
    assert "--record" in ran.out
    found = rig.plan("-o", "json")
    rig.rotate()

    assert statuses(found) == {"bybit": "found"}
    assert rig.apply().code == 4


@pytest.mark.parametrize("shape", ["short", "pem"])
def test_a_weak_mask_is_never_recognised(rig: Rig, shape: str) -> None:
    server = rig.server()
    secret = "abcdefgh-12" if shape == "short" else rig.watch.secret("pem").strip()
    same = connect(rig, "bybit", secret=secret)
    rig.document(rotate=False)
    rig.begin()

    ran = rig.jtr("adopt", "tokyo-1", "--from", str(rig.docs), "--record")
    rig.rotate()

    assert ran.code == 4
    assert "proves too little" in ran.out
    assert "kv put" not in ran.out  # it is there already, as far as anybody can tell
    assert rig.apply().code == 4
    assert server.values() == stored("bybit", same)


def test_another_key_in_the_path_is_not_recognised(rig: Rig) -> None:
    rig.server()
    own(rig, "bybit")
    rig.rotate()
    rig.begin()

    ran = adopt(rig, "--record")

    assert ran.code == 4
    assert "somebody else connected it with another key" in ran.out
    assert written(rig) == {}
    assert statuses(rig.plan("-o", "json")) == {"bybit": "not managed"}


# ── who must agree ───────────────────────────────────────────────────────────────────────────


def test_nobody_agreed_nothing_is_contacted_or_written(rig: Rig, bao: OpenBao) -> None:
    rig.settings(policy=None)
    server = rig.server()
    connect(rig, "bybit")
    rig.begin()

    with asked(bao, rig) as paths:
        ran = adopt(rig, "--record")

    assert ran.code == 4
    assert "--approve-recipient tokyo-1" in ran.out
    assert server.record.handshakes == []
    assert not [path for path in paths if "/data/" in path]
    assert list(rig.docs.iterdir()) == []
    assert adopt(rig, "--record", *ME).code == 0


def test_a_terminal_asks_once_before_anything_is_contacted(rig: Rig) -> None:
    rig.settings(policy=None)
    server = rig.server()
    connect(rig, "bybit")
    rig.begin()
    words = ("adopt", f"tokyo-1={server.url}", *patterns(rig), "--out", str(rig.docs), "--record")

    with Command(rig, *words, terminal=True) as command:
        command.expect("Is it right that tokyo-1 gets this?")
        before = len(server.record.handshakes)
        command.answer("Is it right that tokyo-1 gets this?", "y")
        code = command.ended()

    assert (before, code) == (0, 0)
    assert rig.plan().code == 0


def test_a_policy_that_gives_no_such_secret_keeps_it_out(rig: Rig, bao: OpenBao) -> None:
    server = rig.server()
    connect(rig, "bybit")
    rule = {
        "name": "login",
        "servers": {"urls": [server.url]},
        "secrets": [f"secret/{rig.path('tokyo-1')}"],
        "actions": ["all"],
    }
    rig.settings(policy=rig.policy(rules=[rule]))
    rig.begin()

    with asked(bao, rig) as paths:
        ran = adopt(rig, "--record")

    assert ran.code == 4
    assert "no rule allows it" in ran.out
    assert f"secret/data/{rig.path('tokyo-1/bybit')}" not in paths
    assert written(rig) == {}


def test_a_secret_of_another_address_keeps_it_out(rig: Rig) -> None:
    rig.server()
    connect(rig, "bybit")
    rig.bao.bind(rig.path("tokyo-1/bybit"), "https://elsewhere.internal:8443")
    rig.begin()

    ran = adopt(rig, "--record")

    assert ran.code == 4
    assert "jtr_targets" in ran.out
    assert written(rig) == {}


def test_what_nobody_agreed_to_send_is_not_recorded(rig: Rig) -> None:
    """The owner of the login named the server; the owner of the key did not."""
    rig.settings(policy=None)
    server = rig.server()
    connect(rig, "bybit")
    rig.bao.bind(rig.path("tokyo-1"), server.url)
    rig.begin()

    ran = adopt(rig, "--record")
    rig.rotate()

    assert ran.code == 4
    assert "not recorded: nobody agreed yet" in ran.out
    assert rig.apply().code == 4
    assert server.record.saves == 0


def test_what_an_apply_found_and_nobody_agreed_to_is_not_recorded(rig: Rig) -> None:
    rig.settings(policy=None)
    server = rig.server()
    rig.document("tokyo-1")
    rig.begin()
    rig.apply(*ME)
    rig.document("tokyo-1", "bybit", "okx", rotate=False)
    connect(rig, "okx")
    found = rig.apply("-o", "json")
    words = ("adopt", "tokyo-1", "--from", str(rig.docs), "--record")

    refused = rig.jtr(*words)
    recorded = rig.jtr(*words, *ME)
    fresh = rig.rotate(exchange="okx")
    ran = rig.apply("-o", "json")

    assert statuses(found)["okx"] == "found"
    assert refused.code == 4
    assert "not recorded: nobody agreed yet" in refused.out
    assert recorded.code == 0, recorded
    assert (ran.code, results(ran)) == (0, {"okx": "done"}), "and it rotates without a question"
    assert stored("okx", fresh).items() <= server.values().items()


# ── mistakes ─────────────────────────────────────────────────────────────────────────────────


def test_an_existing_file_is_never_written_over(rig: Rig) -> None:
    server = rig.server()
    connect(rig, "bybit")
    path = rig.write("tokyo-1.yaml", "# mine\n")

    ran = adopt(rig)

    assert ran.code == 64
    assert "tokyo-1.yaml is there already" in ran.err
    assert path.read_text("utf-8") == "# mine\n"
    assert server.record.handshakes == []


def test_programs_are_told_the_same(rig: Rig) -> None:
    rig.server()
    connect(rig, "bybit")
    own(rig, "kucoin")
    rig.begin()

    ran = adopt(rig, "--record", "-o", "json")

    found = json.loads(ran.out)
    assert (ran.code, found["exitCode"]) == (4, 4)
    (server,) = found["servers"]
    assert server["document"] == str(rig.docs / "tokyo-1.yaml")
    bybit, kucoin = server["exchanges"]
    assert (bybit["recognised"], bybit["recordedVersion"]) == (True, 1)
    assert bybit["secret"] == rig.reference("tokyo-1/bybit")
    assert (kucoin["recognised"], kucoin["recordedVersion"]) == (False, None)
    assert kucoin["fillCommand"].startswith("bao kv put -mount=secret -cas=0 ")


def test_what_was_written_before_a_failure_is_listed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["tokyo-1", "tokyo-2", "tokyo-3"]
    for number, name in enumerate(names):
        rig.server(name, pid=1000 + number)
        connect(rig, "bybit", name)
    rig.begin()

    def full(path: str, text: str) -> None:
        if path.endswith("tokyo-2.yaml"):
            raise JtrError("the disk is full", "make room")
        write_new(path, text)

    monkeypatch.setattr("reconciler.cli.adopt.write_new", full)
    ran = adopt(rig, "--record")

    assert ran.code == 1
    assert "2 documents written" in ran.out
    assert ran.out.count("  wrote ") == 2
    assert "! the disk is full" in ran.out
    assert sorted(path.name for path in rig.docs.iterdir()) == ["tokyo-1.yaml", "tokyo-3.yaml"]
    # Nothing is ours of a server that has no document.
    assert ran.out.count("recorded as ours") == 2 + 1  # and their number
    assert "tokyo-2" not in rig.jtr("status").out


def test_a_server_that_a_document_names_already_is_not_drafted_again(rig: Rig) -> None:
    server = rig.server()
    rig.document("other", rotate=False, url=server.url)

    ran = adopt(rig)

    assert ran.code == 3
    assert server.record.handshakes == []
    assert not (rig.docs / "tokyo-1.yaml").exists()


def test_an_unreachable_server_leaves_no_document_and_the_others_go_on(rig: Rig) -> None:
    rig.server()
    connect(rig, "bybit")
    rig.put("gone", access_secret=rig.watch.secret())

    ran = rig.jtr(
        "adopt",
        f"tokyo-1={rig.servers['tokyo-1'].url}",
        "gone=http://127.0.0.1:9",
        *patterns(rig),
        "--out",
        str(rig.docs),
    )

    assert ran.code == 6
    assert [path.name for path in rig.docs.iterdir()] == ["tokyo-1.yaml"]


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("--out", "OUT"), "Missing argument", 64),
        (("tokio-1", "--from", "DOCS"), "no server is called tokio-1", 64),
        (("http://127.0.0.1:1", "--out", "OUT"), "NAME=URL", 64),
        (("http://localhost:1", "--out", "OUT"), "NAME=URL", 64),
        (("http://a.b@[::1]", "--out", "OUT"), "never carries a user", 3),
        (("Bad_Name=http://127.0.0.1:1", "--out", "OUT"), "no name of a server", 64),
        (("../x=http://127.0.0.1:1", "--out", "OUT"), "no name of a server", 64),
        (("a=http://127.0.0.1:1", "a=http://127.0.0.1:2", "--out", "OUT"), "twice", 64),
        (("a=http://127.0.0.1:1", "--paths", "secret/{server}/{exchange}"), "--out", 64),
        (("a=http://x.internal:1", "--out", "OUT"), "http:// would carry every key", 3),
        (("a=http://127.0.0.1:1", "--out", "OUT", "--paths", "secret/jt/{name}"), "{name}", 64),
        (("a=http://127.0.0.1:1", "--out", "OUT", "--paths", "secret/jt"), "{exchange}", 64),
        (("a=http://127.0.0.1:1", "--out", "OUT", "--paths", "secret/{exchange}#x"), "#FIELD", 64),
        (("a=http://127.0.0.1:1", "--out", "OUT", "--access-secret", "secret/x"), "#FIELD", 64),
        (("a=http://127.0.0.1:1", "--out", "OUT", "--access-secret", "s3cr3tv4lue"), "#FIELD", 64),
    ],
)
def test_a_mistake_on_the_command_line_changes_nothing(
    rig: Rig, words: tuple[str, ...], said: str, code: int
) -> None:
    rig.document("tokyo-1", rotate=False)
    out = rig.home / "new"
    named = {"OUT": str(out), "DOCS": str(rig.docs)}

    ran = rig.jtr("adopt", *(named.get(word, word) for word in words))

    assert ran.code == code, ran
    assert said in ran.err
    assert "s3cr3tv4lue" not in ran.text
    assert not Path(out).exists()


def test_a_url_alone_is_called_like_its_host(rig: Rig) -> None:
    out = str(rig.docs)
    ran = rig.jtr("adopt", "https://tokyo-7.invalid:8443", *patterns(rig), "--out", out)

    assert ran.code != 64
    assert ran.out.startswith("tokyo-7  https://tokyo-7.invalid:8443  account 0")


def test_recording_needs_a_ledger(rig: Rig) -> None:
    server = rig.server()
    connect(rig, "bybit")

    ran = adopt(rig, "--record")

    assert ran.code != 0
    assert "jtr ledger init" in ran.text
    assert server.record.handshakes == []
    assert list(rig.docs.iterdir()) == []


def test_a_name_that_a_server_made_up_goes_into_no_path() -> None:
    """The codes are the server's words: they must lead to no other secret."""
    for code in ("../other", "a/b", "x y", "$(reboot)", "", "ä", "x" * 41):
        assert candidate("secret/jt/{server}/{exchange}", "tokyo-1", code) is None
    found = candidate("secret/jt/{server}/{exchange}", "tokyo-1", "bybit")
    assert str(found) == "vault:secret/jt/tokyo-1/bybit"
