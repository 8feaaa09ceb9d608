"""Bad documents and bad command lines: found before anything is contacted."""

import os
from collections.abc import Callable
from pathlib import Path

from reconciler.errors import Exit
from tests.e2e.bad_input_row import APPLY, VALIDATE, Row, Scope, offline
from tests.e2e.bad_input_setup import Setup

_URL = "spec:\n  url: "
_BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
_ENVELOPE = "apiVersion: jtr/v1\nkind: TradingServer\nmetadata: {name: tokyo-2}\n"


def _invalid(name: str, spoil: object, what: str, remedy: str) -> Row:
    """Return a row for documents that every command refuses with 3."""
    assert callable(spoil)
    return Row(name, spoil, offline(Exit.INVALID), what, remedy, Scope.ALL)


def _edited(name: str, old: str, new: str, what: str, remedy: str) -> Row:
    """Return a row for one mistake in an otherwise good document."""
    place = "{docs}/tokyo-1.yaml:"
    return _invalid(name, lambda s: s.edit(old, new), place + what, remedy)


def _added(name: str, content: str | bytes, what: str, remedy: str) -> Row:
    """Return a row for one more file."""
    place = "{docs}/more.yaml:"
    return _invalid(name, lambda s: s.rig.write("more.yaml", content), place + what, remedy)


def _usage(name: str, line: str, what: str, remedy: str, spoil: object = None) -> Row:
    """Return a row for a command line that is refused with 64."""
    return _ends(name, line, Exit.USAGE, what, remedy, spoil)


def _ends(name: str, line: str, code: Exit, what: str, remedy: str, spoil: object = None) -> Row:
    prepare = spoil if callable(spoil) else _nothing
    return Row(name, prepare, {line: code}, what, remedy, Scope.ALL)


def _nothing(_execution: Setup) -> None:
    """Everything is in order; the command line is not."""


def _pasted(setup: Setup) -> None:
    secret = setup.rig.watch.secret("base62")
    setup.edit("{credentials: vault:", f"{{credentials: {secret} }} # vault:")


def _pasted_in_words(setup: Setup) -> None:
    secret = setup.rig.watch.secret("base62-long")
    setup.edit("  exchanges:", f"  owner: {secret}\n  exchanges:")


def _harmful_tag(setup: Setup) -> None:
    trap = setup.home / "owned"
    setup.edit("name: tokyo-1", f"name: !!python/object/apply:os.mkdir [{trap}]")
    setup.later(_untouched, trap)


def _untouched(trap: Path) -> None:
    assert not trap.exists()


def _twin(setup: Setup) -> None:
    text = (setup.docs / "tokyo-1.yaml").read_text("utf-8")
    # Another spelling of the same address.
    text = text.replace("name: tokyo-1", "name: tokyo-2").replace("http://", "HTTP://")
    setup.rig.write("tokyo-2.yaml", text.replace("HTTP://", "http://"))


def _same_name(setup: Setup) -> None:
    text = (setup.docs / "osaka-1.yaml").read_text("utf-8")
    setup.rig.write("more.yaml", text.replace(":", ":", 1).replace(setup.good.url, "https://x.y"))


def _loop(setup: Setup) -> None:
    (setup.docs / "one.yaml").symlink_to("two.yaml")
    (setup.docs / "two.yaml").symlink_to("one.yaml")


def _dangling(setup: Setup) -> None:
    (setup.docs / "gone.yaml").symlink_to("nowhere.yaml")


def _leads_out(setup: Setup) -> None:
    outside = setup.home / "outside.yaml"
    outside.write_text("apiVersion: jtr/v1\n", "ascii")
    (setup.docs / "link.yaml").symlink_to(outside)


def _fifo(setup: Setup) -> None:
    os.mkfifo(setup.docs / "pipe.yaml")


def _foreign_only(setup: Setup) -> None:
    folder = setup.home / "manifests"
    folder.mkdir()
    (folder / "pod.yaml").write_text("apiVersion: v1\nkind: Pod\n", "ascii")


