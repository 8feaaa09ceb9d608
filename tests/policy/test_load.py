"""Policy files: what they say, and those that are refused with a place and a remedy."""

import os
from pathlib import Path

import pytest

from reconciler.errors import Exit, InvalidConfig, UsageError
from reconciler.model.patterns import covers
from reconciler.model.policy import PolicyAction
from reconciler.policy.load import load_policy
from reconciler.policy.model import EVERYTHING, Limits

HEAD = "apiVersion: jtr/v1\nkind: Policy\n"
GOOD = (
    "{name: a, servers: {urls: ['https://a.internal']}, secrets: ['secret/**'], actions: [write]}"
)


def rules(*rows: str, head: str = HEAD) -> str:
    return head + "rules:\n" + "".join(f"  - {row}\n" for row in rows)


def write(folder: Path, text: str) -> str:
    path = folder / "policy.yaml"
    path.write_text(text, "utf-8")
    return str(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(InvalidConfig) as refused:
        load_policy(write(folder, text))
    assert refused.value.exit_code == Exit.INVALID
    return "\n".join(map(str, refused.value.problems))


def test_a_whole_policy(tmp_path: Path) -> None:
    found = load_policy(
        write(
            tmp_path,
            rules(
                "{name: a, servers: {urls: ['https://{server}.internal'], files: ['a/**']},"
                " secrets: ['vault:secret/jt/{server}/**'], exchanges: [bybit],"
                " actions: [write, reboot],"
                " require: {windows: true, audit: true}}",
                "{name: b, effect: deny, servers: {names: ['x-*']}, actions: [all]}",
                head=HEAD + "requireBinding: true\nlimits: {deletes: 0, serversChanged: 25}\n",
            ),
        )
    )

    first, second = found.rules
    assert (first.number, first.allows, first.secrets) == (1, True, ("secret/jt/{server}/**",))
    assert first.actions == {PolicyAction.WRITE, PolicyAction.REBOOT}
    assert first.windows
    assert first.audit
    assert (second.number, second.allows, second.actions) == (2, False, EVERYTHING)
    assert found.limits == Limits(deletes=0, servers_changed=25)
    assert found.require_binding
    assert found.speaks


URLS = "servers: {urls: ['https://a.internal']}"
WRONG: list[tuple[str, str, str]] = [
    ("no rules", HEAD, "the document has no rules"),
    ("an empty list", HEAD + "rules: []\n", "rules is empty"),
    ("another kind", "apiVersion: jtr/v1\nkind: Rules\nrules: []\n", "kind must be Policy"),
    ("another version", "apiVersion: jtr/v2\nkind: Policy\nrules: []\n", "must be jtr/v1"),
    ("two documents", rules(GOOD) + "---\n" + rules(GOOD), "a policy is one mapping"),
    ("a list", "- a\n", "a policy is one mapping"),
    ("nothing", "", "a policy is one mapping"),
    ("broken YAML", HEAD + "rules: [\n", "policy.yaml:"),
    ("an anchor", HEAD + "rules: &a []\n", "anchors"),
    ("a key twice", HEAD + "kind: Policy\nrules: []\n", "policy.yaml:3"),
    ("no name", rules(f"{{{URLS}, actions: [delete]}}"), "has no name"),
    ("no servers", rules("{name: a, actions: [delete]}"), "has no servers"),
    ("no actions", rules(f"{{name: a, {URLS}}}"), "has no actions"),
    ("servers that say nothing", rules("{name: a, servers: {}, actions: [delete]}"), "is empty"),
    ("an unknown action", rules(f"{{name: a, {URLS}, actions: [wrte]}}"), "did you mean write"),
    (
        "an unknown key",
        rules(f"{{name: a, {URLS}, actions: [delete], secret: [a]}}"),
        "did you mean secrets",
    ),
    (
        "labels",
        rules("{name: a, servers: {labels: {a: b}}, actions: [delete]}"),
        "labels is not known",
    ),
    ("an unknown limit", HEAD + "limits: {delets: 1}\nrules: []\n", "did you mean deletes"),
    ("a limit below nought", HEAD + "limits: {deletes: -1}\nrules: []\n", "too small"),
    ("a share over 100", HEAD + "limits: {serversChanged: 101}\nrules: []\n", "too large"),
    ("a limit in words", HEAD + "limits: {deletes: few}\nrules: []\n", "must be a whole number"),
    ("no limit", HEAD + "limits: {}\nrules: []\n", "is empty"),
    # trust
    (
        "a name alone",
        rules("{name: a, servers: {names: ['tokyo-*']}, actions: [reboot]}"),
        "trusts names alone",
    ),
    (
        "secrets that may go anywhere",
        rules("{name: a, servers: {files: ['a/**']}, secrets: ['secret/**'], actions: [write]}"),
        "does not say where they may go",
    ),
    (
        "secrets by a name that is tied to nothing",
        rules(
            "{name: a, servers: {urls: ['https://*.internal']}, secrets: ['secret/jt/{server}/**'],"
            " actions: [write]}"
        ),
        "does not tie names to anything",
    ),
    (
        "a directory does not tie a name",
        rules(
            "{name: a, servers: {urls: ['https://*.internal'], files: ['a/**']},"
            " secrets: ['secret/jt/{server}/**'], actions: [write]}"
        ),
        "does not tie names to anything",
    ),
    (
        "any name",
        rules(
            "{name: a, servers: {urls: ['https://*.internal'], names: ['*']},"
            " secrets: ['secret/jt/{server}/**'], actions: [write]}"
        ),
        "does not tie names to anything",
    ),
    (
        "one address of two",
        rules(
            "{name: a, servers: {urls: ['https://{server}.internal', 'https://b.internal']},"
            " secrets: ['secret/jt/{server}/**'], actions: [write]}"
        ),
        "does not tie names to anything",
    ),
    (
        "a name in the middle of a label",
        rules(
            "{name: a, servers: {urls: ['https://*{server}*']},"
            " secrets: ['secret/jt/{server}/**'], actions: [write]}"
        ),
        "does not tie names to anything",
    ),
    (
        "a name before a wildcard",
        rules(
            "{name: a, servers: {urls: ['https://{server}.internal']},"
            " secrets: ['secret/jt/{server}*/**'], actions: [write]}"
        ),
        "a short name is the beginning of long ones",
    ),
    # what matches nothing
    (
        "an address without its scheme",
        rules("{name: a, servers: {urls: ['*.internal']}, actions: [reboot]}"),
        "this pattern matches nothing: an address is https://HOST:PORT",
    ),
    (
        "upper case",
        rules("{name: a, servers: {urls: ['https://A.internal']}, actions: [reboot]}"),
        "compared in lower case",
    ),
    (
        "a default port",
        rules("{name: a, servers: {urls: ['https://a.internal:443']}, actions: [reboot]}"),
        "without a default port",
    ),
    (
        "a slash at the end",
        rules("{name: a, servers: {urls: ['https://a.internal/']}, actions: [reboot]}"),
        "without a default port and a final /",
    ),
    (
        "a file that climbs",
        rules("{name: a, servers: {files: ['../a/**']}, actions: [reboot]}"),
        "files are compared as DIRECTORY/FILE",
    ),
    (
        "a file with a dot",
        rules("{name: a, servers: {files: ['./a/**']}, actions: [reboot]}"),
        "files are compared as DIRECTORY/FILE",
    ),
    (
        "a secret with a field",
        rules(f"{{name: a, {URLS}, secrets: ['secret/a#b'], actions: [write]}}"),
        "without field and version",
    ),
    (
        "a mount alone",
        rules(f"{{name: a, {URLS}, secrets: ['secret'], actions: [write]}}"),
        "a secret is MOUNT/PATH",
    ),
    (
        "an exchange in upper case",
        rules(f"{{name: a, {URLS}, exchanges: [ByBit], actions: [delete]}}"),
        "exchange codes are",
    ),
    (
        "a name that no document has",
        rules("{name: a, effect: deny, servers: {names: ['Tokyo_1']}, actions: [delete]}"),
        "names are a-z",
    ),
    (
        "a placeholder that nothing replaces",
        rules(f"{{name: a, {URLS}, secrets: ['secret/{{exchange}}/**'], actions: [write]}}"),
        "nothing replaces {exchange} here",
    ),
    (
        "the name in a list of names",
        rules("{name: a, effect: deny, servers: {names: ['{server}']}, actions: [delete]}"),
        "nothing replaces {server} here",
    ),
    # contradictions
    ("write without secrets", rules(f"{{name: a, {URLS}, actions: [write]}}"), "gives no secrets"),
    (
        "only denials",
        rules(f"{{name: a, effect: deny, {URLS}, actions: [all]}}"),
        "no rule allows anything",
    ),
    (
        "a denial that requires",
        rules(f"{{name: a, effect: deny, {URLS}, actions: [all], require: {{audit: true}}}}", GOOD),
        "denies and requires",
    ),
    ("a name twice", rules(GOOD, GOOD.replace("a.int", "b.int")), "has the name of rule 1"),
    ("the same rule twice", rules(GOOD, GOOD.replace("name: a", "name: b")), "is never reached"),
    (
        "a denial that comes too late",
        rules(
            GOOD,
            "{name: b, effect: deny, servers: {urls: ['https://a.internal']},"
            " secrets: ['secret/x/**'], actions: [write]}",
        ),
        "is never reached: rule 1 (a) matches whatever it matches, and decides otherwise",
    ),
    (
        "all of it denied before",
        rules(
            "{name: b, effect: deny, servers: {urls: ['https://*.internal']}, actions: [all]}", GOOD
        ),
        "is never reached",
    ),
]


@pytest.mark.parametrize(("text", "words"), [row[1:] for row in WRONG], ids=[r[0] for r in WRONG])
def test_a_policy_that_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path, text)


