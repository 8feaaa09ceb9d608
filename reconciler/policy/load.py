"""
Read a policy file, and refuse one that says nothing, contradicts itself or trusts a name.

Contacts nothing.  That the file does not lie with the desired state is for whoever calls to see.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from reconciler.documents.files import read_bytes, shown
from reconciler.documents.schema import POLICY, problems
from reconciler.documents.tree import Map, Node, Scalar, at, items, text, text_list, true
from reconciler.documents.yaml_reader import parse
from reconciler.errors import InvalidConfig
from reconciler.model.patterns import covers
from reconciler.model.policy import PolicyAction
from reconciler.model.source import Problem, SourceLine
from reconciler.model.target import is_plain, normalised
from reconciler.policy.model import EVERYTHING, SERVER, Limits, Policy, Rule

_PLACEHOLDER: Final = re.compile(r"\{[^{}]*\}|[{}]")
_WORD: Final = re.compile(r"\{[a-z]{1,20}\}")
_ONLY_WILD: Final = re.compile(r"[*?]+")
_TIED: Final = re.compile(
    r"[/.]\{server\}(\.|:|/|$)"
)  # a whole label of the host, or part of the path
_PREFIX: Final = re.compile(r"[*?][^/]*\{server\}|\{server\}[^/]*[*?]")
_NAME: Final = re.compile(r"[a-z0-9*?-]+")
_ALL: Final = "all"


def load_policy(path: str) -> Policy:
    """
    Read the policy at *path*.

    Raises UsageError when it cannot be read or others may write it, InvalidConfig with all
    problems.
    """
    file = shown(path)
    roots = parse(read_bytes(path, operators=True), file)
    if len(roots) != 1 or not isinstance(roots[0], Map):
        place = SourceLine(file, 1)
        raise InvalidConfig(
            [Problem(place, "a policy is one mapping", "begin: apiVersion: jtr/v1")]
        )
    return policy_of(roots[0], str(Path(path).absolute()))


def inline_policy(node: Map, source: str) -> Policy:
    """Return the policy that stands in the settings at *source*, where it needs no head."""
    head = {"apiVersion": "jtr/v1", "kind": "Policy"}
    entries = {key: Scalar(value, node.source) for key, value in head.items()}
    keys = dict.fromkeys(head, node.source)
    whole = Map({**entries, **node.entries}, {**keys, **node.keys}, node.source)
    return policy_of(whole, source)


def policy_of(root: Map, source: str) -> Policy:
    """Return the policy that a document says.  Raises InvalidConfig with all problems."""
    found = problems(root, POLICY)
    if found:
        raise InvalidConfig(found)
    nodes = items(root, "rules")
    rules = tuple(_rule(number, node) for number, node in enumerate(nodes, 1))
    found = [
        problem
        for rule, node in zip(rules, nodes, strict=True)
        for problem in _rule_problems(rule, node)
    ]
    found += _between(rules, nodes)
    if not any(rule.allows for rule in rules):
        here = at(root, "rules") or root
        found.append(
            Problem(here.source, "no rule allows anything", "write a rule with effect: allow")
        )
    if found:
        raise InvalidConfig(found)
    return Policy(rules, _limits(root), true(root, "requireBinding"), source)


def _rule(number: int, node: Node) -> Rule:
    actions = text_list(node, "actions")
    return Rule(
        number,
        text(node, "name"),
        text(node, "effect", default="allow") == "allow",
        names=_patterns(node, "servers", "names"),
        urls=_patterns(node, "servers", "urls"),
        files=_patterns(node, "servers", "files"),
        secrets=_secrets(node),
        exchanges=_patterns(node, "exchanges"),
        actions=EVERYTHING if _ALL in actions else frozenset(map(PolicyAction, actions)),
        windows=true(node, "require", "windows"),
        audit=true(node, "require", "audit"),
    )


def _patterns(node: Node, *path: str) -> tuple[str, ...] | None:
    return None if at(node, *path) is None else text_list(node, *path)


def _secrets(node: Node) -> tuple[str, ...] | None:
    found = _patterns(node, "secrets")
    return found and tuple(pattern.removeprefix("vault:") for pattern in found)


def _limits(root: Map) -> Limits:
    def number(key: str) -> int | None:
        node = at(root, "limits", key)
        value = node.value if isinstance(node, Scalar) else None
        return int(value) if isinstance(value, int | float) else None

    return Limits(
        number("deletes"),
        number("restarts"),
        number("reboots"),
        number("invalidations"),
        number("serversChanged"),
    )


# ── what the schema cannot say ───────────────────────────────────────────────────────────────


def _rule_problems(rule: Rule, node: Node) -> Iterator[Problem]:
    yield from _pattern_problems(node, ("servers", "urls"), _wrong_url)
    yield from _pattern_problems(node, ("servers", "files"), _wrong_file)
    yield from _pattern_problems(node, ("servers", "names"), _wrong_name)
    yield from _pattern_problems(node, ("secrets",), _wrong_secret)
    yield from _pattern_problems(node, ("exchanges",), _wrong_exchange)
    place = node.source
    if not rule.allows:
        if rule.windows or rule.audit:
            yield Problem(
                place, f"{rule} denies and requires", "require belongs to what is allowed"
            )
        return
    if PolicyAction.WRITE in rule.actions and rule.secrets is None:
        yield Problem(
            place,
            f"{rule} allows write but gives no secrets: it would allow none",
            "add secrets: [MOUNT/PATH/**], or leave write out",
        )
    if rule.secrets is not None and rule.urls is None:
        yield Problem(
            place,
            f"{rule} gives secrets and does not say where they may go",
            "add servers.urls: an address is what a secret is sent to",
        )
    elif rule.urls is None and rule.files is None:
        yield Problem(
            place,
            f"{rule} trusts names alone, and whoever writes a document chooses its name",
            "add servers.urls or servers.files",
        )
    if _trusts_names(rule):
        yield Problem(
            place,
            f"{rule} gives secrets by {SERVER} and does not tie names to anything: one server's "
            "name on another one's document gets its secrets",
            f"write {SERVER} in every pattern of servers.urls, or list servers.names",
        )


def _trusts_names(rule: Rule) -> bool:
    """Whether a document gets other secrets by choosing another name."""
    if not any(SERVER in pattern for pattern in rule.secrets or ()):
        return False
    if rule.names is not None and not any(map(_ONLY_WILD.fullmatch, rule.names)):
        return False  # as good as the same list in place of {server}
    return not all("**" not in pattern and _TIED.search(pattern) for pattern in rule.urls or ())


def _pattern_problems(
    node: Node, path: Sequence[str], wrong: Callable[[str], str]
) -> Iterator[Problem]:
    for item in items(node, *path):
        pattern = text(item)
        holders = set(_PLACEHOLDER.findall(pattern)) - {SERVER}
        if holders or (SERVER in pattern and path[-1] in ("names", "exchanges")):
            yield Problem(
                item.source,
                f"nothing replaces {_told(holders) or SERVER} here",
                f"only {SERVER} is replaced, in urls, files and secrets",
            )
        elif path[-1] == "secrets" and _PREFIX.search(pattern):
            yield Problem(
                item.source,
                f"{SERVER} with a wildcard beside it: a short name is the beginning of long ones",
                f"write it between two /: secret/jt/{SERVER}/**",
            )
        elif why := wrong(pattern.replace(SERVER, "x")):
            yield Problem(item.source, f"this pattern matches nothing: {why}", "write it so")


def _told(holders: Iterable[str]) -> str:
    """Name placeholders that are words; anything else may be a pasted key."""
    words = [one if _WORD.fullmatch(one) else "{...}" for one in sorted(holders)]
    return ", ".join(dict.fromkeys(words))


def _wrong_url(pattern: str) -> str:
    if _ONLY_WILD.fullmatch(pattern) and "**" in pattern:
        return ""
    scheme, separator, rest = pattern.partition("://")
    if not separator or not {scheme} <= {"http", "https", "http*", "*"} or not rest:
        return "an address is https://HOST:PORT"
    # Wildcards stand for what addresses hold; what is left must be as addresses are compared.
    literal = f"{'https' if '*' in scheme else scheme}://{re.sub(r'[*?]+', '1', rest)}"
    try:
        compared = is_plain(literal) and normalised(literal) == literal
    except ValueError:
        return "this is no address"
    if not compared:
        return "addresses are compared in lower case, without a default port and a final /"
    return ""


def _wrong_file(pattern: str) -> str:
    parts = pattern.split("/")
    if "." in parts or ".." in parts or "" in parts[1:]:
        return "files are compared as DIRECTORY/FILE, without ., .. and empty parts"
    return ""


def _wrong_name(pattern: str) -> str:
    return "" if _NAME.fullmatch(pattern) else "names are a-z, 0-9 and hyphens"


def _wrong_secret(pattern: str) -> str:
    path = pattern.removeprefix("vault:")
    if re.search(r"[#@%]|\.\.", path):
        return "secrets are compared as MOUNT/PATH, without field and version"
    if "/" not in path and "**" not in path:
        return "a secret is MOUNT/PATH"
    return ""


def _wrong_exchange(pattern: str) -> str:
    return "" if re.fullmatch(r"[a-z0-9*?_-]+", pattern) else "exchange codes are a-z and 0-9"


def _between(rules: Sequence[Rule], nodes: Sequence[Node]) -> Iterator[Problem]:
    """Yield what is wrong with rules together: names that stand twice, rules never reached."""
    for later, node in zip(rules, nodes, strict=True):
        for earlier in rules[: later.number - 1]:
            if earlier.name == later.name:
                yield Problem(
                    node.source, f"{later} has the name of {earlier}", "give it a name of its own"
                )
            if _hides(earlier, later):
                against = "" if earlier.allows is later.allows else ", and decides otherwise"
                yield Problem(
                    node.source,
                    f"{later} is never reached: {earlier} matches whatever it matches{against}",
                    "put the narrower rule first, or remove one of them",
                )
                break


def _hides(earlier: Rule, later: Rule) -> bool:
    """Whether *earlier* certainly decides all that *later* would."""
    if not later.actions <= earlier.actions:
        return False
    if not all(
        _all_covered(wide, narrow)
        for wide, narrow in (
            (earlier.names, later.names),
            (earlier.urls, later.urls),
            (earlier.files, later.files),
            (earlier.exchanges, later.exchanges),
        )
    ):
        return False
    if earlier.allows:
        # It decides whatever has no secret, and of what has one only what it gives.
        if later.secrets is None:
            return later.allows
        return earlier.secrets is not None and _all_covered(earlier.secrets, later.secrets)
    if earlier.secrets is None and earlier.exchanges is None and earlier.actions == EVERYTHING:
        return True
    # It leaves alone what has no action, no exchange or no secret, and so must the later one.
    return (
        not later.allows
        and (earlier.secrets is None or later.secrets is not None)
        and (earlier.exchanges is None or later.exchanges is not None)
        and _all_covered(earlier.secrets, later.secrets)
    )


def _all_covered(wide: Sequence[str] | None, narrow: Sequence[str] | None) -> bool:
    if wide is None:
        return True
    if narrow is None:
        return "**" in wide
    return all(any(covers(one, other) for one in wide) for other in narrow)
