"""Hypothesis strategies for configuration: valid documents as text, and hostile YAML as bytes."""

import json
import string
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

NAMES = st.text("abcdefghij0123456789-", min_size=1, max_size=12)
CODES = st.sampled_from(["bybit", "okx", "gateio", "kucoin", "mexc", "bybit-testnet", "htx"])
WORDS = st.text(string.ascii_lowercase, min_size=1, max_size=8)
LINES = st.lists(WORDS, min_size=1, max_size=5).map(" ".join)
INSTANTS = st.integers(1_600_000_000, 1_900_000_000).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
)
DURATIONS = st.sampled_from(["1s", "250ms", "1m30s", "24h", "12h"])
PERMISSIONS = st.lists(
    st.sampled_from(["spot", "perpetual", "delivery", "account_read"]), unique=True, max_size=4
)
LABELS = st.dictionaries(WORDS, WORDS, max_size=3)


def _paths() -> st.SearchStrategy[str]:
    segments = st.lists(WORDS, min_size=1, max_size=3).map("/".join)
    return segments.map(lambda path: f"vault:secret/{path}")


@st.composite
def _exchanges(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["absent", "secret", "fields", "pinned"]))
    if kind == "absent":
        return {"state": "absent"}
    found: dict[str, Any] = {"credentials": draw(_paths())}
    names = draw(st.sets(st.sampled_from(["apiKey", "secret", "password", "uid"]), min_size=1))
    if kind == "fields":
        found["credentials"] = {n: f"{found['credentials']}#{n}" for n in sorted(names)}
    if kind == "pinned":
        found["credentials"] = {n: f"{draw(_paths())}#{n}@{i}" for i, n in enumerate(names, 1)}
    if draw(st.booleans()):
        found["takeOver"] = draw(st.booleans())
    if draw(st.booleans()):
        found["security"] = {"permissions": {"allow": draw(PERMISSIONS)}}
    return found


@st.composite
def servers(draw: st.DrawFn, name: str | None = None) -> dict[str, Any]:
    """One valid TradingServer document as JSON values; the address follows from the name."""
    name = name or draw(NAMES)
    spec: dict[str, Any] = {"url": f"https://s{name.replace('-', 'x')}.test:8443"}
    spec["exchanges"] = draw(st.dictionaries(CODES, _exchanges(), max_size=3))
    optional: dict[str, st.SearchStrategy[Any]] = {
        # Never a path of credentials: one secret is not both.
        "accessSecret": _paths().map(lambda path: f"{path}/login#access_secret"),
        "mode": st.sampled_from(["enforce", "observe"]),
        "selfHeal": st.booleans(),
        "soleAccount": st.booleans(),
        "robots": st.fixed_dictionaries(
            {"onCredentialChange": st.sampled_from(["leave", "restart"])}
        ),
        "suspend": st.fixed_dictionaries(
            {"reason": LINES, "by": LINES}, optional={"until": INSTANTS}
        ),
        "cache": st.fixed_dictionaries(
            {"invalidatedAfter": INSTANTS, "reason": LINES}, optional={"expiresAfter": DURATIONS}
        ),
    }
    for key in draw(st.sets(st.sampled_from(sorted(optional)))):
        spec[key] = draw(optional[key])
    if draw(st.booleans()):
        spec["supervised"] = True
        spec["reboot"] = {"bootedAfter": draw(INSTANTS), "robots": "resume", "reason": "x"}
    return {
        "apiVersion": "jtr/v1",
        "kind": "TradingServer",
        "metadata": {"name": name, "labels": draw(LABELS), "owner": draw(LINES)},
        "spec": spec,
    }


def block_yaml(value: object, indent: int = 0) -> str:
    """Write JSON values as YAML: mappings as blocks, everything else as JSON, which is YAML."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value)
    pad = " " * indent
    lines = []
    for key, child in value.items():
        nested = isinstance(child, dict) and child
        gap = "\n" if nested else " "
        lines.append(f"{pad}{json.dumps(key)}:{gap}{block_yaml(child, indent + 2)}")
    return "\n".join(lines)


@st.composite
def fleets(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Valid documents of several servers with different names and addresses."""
    # `-` becomes `x` in the address, which no name holds.
    names = draw(st.lists(NAMES, unique=True, min_size=1, max_size=3))
    return [draw(servers(name)) for name in names]


def valid_documents() -> st.SearchStrategy[str]:
    """Valid desired state as YAML text."""
    return fleets().map(lambda fleet: "\n---\n".join(block_yaml(one) for one in fleet) + "\n")


# ── what must never get further than a message ───────────────────────────────────────────────

_EVIL = st.sampled_from(
    [
        *("&a ", "*a", "!!str ", "! ", "<<: ", "%YAML 1.1\n", "%TAG ! x\n", "---\n", "...\n"),
        *("? ", ": ", "- ", "[", "]", "{", "}", ", ", "|\n", ">-\n", "'", '"', "\\", "#", "@", "`"),
        *("\t", "\r", "\r\n", "\n", "\n  ", "\0", "\x1b[31m", "\u202e", "\u2028", "\x85", "\ufeff"),
        *(".inf", ".nan", "1e999", "0x", "0o8", "~", "null", "yes", "0", "-0", "1_000", "9" * 400),
        *('"\\ud800"', '"\\x00"', "2026-13-45", "12:30:45", "jtr/v1", "apiVersion: jtr/v1\n"),
        *("kind: TradingServer\n", "kind: Defaults\n", "metadata: {name: a}\n", "spec:\n", "url: "),
        *("https://a.test", "http://[", "vault:", "vault:a/../b#c", "exchanges: ", "credentials: "),
        *("reboot: {}", "selector: {}", "{server}", "windows: [{}]", "security: ", "a" * 2000),
        *("[" * 50, "- " * 50, "é", "\U0001f600"),
    ]
)


@st.composite
def hostile_yaml(draw: st.DrawFn) -> bytes:
    """Bytes that nobody would write by mistake, some of them a valid document with a wound."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1:
        return "".join(draw(st.lists(_EVIL, max_size=25))).encode()
    if kind == 2:
        return draw(st.text(max_size=80)).encode()
    text = draw(valid_documents())
    begin = draw(st.integers(0, len(text)))
    end = draw(st.integers(begin, min(len(text), begin + 20)))
    return (text[:begin] + draw(_EVIL) + text[end:]).encode()
