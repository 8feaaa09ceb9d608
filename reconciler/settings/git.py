"""
The settings' `git`: the branch that a controller follows, whose word counts there, who wakes it.

Addresses, branches and paths are checked here by grammars of our own, so that none of them can be
an option of git's or ssh's, or lead a token elsewhere.
"""

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from reconciler.documents.tree import Node, at, text, text_list
from reconciler.errors import UsageError
from reconciler.model.values import replace
from reconciler.system.network import loopback

Complain = Callable[[Node, str, str], None]
PathOf = Callable[[Node | None], str | None]
Wrong = tuple[str, str]  # what is wrong, and what to do

_HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
_PLACE: Final = r"[A-Za-z0-9._~/+%-]+"
_USER: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_URL: Final = re.compile(
    rf"https?://{_HOST}/{_PLACE}|ssh://(?:{_USER}@)?{_HOST}/{_PLACE}|file:///{_PLACE}"
)
_SHORT: Final = re.compile(rf"({_USER}@[A-Za-z0-9][A-Za-z0-9.-]*):(?!/)({_PLACE})")
_BRANCH: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+#@-]{0,199}")
_PART: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f:*?\[\]\\\"]{1,200}")
_LONGEST_PATH: Final = 1000  # characters
DEFAULT_BRANCH: Final = "main"
DEFAULT_PREFIX: Final = "jtr/"


class VerifySettings(Struct, frozen=True):
    """
    Whose signature the newest commit needs.

    `allowed_signers` is OpenSSH's file, `keyring` one of OpenPGP keys; `signers` names those of
    both that count, all where it is empty.
    """

    allowed_signers: str | None = None
    keyring: str | None = None
    signers: tuple[str, ...] = ()


class CommitStatusSettings(Struct, frozen=True):
    """Where the controller says of a commit what became of it."""

    forge: str
    api: str
    project: str
    token_file: str


class ProposeSettings(Struct, frozen=True):
    """
    With what the page opens pull requests, at the forge of `CommitStatusSettings`.

    `token_file` is for its API, and for pushing over https; `ssh_key_file` is for pushing over ssh.
    """

    token_file: str
    ssh_key_file: str | None = None
    prefix: str = DEFAULT_PREFIX


class GitSettings(Struct, frozen=True):
    """A branch to follow; `path` is where documents lie in it, "" for everywhere."""

    url: str = ""
    branch: str = DEFAULT_BRANCH
    path: str = ""
    token_file: str | None = None
    username: str = "git"
    ca_file: str | None = None
    ssh_key_file: str | None = None
    known_hosts_file: str | None = None
    verify: VerifySettings | None = None
    webhook_secret_file: str | None = None
    status: CommitStatusSettings | None = None
    propose: ProposeSettings | None = None

    def following(self, url: str, branch: str, path: str) -> "GitSettings":
        """
        Return the same with what the command line says.

        Raises UsageError, also for another repository than the settings name: their tokens and
        keys are not for that one.
        """
        if url and self.url and spelled(url) != self.url:
            raise UsageError("the settings name another repository", "leave --git or git.url out")
        found = replace(
            self,
            url=spelled(url or self.url),
            branch=branch or self.branch,
            path=(path or self.path).strip("/"),
        )
        for value, option, wrong in (
            (found.url, "--git", url_problem(found.url)),
            (found.branch, "--branch", branch_problem(found.branch)),
            (found.path, "--path", path_problem(found.path)),
        ):
            if wrong is not None:
                raise UsageError(f"{option} {value!a}: {wrong[0]}", wrong[1])
        return found


def spelled(url: str) -> str:
    """Return the long form of `git@HOST:OWNER/NAME.git`."""
    short = _SHORT.fullmatch(url)
    return f"ssh://{short[1]}/{short[2]}" if short else url


def url_problem(url: str) -> Wrong | None:
    """Say what is wrong with the address of a repository."""
    if not _URL.fullmatch(url) or ".." in url:
        return (
            "this is no address of a repository",
            "write https://HOST/OWNER/NAME.git or ssh://git@HOST/OWNER/NAME.git, and no password",
        )
    parts = urlsplit(url)
    if parts.scheme == "http" and not loopback(parts.hostname or ""):
        return "http:// lets anybody on the way change documents", "use https:// or ssh://"
    return None


