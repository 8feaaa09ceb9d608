"""
A bare mirror of one branch of a repository, and what its objects say.  Blocking.

Nothing is ever checked out: trees and files are read from the object store, so that a link is a
line of text and a path cannot leave the tree.  Only the branch that was named is fetched, with its
whole history and without tags, by the one protocol of its address.
"""

import base64
import fcntl
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from reconciler.model.secret import Secret
from reconciler.system.files import make_private_directory
from reconciler.system.git import COMMIT, Answer, Git, GitError, about, descends

FETCH_DEADLINE: Final = 120.0  # seconds
PACK_LIMIT: Final = 256 * 1024 * 1024  # bytes that one fetch may bring
LIST_LIMIT: Final = 64 * 1024 * 1024  # bytes: some 600,000 files
_GPG_DEADLINE: Final = 30.0  # seconds
PACKS: Final = 40  # one for each fetch; more are made into one
SEEN: Final = "refs/jtr/seen"
KEPT: Final = "refs/jtr/kept"
_ROW: Final = re.compile(
    rb"([0-7]{6}) (?:blob|commit) ([0-9a-f]{40,64}) +([0-9]+|-)\t(.+)", re.DOTALL
)
_LINK: Final = "120000"
_SUBMODULE: Final = "160000"


class Remote(Struct, frozen=True):
    """
    A branch of a repository, and how to get in.

    `url` and `branch` were checked when they were read.  `token` is for https, `key_file` and
    `known_hosts` for ssh; `ca_file` is trusted instead of the system's.
    """

    url: str
    branch: str
    token: Secret | None = None
    username: str = "git"
    ca_file: str | None = None
    key_file: str | None = None
    known_hosts: str | None = None

    @property
    def protocol(self) -> str:
        return self.url.partition(":")[0]

    def config(self) -> Iterator[str]:
        yield f"protocol.{self.protocol}.allow=always"
        yield from ("http.followRedirects=false", "http.sslVerify=true", "fetch.fsckObjects=true")
        yield from ("fetch.recurseSubmodules=no", "submodule.recurse=false")
        yield from ("fetch.unpackLimit=1", "fetch.writeCommitGraph=false", "pack.threads=1")
        if self.ca_file:
            yield f"http.sslCAInfo={self.ca_file}"

    def environment(self) -> dict[str, str]:
        """Return what git gets so; nobody but this user can read it, unlike a command line."""
        found = {"GIT_ALLOW_PROTOCOL": self.protocol, "GIT_SSH_COMMAND": self._ssh()}
        if self.token is not None:
            word = base64.b64encode(f"{self.username}:{self.token.reveal()}".encode()).decode()
            found |= {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": f"http.{self.url}.extraHeader",
                "GIT_CONFIG_VALUE_0": f"Authorization: Basic {word}",
            }
        return found

    def _ssh(self) -> str:
        words = ["ssh", "-F", os.devnull, "-a", "-x", "-T"]
        options = [
            *("BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"),
            *("PermitLocalCommand=no", "ForwardAgent=no", "UpdateHostKeys=no"),
            f"UserKnownHostsFile={self.known_hosts or os.devnull}",
            "GlobalKnownHostsFile=/dev/null",
        ]
        words += [word for option in options for word in ("-o", option)]
        return shlex.join([*words, *(("-i", self.key_file) if self.key_file else ())])


class Unsigned(GitError):
    """A commit is not signed by anybody who counts."""


class Signers(Struct, frozen=True):
    """
    Whose signatures count: OpenSSH's file of allowed signers, and a file of OpenPGP keys.

    With `names` only these of them: principals of the first, fingerprints of primary keys of the
    second.
    """

    ssh_file: str | None = None
    gpg_file: str | None = None
    names: tuple[str, ...] = ()


class TreeEntry(Struct, frozen=True):
    """One file of a tree; `size` is None for what is no file."""

    name: str
    object: str
    size: int | None
    link: bool = False
    submodule: bool = False


