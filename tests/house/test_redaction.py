"""A secret does not show itself, and what writes log lines blots out those that are alive."""

import base64
import copy
import dataclasses
import gc
import io
import json
import logging
import pickle
import pprint
import string
import threading
import traceback
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from reconciler.model import secret as secret_module
from reconciler.model.observed import Mask
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.system import log_setup, redaction
from reconciler.system.redaction import Shapes, redacted
from tests.support.canaries import canaries, find_leaks
from tests.support.rig import Rig

# These are not the secrets of the test's `watch`: it would rightly complain about the controls.
CANARIES = canaries(20_261_122)
SHAPES = [canary.shape for canary in CANARIES]
VALUES = {canary.shape: canary.value for canary in CANARIES}
LIBRARIES = (
    *("urllib3.connectionpool", "requests.sessions", "hvac.adapters"),
    *("socketio.client", "engineio.client"),
)


def in_base64(shift: int) -> Callable[[str], str]:
    """Encode a value that begins *shift* bytes into a group of three."""

    def encode(value: str) -> str:
        return base64.b64encode(b"user:"[: 3 + shift] + value.encode() + b"tail").decode()

    return encode


FORMS: dict[str, Callable[[str], str]] = {
    "raw": lambda value: value,
    "repr": lambda value: repr({"key": value}),
    "bytes": lambda value: repr({"key": value.encode()}),
    "json": lambda value: json.dumps({"key": value}),
    "json utf-8": lambda value: json.dumps({"key": value}, ensure_ascii=False),
    "json in json": lambda value: json.dumps({"body": json.dumps({"key": value})}),
    "url": lambda value: "https://x/?k=" + urllib.parse.quote(value, safe=""),
    "url path": lambda value: "https://x/" + urllib.parse.quote(value),
    "form": lambda value: urllib.parse.urlencode({"k": value}),
    "hex": lambda value: value.encode().hex(),
    "HEX": lambda value: value.encode().hex().upper(),
    "base64+0": in_base64(0),
    "base64+1": in_base64(1),
    "base64+2": in_base64(2),
    "base64url": lambda value: base64.urlsafe_b64encode(value.encode() + b"tail").decode(),
}

# The suite's own search does not look for these; `redacted` does.
ESCAPED_TWICE = {("bytes", "unicode"), ("json in json", "unicode")}


@dataclasses.dataclass(frozen=True)
class Holder:
    """What people will write one day: a value that holds a secret."""

    secret: Secret
    name: str = "tokyo-1"


class HoldingStruct(msgspec.Struct, frozen=True):
    """The same, as our own values are made."""

    secret: Secret
    name: str = "tokyo-1"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Set logging up as `jtr --debug` does, and put it back afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in log_setup.NOISY}
    stream = io.StringIO()
    log_setup.set_up(debug=True, stream=stream)
    yield stream
    root.handlers[:], level = before
    root.setLevel(level)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


# ── what is redacted ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_every_shape_is_blotted_out(form: str, shape: str) -> None:
    living = Secret(VALUES[shape])
    line = f"before {FORMS[form](living.reveal())} after"

    if (form, shape) not in ESCAPED_TWICE:
        assert find_leaks(line.encode(), CANARIES), "control: the line holds it"
    assert find_leaks(redacted(line).encode(), CANARIES) == []
    assert FORMS[form](living.reveal()) not in redacted(line)
    assert redacted(line).startswith("before ")


texts = st.text(
    st.characters(exclude_categories=["Cs"]), min_size=8, max_size=60
)  # a server's answer can hold lone surrogates, a value from Vault's JSON cannot be encoded then


@given(value=texts, form=st.sampled_from(sorted(FORMS)), around=st.text(max_size=10))
@example(value="********", form="raw", around="*****")
@example(value="***aaaaaaaa", form="raw", around="aaaaaaaa")
@example(value="abababab", form="raw", around="ab")
@example(value="a'b\"c\\d\n", form="json in json", around="")
def test_no_text_of_eight_characters_survives(value: str, form: str, around: str) -> None:
    living = Secret(value)
    written = FORMS[form](value)
    line = f"{around}{written}{around}"
    shown = redacted(line)

    assert living.reveal() not in shown
    assert written not in shown
    assert find_leaks(shown.encode(), ()) == []