RIGHT = {
    "names in a list": (
        "servers: {urls: ['https://*.internal'], names: ['tokyo-*']},"
        " secrets: ['secret/jt/{server}/**'], actions: [write]"
    ),
    "names in every address": (
        "servers: {urls: ['https://{server}.a.internal:8443', 'http://127.0.0.1/{server}']},"
        " secrets: ['secret/jt/{server}/**'], actions: [write]"
    ),
    "any address": "servers: {urls: ['**']}, secrets: ['**'], actions: [all]",
    "any port": ("servers: {urls: ['http://127.0.0.1:*']}, secrets: ['secret/**'], actions: [all]"),
    "an IPv6 address": (
        "servers: {urls: ['https://[::1]:8443']}, secrets: ['a/b//c/*'], actions: [all]"
    ),
    "files alone": "servers: {files: ['a/**', '/srv/b/*.yaml']}, actions: [reboot]",
}


@pytest.mark.parametrize("row", RIGHT.values(), ids=RIGHT.keys())
def test_a_policy_that_is_taken(tmp_path: Path, row: str) -> None:
    assert load_policy(write(tmp_path, rules(f"{{name: a, {row}}}"))).rules


def test_rules_that_do_not_hide_each_other(tmp_path: Path) -> None:
    found = load_policy(
        write(
            tmp_path,
            rules(
                f"{{name: a, effect: deny, {URLS}, actions: [delete]}}",
                f"{{name: b, {URLS[:-1]}, files: ['x/**']}}, actions: [reboot]}}",
                GOOD.replace("name: a", "name: c"),
                f"{{name: d, {URLS.replace('a.', '*.')}, secrets: ['**'], actions: [all]}}",
            ),
        )
    )

    assert len(found.rules) == 4


def test_a_policy_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, rules(GOOD))
    os.chmod(path, 0o666)  # noqa: PTH101
    with pytest.raises(UsageError, match="others may write"):
        load_policy(path)


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("**", "a/**", True),
        ("a/**", "a/b/**", True),
        ("a/**", "a/b", True),
        ("a/*", "a/b", True),
        ("a/*", "a/b/c", False),
        ("a/*", "a/*", True),
        ("a/*", "a/b*", True),
        ("a/*", "a/**", False),
        ("a/b*", "a/*", False),
        ("a/?", "a/*", False),
        ("a/*", "a/?", True),
        ("*/b", "a/**", False),
        ("a/**/c", "a/**", False),
        ("a*/**", "ab/**", False),  # it does, but that cannot be told from the texts
        ("https://*.internal", "https://{server}.internal", True),
        ("https://{server}.internal", "https://a.internal", False),
    ],
)
def test_what_covers_what(wide: str, narrow: str, *, expected: bool) -> None:
    assert covers(wide, narrow) is expected