def branch_problem(branch: str) -> Wrong | None:
    """Say what is wrong with the name of a branch."""
    if branch.startswith("refs/"):
        return "this is a ref, and may be a tag", "name the branch alone, such as main"
    bad = ("..", "//", "@{", "/.", "./")
    ends = (".", "/", ".lock")
    if not _BRANCH.fullmatch(branch) or any(one in branch for one in bad) or branch.endswith(ends):
        return "this is no branch", "write for example main"
    return None


def path_problem(path: str) -> Wrong | None:
    """Say what is wrong with a path in a repository."""
    parts = path.split("/") if path else []
    good = all(_PART.fullmatch(one) and one not in {".", ".."} for one in parts)
    if not good or path.startswith("-") or len(path) > _LONGEST_PATH:
        return "this is no path in a repository", "write for example servers/prod"
    return None


def read_git(node: Node | None, path_of: PathOf, complain: Complain) -> GitSettings | None:
    """
    Return the settings of a mapping that fits the schema, None where there is none.

    *path_of* resolves a path as the settings do; *complain* takes a place, what is wrong there and
    what to do.
    """
    if node is None:
        return None
    url, branch, path = at(node, "url"), at(node, "branch"), at(node, "path")
    address = spelled(text(url))
    for place, wrong in (
        (url, url_problem(address) if url is not None else None),
        (branch, branch_problem(text(branch)) if branch is not None else None),
        (path, path_problem(text(path).strip("/")) if path is not None else None),
    ):
        if place is not None and wrong is not None:
            complain(place, *wrong)
    if address.startswith("ssh://") and at(node, "knownHostsFile") is None:
        complain(node, "ssh without knownHostsFile trusts nobody", "add knownHostsFile")
    token = at(node, "tokenFile")
    if token is not None and address and not address.startswith("http"):
        complain(token, "only https has a use for a token", "remove it")
    return GitSettings(
        url=address,
        branch=text(branch, default=DEFAULT_BRANCH),
        path=text(path).strip("/"),
        token_file=path_of(at(node, "tokenFile")),
        username=text(node, "username", default="git"),
        ca_file=path_of(at(node, "caFile")),
        ssh_key_file=path_of(at(node, "sshKeyFile")),
        known_hosts_file=path_of(at(node, "knownHostsFile")),
        verify=_verify(at(node, "verify"), path_of, complain),
        webhook_secret_file=path_of(at(node, "webhook", "secretFile")),
        status=_status(at(node, "status"), path_of, complain),
        propose=_propose(node, address, path_of, complain),
    )


def _verify(node: Node | None, path_of: PathOf, complain: Complain) -> VerifySettings | None:
    if node is None:
        return None
    found = VerifySettings(
        path_of(at(node, "allowedSigners")),
        path_of(at(node, "keyring")),
        text_list(node, "signers"),
    )
    if found.allowed_signers is None and found.keyring is None:
        complain(node, "this names no keys", "add allowedSigners (SSH) or keyring (OpenPGP)")
    return found


def _status(node: Node | None, path_of: PathOf, complain: Complain) -> CommitStatusSettings | None:
    if node is None:
        return None
    api = at(node, "api")
    parts = urlsplit(text(api))
    clear = parts.scheme == "http" and not loopback(parts.hostname or "")
    if api is not None and (clear or not parts.hostname or "@" in parts.netloc or parts.query):
        complain(api, "this is no address of an API", "write https://HOST/..., without a password")
    return CommitStatusSettings(
        text(node, "forge"),
        text(api).rstrip("/"),
        text(node, "project"),
        path_of(at(node, "tokenFile")) or "",
    )


def _propose(
    git: Node, address: str, path_of: PathOf, complain: Complain
) -> ProposeSettings | None:
    node = at(git, "propose")
    if node is None:
        return None
    if at(git, "status") is None:
        complain(node, "no forge is named to open pull requests at", "add git.status")
    key = at(node, "sshKeyFile")
    if address.startswith("ssh://") and key is None:
        complain(node, "ssh needs a key that may push", "add git.propose.sshKeyFile")
    elif address and not address.startswith("ssh://") and key is not None:
        complain(key, "only ssh has a use for a key", "remove it")
    prefix = text(node, "branchPrefix", default=DEFAULT_PREFIX)
    branch = text(git, "branch", default=DEFAULT_BRANCH)
    if branch_problem(f"{prefix}x") is not None or prefix.startswith(f"{branch}/"):
        place = at(node, "branchPrefix") or node
        complain(place, "no branch may begin so beside the one that is followed", "write jtr/")
    return ProposeSettings(path_of(at(node, "tokenFile")) or "", path_of(key), prefix)