def _void(setup: Setup) -> None:
    (setup.home / "void").mkdir()


def _plan_file(setup: Setup) -> None:
    (setup.home / "plan.json").write_text("{}", "ascii")


_UNREADABLE = Path("/proc/self/mem")  # a regular file; reading its beginning fails, also for root

DOCUMENTS = (
    _edited(
        "unknown key",
        "  accessSecret:",
        "  accesSecret:",
        "6:3: accesSecret is not known in spec",
        "did you mean accessSecret?",
    ),
    _edited(
        "unknown key that resembles nothing",
        "  accessSecret:",
        "  colour:",
        "6:3: colour is not known in spec",
        "known here: … accessSecret, … url",
    ),
    _invalid(
        "missing key",
        lambda s: s.edit(f"  url: {s.address}\n", ""),
        "{docs}/tokyo-1.yaml:5:3: spec has no url",
        "add url: https://",
    ),
    _edited(
        "wrong type: a number for text",
        "  exchanges:",
        "  account: 7\n  exchanges:",
        "7:12: spec.account must be text, but YAML reads it as a number",
        "double quotes",
    ),
    _edited(
        "wrong type: a word for true or false",
        "  exchanges:",
        "  supervised: yes\n  exchanges:",
        "7:15: spec.supervised must be true or false",
        "write true or false",
    ),
    _edited(
        "wrong type: a list for a mapping",
        "    bybit: {credentials: ",
        "    kucoin: [present]\n    bybit: {credentials: ",
        "8:13: spec.exchanges.kucoin must be a mapping",
        "write",
    ),
    _edited(
        "duplicate key",
        "  accessSecret:",
        "  url: https://elsewhere.example\n  accessSecret:",
        "6:3: this key stands already in line 5, column 3",
        "keep one of the two",
    ),
    _edited(
        "duplicate exchange",
        "    bybit: ",
        "    okx: {state: absent}\n    bybit: ",
        "10:5: this key stands already in line 8",
        "keep one of the two",
    ),
    _added(
        "alias bomb",
        _ENVELOPE + _BOMB,
        "5:8: aliases (*name) are not used here",
        "write the value out",
    ),
    _added(
        "merge key",
        _ENVELOPE + "spec: {<<: {url: x}}\n",
        "4:8: merge keys (<<) are not used here",
        "write the keys out",
    ),
    _invalid(
        "tags",
        _harmful_tag,
        "{docs}/tokyo-1.yaml:3:18: tags are not used here",
        "remove the tag",
    ),
    _added(
        "deep nesting",
        _ENVELOPE + "spec: " + "[" * 100_000 + "]" * 100_000,
        "4:46: nested deeper than 40 levels",
        "no document needs that",
    ),
    _added(
        "deep nesting in block style",
        "".join(f"{' ' * depth}a:\n" for depth in range(600)),
        "41:41: nested deeper than 40 levels",
        "no document needs that",
    ),
    _edited(
        "tabs",
        _URL,
        "spec:\n\turl: ",
        "5:1: a tab in the indentation",
        "indent with spaces",
    ),
    _added(
        "2 MB file",
        _ENVELOPE + "# padding\n" * 200_000,
        "1:1: the file is larger than",
        "split the file",
    ),
    _added(
        "non-UTF-8",
        _ENVELOPE.encode() + "# Müller\n".encode("latin-1"),
        "4:4: the file is not UTF-8 text",
        "save it as UTF-8",
    ),
    _added(
        "UTF-16",
        _ENVELOPE.encode("utf-16"),
        "1:1: the file is not UTF-8 text",
        "save it as UTF-8",
    ),
    _added(
        "NUL byte",
        _ENVELOPE + "spec: \0\n",
        "4:7: the file holds a NUL byte",
        "save it as plain UTF-8 text",
    ),
    _added(
        "invisible character",
        _ENVELOPE + "# \u202egnirts\n",
        "4:3: an invisible or control character (U+202E)",
        "remove it",
    ),
    _edited(
        "bracket that does not end",
        "    bybit: {",
        "    kucoin: {state: absent\n    bybit: {",
        "9:",
        " ",
    ),
    _added(
        "document without apiVersion",
        "kind: TradingServer\n",
        "1:1: a document without apiVersion",
        "write apiVersion: jtr/v1",
    ),
    _added(
        "newer apiVersion",
        _ENVELOPE.replace("v1", "v2"),
        "1:13: apiVersion must be jtr/v1",
        "write jtr/v1",
    ),
    _edited(
        "bad reference",
        "/tokyo-1#access_secret",
        "/../tokyo-1#access_secret",
        "6:17: this is not a reference to a secret",
        "write vault:MOUNT/PATH#FIELD",
    ),
    _edited(
        "reference without a field",
        "#access_secret",
        "",
        "6:17: the reference names no field",
        "write vault:MOUNT/PATH#FIELD",
    ),
    _invalid(
        "pasted secret",
        _pasted,
        "{docs}/tokyo-1.yaml:8:26: this looks like a secret itself",
        "put it into Vault and write vault:MOUNT/PATH#FIELD; replace the key if",
    ),
    _invalid(
        "pasted secret in free text",
        _pasted_in_words,
        "{docs}/tokyo-1.yaml:7:10: this looks like a secret itself",
        "put it into Vault",
    ),
    _invalid(
        "two documents for one target",
        _twin,
        "{docs}/tokyo-2.yaml:5:3: the same URL and account stand already at "
        "{docs}/tokyo-1.yaml:5:3",
        "keep one of the two documents",
    ),
    _invalid(
        "two documents of one name",
        _same_name,
        "{docs}/osaka-1.yaml:3:18: the name stands already at {docs}/more.yaml:3:18",
        "choose another name",
    ),
    _edited(
        "http:// to another host",
        "url: http://127.0.0.1",
        "url: http://tokyo-1.internal",
        "5:8: http:// would carry every key in clear",
        "use https://, or a tunnel",
    ),
    _edited(
        "password in the URL",
        "url: http://127.0.0.1",
        "url: http://me:you@127.0.0.1",
        "5:8: a URL never carries a user or password",
        "remove them",
    ),
    _invalid(
        "link out of the directory",
        _leads_out,
        "{docs}/link.yaml:1:1: this link leads out of the directory",
        "copy the file here",
    ),
)