@given(
    st.lists(st.text(string.ascii_lowercase, min_size=8, max_size=20), min_size=2, max_size=4),
    st.data(),
)
def test_a_secret_within_another_leaves_no_rest(parts: list[str], data: st.DataObject) -> None:
    whole = Secret("".join(parts))
    inner = Secret(data.draw(st.sampled_from(parts)))
    shown = redacted(f"{whole.reveal()} {inner.reveal()}")

    assert shown == "*** ***"


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_of_base64_only_the_characters_that_also_hold_other_bits_stay(shift: int) -> None:
    living = Secret("kX8vQ2mW9pL4")
    written = base64.b64encode(b"x" * shift + living.reveal().encode() + b"tail").decode()
    stays = redacted(written).replace("***", "")

    assert len(written) - len(stays) >= len(living.reveal()) * 8 // 6 - 1


def test_what_is_no_secret_stays() -> None:
    living = Secret("kX8vQ2mW9pL4")
    line = "tokyo-1 bybit: written from vault:secret/jt/tokyo-1/bybit@7"

    assert redacted(line) == line
    assert redacted(f"a {living.reveal()} b") == "a *** b"


def test_a_dropped_secret_is_held_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[tuple[int, str]] = []
    real = Shapes.add

    def add(self: Shapes, number: int, value: str) -> None:
        known.append((number, value))
        real(self, number, value)

    monkeypatch.setattr(Shapes, "add", add)
    value = f"{'kX8vQ2mW'}9pL4"
    first, second = Secret(value), Secret(value)
    assert redacted(value) == "***"
    assert [one for _, one in known] == [value, value]
    held = redaction._KNOWN._of
    assert held.keys() >= {number for number, _ in known}

    del first
    gc.collect()
    assert redacted(value) == "***"
    del second
    gc.collect()
    assert not held.keys() & {number for number, _ in known}
    assert redacted(value) == value


def test_a_line_costs_the_same_however_many_secrets_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []
    real = redaction._shapes

    def shapes(value: str) -> Iterator[str]:
        made.append(value)
        return real(value)

    monkeypatch.setattr(redaction, "_shapes", shapes)
    living = [Secret(f"{number:020d}") for number in range(500)]
    redacted("the first line makes their shapes")
    assert len(made) >= 500
    made.clear()

    assert redacted(f"the second one finds {living[7].reveal()}") == "the second one finds ***"
    assert not made


def test_a_line_does_not_look_at_the_places_of_secrets_that_it_knows_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Walked(dict[int, None]):
        """A dict with holes is walked hole by hole: who looks for its first one pays for all."""

        def __iter__(self) -> Iterator[int]:
            raise AssertionError("somebody walks through all that were ever born")

        keys = items = values = __iter__  # type: ignore[assignment]

    monkeypatch.setattr(secret_module, "_BORN", Walked())
    living = [Secret(f"{number:020d}") for number in range(50)]
    gone = Secret("gone before it was taken")
    del gone

    taken = dict(secret_module.take_born())

    assert sorted(map(Secret.reveal, taken.values())) == [one.reveal() for one in living]
    assert not secret_module.take_born()
    living.append(Secret("born later"))
    assert [one.reveal() for _, one in secret_module.take_born()] == ["born later"]


