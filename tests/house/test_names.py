"""
Names that were given up are left nowhere: neither as identifiers nor as pictures in prose.

Words of the field or of plain English that were names of modules once (lines, known, running, gate,
halt, book, route) may name a variable; as a module they are gone.
"""

import io
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CODE = sorted(
    path for top in ("reconciler", "tests", "bench") for path in (ROOT / top).rglob("*.py")
)
PROSE = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "tests/*.md")
    for path in ROOT.glob(pattern)
)

NAMES = {
    # today's name: the old ones
    "PassContext": ("Means",),
    "Execution, ServerApply, HistoryEntry": ("Scene", "scene", "_Deeds", "Deed"),
    "RobotStarter, RequestRunner": ("Robots", "Disruptions"),
    "SharedState, ServerWorker, Workers": ("Yard", "yard", "YARD", "Keeper", "keeper", "keepers"),
    "StatusStore, Dependencies, ResolverCache": ("Board", "board", "Parts", "Kept"),
    "PassHistogram, QueueState, Corrections": ("Histogram", "Timing", "Healing"),
    "Deduplicator, LastSent": ("telling", "Telling", "_Desk", "desk", "Desk", "Told"),
    "SendQueue, Delivery, RateLimit, Sender": (
        *("outbox", "Outbox", "Parcel", "parcel", "PARCEL", "Pace", "Post", "channels"),
    ),
    "RequestLog, request_state": ("RequestBook", "agenda", "Agenda", "settling"),
    "RollbackGuard, GuardedStore": ("watermark", "Watermark", "MarkedStore"),
    "UnrecordedOutcomes": ("emergency", "Emergencies", "emergency_folder"),
    "CircuitOpen, DisruptionBudget": ("Braked", "Turnstile", "turnstile"),
    "Comparison, PlanInput": ("Look", "Judge"),
    "PendingStarts, Recorded": ("Halt", "Remembered", "remembered_view"),
    "RetryPolicy, Callbacks, Timeouts": ("Manners", "manners", "Calls", "Durations"),
    "TextEdit, RequestBlock, RequestKind": ("Splice", "splice", "Wish"),
    "conversation, SessionLimits": ("wire", "Wire", "jt_turns", "Turns"),
    "Rig, server_models, crash_points, faults": (
        *("World", "world", "mortal", "mischief", "Mischief"),
    ),
}
OLD = {old: new for new, olds in NAMES.items() for old in olds}

MODULES = frozenset(
    {
        *("means", "scene", "yard", "keeper", "board", "parts", "conclusions", "statuses"),
        *("schedule", "telling", "outbox", "channels", "agenda", "book", "settling", "passing"),
        *("steady", "watermark", "emergency", "brake", "gate", "lines", "diff", "oneshots"),
        *("restarts", "known", "asking", "arenas", "running", "splice", "wire", "route", "loop"),
        *("doctor_desk", "jt_answers", "jt_masks", "jt_names", "jt_requests", "jt_turns", "checks"),
        *("checkup", "judged_addresses", "judged_permissions", "watchdog", "bearer", "notify"),
    }
)

PICTURES = re.compile(
    r"\b(keepers?|yards?|lanes?|boards?|watermarks?|turnstiles?|outbox|parcels?|agenda|emergency"
    r"|workshop|mischief|halts?)\b",
    re.IGNORECASE,
)
CODE_IN_PROSE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
FILE_IN_PROSE = re.compile(r"`([a-z_]+(?:/[a-z_]+)*\.py)[:`]")


def identifiers(source: str) -> set[str]:
    """The old names that are identifiers in *source*."""
    if not OLD.keys() & set(re.findall(r"\w+", source)):
        return set()  # as nearly always, and in no time
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME} & OLD.keys()


def pictures(text: str) -> list[str]:
    """The old names that *text* speaks of; what stands as code in it is not meant."""
    return PICTURES.findall(CODE_IN_PROSE.sub("", text))


def lost(text: str) -> list[str]:
    """The Python files that *text* names and that are not there."""
    tops = [ROOT / top for top in (".", "reconciler", "tests", "tests/support")]
    named = FILE_IN_PROSE.findall(text)
    return [name for name in named if not any((top / name).is_file() for top in tops)]


def test_no_old_name_is_left_in_the_code() -> None:
    found = {path: identifiers(path.read_text("utf-8")) for path in CODE}

    assert {path: {old: OLD[old] for old in names} for path, names in found.items() if names} == {}


def test_no_module_has_an_old_name() -> None:
    assert [path for path in (ROOT / "reconciler").rglob("*.py") if path.stem in MODULES] == []


def test_prose_speaks_the_names_of_today() -> None:
    texts = {path: path.read_text("utf-8") for path in PROSE}
    found = {path: [*pictures(text), *lost(text)] for path, text in texts.items()}

    assert {path: names for path, names in found.items() if names} == {}


def test_positive_control_an_old_name_is_noticed() -> None:
    code = 'keeper = Keeper("a Yard")  # the scene\nlines = known.running(desk_asia)\n'
    prose = "A *keeper* in `watermark.py`:\n\n```text\nlane\n```\n\nand the dashboard; a lane."

    assert identifiers(code) == {"keeper", "Keeper"}
    assert pictures(prose) == ["keeper", "lane"]
    assert lost("`plan/server.py:plan_server`, `plan/gone.py`, `docs/make.py`") == ["plan/gone.py"]