FILES = (
    _ends(
        "empty file",
        "apply {docs}/empty.yaml --auto-approve",
        Exit.INVALID,
        "{docs}/empty.yaml:1:1: the file is empty",
        "write a document",
        lambda s: s.rig.write("empty.yaml", b""),
    ),
    _usage(
        "missing file",
        "apply {docs}/tokyo-9.yaml --auto-approve",
        "no such file or directory: {docs}/tokyo-9.yaml",
        "check the path",
    ),
    _usage(
        "directory without YAML",
        "apply {home}/void --auto-approve",
        "{home}/void holds no document of jtr/v1",
        "name a directory with *.yaml files",
        _void,
    ),
    _usage(
        "directory with documents of others",
        "plan {home}/manifests",
        "{home}/manifests holds no document of jtr/v1: 1 document of another apiVersion "
        "skipped (v1)",
        "begin with `apiVersion: jtr/v1`",
        _foreign_only,
    ),
    _usage(
        "unreadable file",
        f"plan {_UNREADABLE}",
        f"{_UNREADABLE} cannot be read (Input/output error)",
        "check the file system",
    ),
    _usage(
        "symlink loop",
        APPLY,
        "{docs}/one.yaml cannot be read (Too many levels of symbolic links)",
        "it is a link that leads back to itself: remove it",
        _loop,
    ),
    _usage(
        "link to nothing",
        APPLY,
        "{docs}/gone.yaml cannot be read (No such file or directory)",
        "it is a link to nothing: remove it, or restore what it names",
        _dangling,
    ),
    _usage("pipe", APPLY, "{docs}/pipe.yaml is no regular file", "name a file", _fifo),
)