def test_secrets_that_end_while_a_line_is_written_are_no_trouble() -> None:
    """Python may collect them on any thread, and in the middle of anything."""
    thresholds = gc.get_threshold()
    gc.set_threshold(50)  # so it does it often, and few of them wait for it

    def make() -> None:
        for _ in range(2_000):
            ring: list[object] = [Secret(uuid.uuid4().hex)]
            ring.append(ring)  # only the collector ends this one

    threads = [threading.Thread(target=make) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        lines = 0
        while any(thread.is_alive() for thread in threads):
            living = Secret(uuid.uuid4().hex)
            assert redacted(f"a {living.reveal()} b") == "a *** b"
            lines += 1
    finally:
        for thread in threads:
            thread.join()
        gc.set_threshold(*thresholds)
    assert lines


# ── log lines ────────────────────────────────────────────────────────────────────────────────


def fails(value: str) -> None:
    """Raise what libraries raise: an exception that quotes what it was given."""
    headers: dict[str, str] = {}
    try:
        headers[value]
    except KeyError as error:
        raise ValueError(f"bad header {value!r}") from error


@pytest.mark.parametrize("shape", SHAPES)
def test_messages_arguments_and_tracebacks_pass_through_the_handler(
    shape: str, lines: io.StringIO
) -> None:
    living = Secret(VALUES[shape])
    log = logging.getLogger("reconciler.test_redaction")
    plain = io.StringIO()
    unsafe = logging.StreamHandler(plain)
    log.addHandler(unsafe)
    try:
        log.debug(living.reveal())
        log.info("one %s, one %r", living.reveal(), {"secret": living.reveal()})
        try:
            fails(living.reveal())
        except ValueError:
            log.exception("it failed")
    finally:
        log.removeHandler(unsafe)

    assert find_leaks(plain.getvalue().encode(), CANARIES), "control: a usual handler shows it"
    assert find_leaks(lines.getvalue().encode(), CANARIES) == []
    assert lines.getvalue().count("***") >= 4
    assert "Traceback" in lines.getvalue()


@pytest.mark.parametrize("name", LIBRARIES)
def test_lines_of_libraries_are_quiet_below_warning_and_redacted_above(
    name: str, lines: io.StringIO
) -> None:
    living = Secret(VALUES["base62"])
    log = logging.getLogger(name)
    before = log.level
    log.setLevel(logging.NOTSET)
    try:
        log.debug("Sending packet MESSAGE data %s", living.reveal())
        log.info("X-Vault-Token: %s", living.reveal())
        assert lines.getvalue() == ""
        log.warning("Retrying: %s", base64.b64encode(living.reveal().encode()).decode())
        # Somebody turned it up: the lines come, and without the secret.
        log.setLevel(logging.DEBUG)
        log.debug("Sending packet MESSAGE data %s", living.reveal())
    finally:
        log.setLevel(before)

    assert len(lines.getvalue().splitlines()) == 2
    assert find_leaks(lines.getvalue().encode(), CANARIES) == []


def test_a_line_that_cannot_be_formatted_does_not_print_its_arguments(
    lines: io.StringIO, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    living = Secret(VALUES["base62"])
    log = logging.getLogger("reconciler.test_redaction")
    ours = [h for h in logging.getLogger().handlers if isinstance(h, log_setup.RedactingHandler)]
    monkeypatch.setattr(logging.getLogger(), "handlers", ours)  # pytest's own would raise
    log.warning("%d robots", living.reveal())

    assert lines.getvalue() == ("a log line of reconciler.test_redaction could not be written\n")
    assert find_leaks(capsys.readouterr().err.encode(), CANARIES) == []


def test_setting_up_again_replaces_the_handler_and_keeps_those_of_others() -> None:
    root = logging.getLogger()
    before = root.handlers[:]
    first, second = io.StringIO(), io.StringIO()
    try:
        log_setup.set_up(debug=False, stream=first)
        log_setup.set_up(debug=False, stream=second)
        logging.getLogger("reconciler.test_redaction").warning("a word")
        logging.getLogger("reconciler.test_redaction").debug("not this one")
        log_setup.ensure()
        log_setup.ensure()
        ours = [h for h in root.handlers if isinstance(h, log_setup.RedactingHandler)]

        assert first.getvalue() == ""
        assert second.getvalue().endswith("a word\n")
        assert len(second.getvalue().splitlines()) == 1
        assert len(ours) == 1
        others = [h for h in before if not isinstance(h, log_setup.RedactingHandler)]
        assert set(others) <= set(root.handlers)
    finally:
        root.handlers[:] = before


def test_a_debug_run_of_the_real_command_shows_no_secret(rig: Rig) -> None:
    server = rig.server()
    rig.document("tokyo-1", "bybit")
    rig.begin()
    ran = rig.process("--debug", "apply", str(rig.docs), "--auto-approve")

    assert (ran.code, server.record.saves) == (0, 1), ran.err
    assert rig.watch.found == []


# ── a secret alone ───────────────────────────────────────────────────────────────────────────


def locals_of_a_traceback(secret: object) -> str:
    """Return a traceback that shows local variables, as error reporters write it."""
    try:
        int(secret)  # type: ignore[call-overload]  # it is to fail
    except (TypeError, ValueError) as error:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert "secret = " in "".join(told.format()), type(secret)
    return "".join(told.format())


def walked(secret: object) -> str:
    """Return what a program that lists attributes would print."""
    return "\n".join(f"{name}={getattr(secret, name)!r}" for name in dir(secret))


def inspected(secret: object) -> str:
    """Return what rich shows of an object with everything that it can find."""
    from rich import inspect  # noqa: PLC0415  - it would shadow the module of that name

    console = Console(file=io.StringIO(), width=400)
    inspect(secret, console=console, all=True, private=True, dunder=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def prettied(secret: object) -> str:
    """Return what rich prints."""
    console = Console(file=io.StringIO(), width=400)
    console.print({"secret": secret}, [secret])
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


SHOWN: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": str,
    "ascii": ascii,
    "format": lambda secret: f"{secret} {secret!r} {secret!s} {secret:>40} {secret:.5} {secret:^9}",
    "percent": lambda secret: "%s %r %a %.9s" % ((secret,) * 4),
    "str.format": lambda secret: "{0} {0!r:>30}".format(secret),  # noqa: PLW0108, UP032  - as people write it
    "template": lambda secret: string.Template("$x").substitute(x=secret),
    "container": lambda secret: f"{[secret]} {(secret,)} { {'k': secret} }",
    "pprint": lambda secret: pprint.pformat({"k": [secret]}),
    "json default": lambda secret: json.dumps({"k": secret}, default=str),
    "locals": locals_of_a_traceback,
    "dir": walked,
    "rich": prettied,
    "rich inspect": inspected,
    "exception": lambda secret: str(ValueError(secret)) + repr(KeyError(secret)),
}
REFUSED: dict[str, Callable[[Any], object]] = {
    "json": json.dumps,
    "pickle": pickle.dumps,
    "pickle 0": lambda secret: pickle.dumps(secret, protocol=0),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "asdict": lambda secret: dataclasses.asdict(Holder(secret)),
    "astuple": lambda secret: dataclasses.astuple(Holder(secret)),
    "to_builtins": lambda secret: msgspec.to_builtins(HoldingStruct(secret)),
    "msgspec.json": lambda secret: msgspec.json.encode(HoldingStruct(secret)),
    "copy of a struct": lambda secret: copy.deepcopy(HoldingStruct(secret)),
    "pickle of a struct": lambda secret: pickle.dumps(HoldingStruct(secret)),
    "vars": vars,
    "getstate": lambda secret: secret.__getstate__(),
    "bytes": bytes,
    "join": "".join,
    "yaml": yaml.dump,
    "iterate": list,
    "number": lambda secret: "%d" % secret,  # noqa: UP031  - it is tested
    "add": lambda secret: secret + "",
}


@pytest.mark.parametrize("kind", [Secret, Mask])
@pytest.mark.parametrize("way", SHOWN)
def test_it_does_not_show_itself(way: str, kind: type) -> None:
    for shape in SHAPES:
        value = VALUES[shape] if kind is Secret else mask_of(VALUES[shape])
        shown = SHOWN[way](kind(value))

        assert value not in shown
        assert find_leaks(shown.encode("utf-8", "surrogatepass"), CANARIES) == []


@pytest.mark.parametrize("kind", [Secret, Mask])
@pytest.mark.parametrize("way", REFUSED)
def test_it_is_not_turned_into_anything(way: str, kind: type) -> None:
    value = VALUES["base62"] if kind is Secret else mask_of(VALUES["base62"])
    with pytest.raises((TypeError, yaml.YAMLError)) as caught:
        REFUSED[way](kind(value))

    assert value not in str(caught.value)
    assert value not in repr(caught.value)


def mask_of(value: str) -> str:
    """Return what a server shows of a value."""
    return f"{value[:3]}***{value[-3:]}"


def test_positive_control_a_plain_class_shows_itself_in_these_ways() -> None:
    class Plain:
        def __init__(self, text: str) -> None:
            self._text = text

        def __repr__(self) -> str:
            return f"Plain({self._text})"

        def __format__(self, spec: str) -> str:
            return format(repr(self), spec)

    value = VALUES["base62"]
    found = {way for way, show in SHOWN.items() if value in show(Plain(value))}

    assert found == set(SHOWN)
    assert value in str(REFUSED["vars"](Plain(value)))
    assert value in str(REFUSED["getstate"](Plain(value)))


def test_a_value_that_holds_one_prints_without_it() -> None:
    held = Holder(Secret(VALUES["base62"]))
    struct = HoldingStruct(Secret(VALUES["base62"]))

    assert repr(held) == "Holder(secret=Secret(***), name='tokyo-1')"
    assert repr(struct) == "HoldingStruct(secret=Secret(***), name='tokyo-1')"
    assert dataclasses.replace(held, name="x").secret is held.secret
    assert replace(struct, name="x").secret is struct.secret


def test_secrets_are_not_compared_hashed_or_judged() -> None:
    one, two = Secret("kX8vQ2mW9pL4"), Secret("kX8vQ2mW9pL4")

    for refused in (
        lambda: one == two,
        lambda: one != two,
        lambda: one == "kX8vQ2mW9pL4",
        lambda: hash(one),
        lambda: {one},
        lambda: bool(one),
        lambda: sorted([one, two]),  # type: ignore[type-var]  # that is the point
        lambda: [two].index(one),
    ):
        with pytest.raises(TypeError) as caught:
            refused()
        assert "kX8" not in str(caught.value)


def test_masks_are_compared_and_an_empty_one_is_false() -> None:
    assert Mask("abc***xyz") == Mask("abc***xyz") != Mask("abc***xyy")
    assert Mask("abc***xyz") != "abc***xyz"
    assert len({Mask("abc***xyz"), Mask("abc***xyz")}) == 1
    assert (bool(Mask("")), bool(Mask("a"))) == (False, True)
    assert (repr(Mask("")), repr(Mask("abc***xyz"))) == ("Mask(empty)", "Mask(***)")
