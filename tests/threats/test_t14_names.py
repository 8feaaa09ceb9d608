"""T14: names that lead elsewhere: out of a folder, into another line, label or cell."""

import io
import json
import logging
import re
import unicodedata
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.documents.load import load
from reconciler.errors import InvalidConfig
from reconciler.ledger import checked
from reconciler.ledger.codec.rows import brake_key, exchange_key, segment
from reconciler.render.escape import plain
from reconciler.system.log_setup import JsonFormatter, RedactingHandler

HOSTILE = (
    *("../../etc/x", "/etc/passwd", "a/b", ".", "..", "a\0b", "a\nb", "a\r\nb", "a\u2028b", "CON"),
    *('a"} 1\njtr_up{x="', "=cmd|' /C calc'!A0", "@SUM(1)", "+1", "-1", "a,b;c", "\x1b[2J", ""),
    *("::set", "<script>", "![x](//e)", "@channel", "<!here>", "%2e%2e", "a" * 5000, "\ud800"),
    "\u202e",
)
names = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=()), max_size=40)


@settings(deadline=None, max_examples=300)
@given(name=names)
def test_t14_a_key_of_the_ledger_stays_one_segment(name: str) -> None:
    part = segment(name)

    assert re.fullmatch(r"[a-z0-9_.-]{1,200}", part)
    assert part not in (".", "..")
    for key in (exchange_key("u1", name), brake_key(name)):
        assert checked(key) == key
        resolved = (Path("/ledger") / key).resolve()
        assert resolved.is_relative_to(Path("/ledger") / key.split("/", maxsplit=1)[0])


@settings(deadline=None, max_examples=300)
@given(first=names, second=names)
def test_t14_two_names_are_never_one_row(first: str, second: str) -> None:
    assert (segment(first) == segment(second)) == (first == second)


@settings(deadline=None, max_examples=150)
@given(name=names)
def test_t14_a_server_has_a_plain_name_or_none(name: str) -> None:
    text = json.dumps({"name": name})
    data = (
        f"apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {text}\n"
        "spec: {url: https://a.test, exchanges: {}}\n"
    )
    place = str(Path("/nowhere/a.yaml"))
    try:
        loaded = load([place], {place: data.encode()})
    except InvalidConfig:
        return
    assert re.fullmatch(r"[a-z0-9-]{1,63}", loaded.state.servers[0].name)


@settings(deadline=None, max_examples=300)
@given(name=names)
def test_t14_one_event_is_one_line_of_the_log(name: str) -> None:
    stream = io.StringIO()
    log = logging.Logger("threat")  # noqa: LOG001  - of this test alone
    log.addHandler(RedactingHandler(stream, JsonFormatter()))
    log.warning("applied %s", name, extra={"fields": {"server": name, "message": "forged"}})

    assert stream.getvalue().endswith("\n")
    (line,) = stream.getvalue().splitlines()
    row = json.loads(line)
    assert (row["message"], row["server"]) == (f"applied {name}", name)


@settings(deadline=None, max_examples=300)
@given(name=names)
def test_t14_what_others_call_something_is_one_line_for_people(name: str) -> None:
    shown = plain(name)

    assert all(c.isprintable() or unicodedata.category(c) == "Zs" for c in shown)
    assert len(shown.splitlines()) <= 1
    assert len(shown) <= 201