COMMAND_LINES = (
    _usage("unknown option", "plan {docs} --dry-run", "'--dry-run'", "jtr plan --help"),
    _usage("unknown command", "aply {docs}", "'aply' … Did you mean 'apply'?", "jtr --help"),
    _usage(
        "unknown output", "plan {docs} -o xml", "'xml' is not one of 'text', 'github'", "jtr plan"
    ),
    _usage(
        "parallelism of none",
        "plan {docs} --parallelism 0",
        "0 is not in the range",
        "jtr plan --help",
    ),
    _usage(
        "unknown server name",
        APPLY + " --server tokyo-9",
        "no server is called tokyo-9",
        "known: osaka-1, tokyo-1",
    ),
    _usage(
        "unknown server to show",
        "show tokyo-9 --from {docs}",
        "no server is called tokyo-9",
        "known: osaka-1, tokyo-1",
    ),
    _usage(
        "unknown server in the ledger",
        "status --server tokyo-9",
        "the ledger knows no server called tokyo-9",
        "known: osaka-1, tokyo-1; `jtr apply` makes others known",
    ),
    _usage(
        "selector that is none",
        APPLY + " --selector prod",
        "'prod' is no label",
        "write --selector env=prod",
    ),
    _usage(
        "selector that nobody has",
        APPLY + " --selector env=prod",
        "no server has the labels env=prod",
        "see metadata.labels",
    ),
    _usage(
        "taking over an unknown server",
        APPLY + " --take-over tokyo-9/bybit",
        "--take-over tokyo-9/bybit: no server is called tokyo-9",
        "known: osaka-1, tokyo-1",
    ),
    _usage(
        "taking over an unknown exchange",
        APPLY + " --take-over tokyo-1/bibyt",
        "--take-over tokyo-1/bibyt: tokyo-1 declares no exchange bibyt",
        "it declares bybit, okx",
    ),
    _usage(
        "nobody to ask",
        "apply {docs}",
        "nobody is there to approve the plan",
        "give --expect PLANID or --auto-approve",
    ),
    _usage(
        "expected plan that is none",
        "apply {docs} --expect {home}/plan.json",
        "{home}/plan.json is not what `jtr plan -o json` wrote:",
        "look at a new plan, and expect that one",
        _plan_file,
    ),
    _ends(
        "brake that does not hold",
        "ledger release-brake 0.24.19 --because seen",
        Exit.ERROR,
        "no brake holds for 0.24.19",
        "jtr status",
    ),
)


def _harmless(name: str, spoil: object, what: str) -> Row:
    """Return a row for what must not trouble anybody."""
    assert callable(spoil)
    return Row(name, spoil, {VALIDATE: Exit.DONE}, what, "", Scope.ALL)


def _rewritten(change: Callable[[bytes], bytes]) -> Callable[[Setup], None]:
    def spoil(setup: Setup) -> None:
        file = setup.docs / "tokyo-1.yaml"
        file.write_bytes(change(file.read_bytes()))

    return spoil


HARMLESS = (
    _harmless("CRLF", _rewritten(lambda data: data.replace(b"\n", b"\r\n")), "valid: 2 servers"),
    _harmless("BOM", _rewritten(lambda data: b"\xef\xbb\xbf" + data), "valid: 2 servers"),
    _harmless("no line break at the end", _rewritten(bytes.rstrip), "valid: 2 servers"),
    _harmless(
        "empty file beside others", lambda s: s.rig.write("empty.yaml", b""), "valid: 2 servers"
    ),
    _harmless(
        "a document of another program",
        lambda s: s.rig.write("pod.yaml", "apiVersion: v1\nkind: Pod\nspec: !Sub x\n"),
        "1 document of another apiVersion skipped",
    ),
    _harmless(
        "directory that links to itself",
        lambda s: (s.docs / "again").symlink_to(s.docs),
        "valid: 2 servers, 3 exchanges, 2 files",
    ),
    _harmless(
        "second name of a file",
        lambda s: (s.docs / "again.yaml").symlink_to("tokyo-1.yaml"),
        "valid: 2 servers, 3 exchanges, 2 files",
    ),
)