class Mirror:
    """One branch, in *folder* of our own, which may be lost: it is a copy.  Raises GitError."""

    def __init__(self, remote: Remote, folder: Path, signers: Signers | None = None) -> None:
        self._remote: Final = remote
        self._folder: Final = folder
        self._signers: Final = signers
        self._rings: Final = folder.with_name(f"{folder.name}.keys")
        config = list(remote.config())
        environment = remote.environment()
        if signers is not None:
            allowed = signers.ssh_file or os.devnull
            config += ["gpg.minTrustLevel=fully", f"gpg.ssh.allowedSignersFile={allowed}"]
            # Certificates are judged by what this host trusts, which nobody named as a signer.
            config += ["gpg.x509.program=/bin/false"]
            environment |= {"GNUPGHOME": str(self._rings)}
        self._git: Final = Git(folder, config, environment)

    def stop(self) -> None:
        """End a fetch that goes on; nothing is asked later.  Any thread."""
        self._git.stop()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the mirror for this process; two at once would meet each other's locks."""
        try:
            make_private_directory(self._folder.parent)
            lock = self._folder.with_name(f"{self._folder.name}.lock")
            handle = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise GitError(
                f"the mirror at {self._folder} cannot be kept ({os.strerror(error.errno or 0)})",
                "make its directory writable for this user",
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    # ── what the remote has ──────────────────────────────────────────────────────────────────

    def fetch(self) -> str:
        """Return the commit at which the branch is now, with its history in the mirror."""
        self._prepare()
        remote = self._remote
        answer = self._git.ask(
            *("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"),
            *("--force", "--end-of-options", remote.url, f"+refs/heads/{remote.branch}:{SEEN}"),
            deadline=FETCH_DEADLINE,
            file_limit=PACK_LIMIT,
        )
        if answer.code:
            if any(word in answer.complaint for word in _DAMAGED):
                self.drop()  # the remains of a git that was killed, or of a disk that was full
            raise _why_not(answer, remote)
        found = self._git.ask("rev-parse", "--verify", "--quiet", SEEN).text.strip()
        known = COMMIT.fullmatch(found)
        if not known or self._git.ask("cat-file", "-t", found).text.strip() != "commit":
            raise GitError("the branch does not lead to a commit", "name a branch, not a tag")
        return found

    def drop(self) -> None:
        """Remove the mirror; the next fetch makes it anew."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _prepare(self) -> None:
        if not (self._folder / "HEAD").exists():
            self.drop()
            try:
                make_private_directory(self._folder)
            except OSError as error:
                raise GitError(
                    f"no mirror can be made ({os.strerror(error.errno or 0)})", "see the disk"
                ) from None
            if self._git.ask("init", "--quiet", "--bare", "--template=").code:
                raise GitError("no mirror can be made", f"is there room at {self._folder}?")
        packs = self._folder / "objects" / "pack"
        if packs.is_dir() and sum(1 for one in packs.iterdir() if one.suffix == ".pack") > PACKS:
            self._git.ask("repack", "-a", "-d", "-q", deadline=FETCH_DEADLINE)

    # ── what is here ─────────────────────────────────────────────────────────────────────────

    def has(self, commit: str) -> bool:
        """Whether *commit* is in the mirror."""
        if not COMMIT.fullmatch(commit) or not (self._folder / "HEAD").exists():
            return False
        return self._git.ask("cat-file", "-e", f"{commit}^{{commit}}").code == 0

    def keep(self, commit: str) -> None:
        """Keep *commit*, wherever the branch goes."""
        if COMMIT.fullmatch(commit):
            self._git.ask("update-ref", KEPT, commit)

    def descends(self, commit: str, ancestor: str) -> bool:
        """Whether *commit* is *ancestor* or comes after it."""
        return descends(self._git, commit, ancestor)

    def about(self, commit: str) -> tuple[str, str]:
        """Return who committed it, and its message."""
        return about(self._git, commit)

    def entries(self, commit: str, path: str) -> list[TreeEntry]:
        """Return all files at and below *path*, "" for the root; nothing where there is no such."""
        where = ("--", path) if path else ()
        answer = self._git.ask(
            "ls-tree", "-r", "-z", "-l", "--full-tree", commit, *where, most=LIST_LIMIT
        )
        if answer.code:
            raise self._damaged()
        return [_entry(row) for row in answer.out.split(b"\0") if row]

    def contents(self, objects: Collection[str], most: int) -> Mapping[str, bytes]:
        """Return the content of files, by object; all of them have at most *most* bytes."""
        wanted = sorted(set(objects))
        answer = self._git.ask(
            *("cat-file", "--batch"),
            given="".join(f"{name}\n" for name in wanted).encode(),
            most=most + 200 * len(wanted),
        )
        found: dict[str, bytes] = {}
        rest = memoryview(answer.out)
        for name in wanted:
            head, _, _ = bytes(rest[:200]).partition(b"\n")
            words = head.split(b" ")
            if answer.code or words[:2] != [name.encode(), b"blob"]:
                raise self._damaged()
            begin, size = len(head) + 1, int(words[2])
            found[name] = bytes(rest[begin : begin + size])
            rest = rest[begin + size + 1 :]
        return found

    def _damaged(self) -> GitError:
        self.drop()
        return GitError("the mirror is damaged", "it is made anew; see the disk if this comes back")

    # ── who signed ───────────────────────────────────────────────────────────────────────────

    def signer(self, commit: str) -> str:
        """
        Return who signed *commit*; raises Unsigned unless that is somebody who counts.

        The author and the committer of a commit are words that anybody may write into it.
        """
        signers = self._signers
        if signers is None:
            raise AssertionError
        self._keys(signers)
        code = self._git.ask("verify-commit", commit).code
        words = "--format=%G?%x00%GP%x00%GS"
        answer = self._git.ask("show", "--no-patch", "--no-notes", words, commit)
        grade, _, rest = answer.text.rstrip("\n").partition("\0")
        primary, _, name = rest.partition("\0")
        if code or answer.code or grade != "G":
            raise Unsigned(_GRADES.get(grade, "its signature cannot be judged"), _SIGN)
        # An OpenPGP key may call itself anything; an SSH key is called what the operator wrote.
        openpgp = bool(re.fullmatch("[0-9A-F]{40,64}", primary))
        who = primary if openpgp else name
        if not who or (signers.names and who not in signers.names):
            raise Unsigned("it is signed by somebody else than those whose signature counts", _SIGN)
        return who

    def _keys(self, signers: Signers) -> None:
        """Put the operator's OpenPGP keys, and no other, where git's gpg finds them."""
        shutil.rmtree(self._rings, ignore_errors=True)
        try:
            make_private_directory(self._rings)
            (self._rings / "gpg.conf").write_text("no-auto-key-retrieve\ntrust-model always\n")
        except OSError:
            raise GitError("no key ring can be made", f"is there room at {self._rings}?") from None
        if signers.gpg_file is not None:
            self._import(signers.gpg_file)

    def _import(self, file: str) -> None:
        path = os.environ.get("PATH", os.defpath)
        gpg = shutil.which("gpg", path=path)
        if gpg is None:
            raise GitError("gpg is not installed", "install it where jtr runs")
        try:
            code = subprocess.run(  # noqa: S603  - words of our own, and the operator's file
                [gpg, "--batch", "--quiet", "--no-autostart", "--no-tty", "--import", file],
                env={"PATH": path, "GNUPGHOME": str(self._rings), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_GPG_DEADLINE,
                check=False,
            ).returncode
        except (OSError, subprocess.TimeoutExpired):
            code = -1
        if code:
            raise GitError(
                f"the keys of {file} cannot be read", "write them with: gpg --armor --export KEY..."
            )


def _entry(row: bytes) -> TreeEntry:
    match = _ROW.fullmatch(row)
    if match is None:
        raise GitError("git lists a tree in another form than this version knows", "")
    mode, size = match[1].decode(), match[3].decode()
    return TreeEntry(
        os.fsdecode(match[4]),
        match[2].decode(),
        None if size == "-" else int(size),
        link=mode == _LINK,
        submodule=mode == _SUBMODULE,
    )


# ── why not ──────────────────────────────────────────────────────────────────────────────────

_SIGN: Final = "let a signer of git.verify sign the newest commit of the branch"
_GRADES: Final = {
    "N": "it is not signed",
    "U": "it is signed with a key that is not among those whose signature counts",
    "B": "its signature does not belong to it",
    "E": "its signature cannot be judged: the key is not known, or ssh-keygen or gpg is missing",
    "X": "its signature has expired",
    "Y": "it is signed with a key that has expired",
    "R": "it is signed with a key that was revoked",
}
_DAMAGED: Final = (
    *("File exists", "loose object", "bad object", "not our ref", "corrupt", "unable to resolve"),
    *("missing blob", "missing tree", "not a git repository", "is empty"),
)
# What git and its helpers complain, and what that means; their own words may hold an address.
_ELSEWHERE: Final = ("it leads elsewhere", "write the address that it leads to into git.url")
_CERTIFICATE: Final = ("its certificate is not accepted", "check git.caFile")
_NO_TOKEN: Final = ("it does not accept our token", "check git.tokenFile")
_NOTHING: Final = ("there is no repository that we may see", "check git.url, and who may read it")
_REASONS: Final[tuple[tuple[str, tuple[str, str]], ...]] = (
    (
        "couldn't find remote ref",
        ("it has no such branch (a tag of that name does not count)", "check git.branch"),
    ),
    (
        "invalid index-pack output",
        (
            f"it sends more than {PACK_LIMIT // 2**20} MiB, or what git does not understand",
            "keep documents in a repository of their own",
        ),
    ),
    ("No space left", ("the disk of the mirror is full", "make room")),
    (
        "Host key verification failed",
        ("the key of its host is not known", "write it into git.knownHostsFile"),
    ),
    ("Permission denied (publickey", ("it does not accept our key", "check git.sshKeyFile")),
    ("could not read Username", ("it wants a login", "write git.tokenFile")),
    ("Authentication failed", _NO_TOKEN),
    ("HTTP Basic: Access denied", _NO_TOKEN),
    ("error: 403", _NOTHING),
    ("error: 404", _NOTHING),
    ("redirect", _ELSEWHERE),
    ("error: 30", _ELSEWHERE),
    ("SSL certificate", _CERTIFICATE),
    ("certificate verification failed", _CERTIFICATE),
    ("Could not resolve host", ("its name is not known", "check git.url and the name service")),
    ("dubious ownership", ("it belongs to another user", "let this user own it, or use ssh")),
    ("mismatched algorithms", ("its hashes are not SHA-1", "use a repository of SHA-1")),
    ("File exists", ("the mirror was left in disorder", "it is made anew")),
    ("Connection refused", ("nothing listens there", "check git.url")),
    ("Failed to connect", ("nothing listens there", "check git.url")),
    ("does not appear to be a git repository", _NOTHING),
    ("does not exist", _NOTHING),
    ("not found", _NOTHING),
)


def _why_not(answer: Answer, remote: Remote) -> GitError:
    for sign, reason in _REASONS:
        if sign in answer.complaint:
            return GitError(*reason)
    return GitError(f"git fetch fails ({answer.code})", f"try: git ls-remote {remote.url}")
