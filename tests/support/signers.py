"""Keys of people who sign commits: SSH and OpenPGP, made anew and known to nobody else."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class SshSigner:
    """`config` makes git sign with it; `line` is what a file of allowed signers says of it."""

    name: str
    key: Path

    @property
    def config(self) -> tuple[str, ...]:
        return ("gpg.format=ssh", f"user.signingKey={self.key}")

    @property
    def line(self) -> str:
        return f"{self.name} {self.key.with_suffix('.pub').read_text('utf-8')}"


def ssh_signer(folder: Path, name: str) -> SshSigner:
    key = folder / name.partition("@")[0]
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, timeout=60)
    return SshSigner(name, key)


class GpgSigner:
    """Enter it: a key in a ring of its own, whose agent ends with it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._home = folder / name.partition("@")[0]
        self._home.mkdir(mode=0o700)
        self._name = name
        self.program = folder / f"{self._home.name}-gpg"
        text = f'#!/bin/sh\nexport GNUPGHOME="{self._home}"\nexec gpg --batch --no-tty "$@"\n'
        self.program.write_text(text, "utf-8")
        self.program.chmod(0o700)

    def __enter__(self) -> Self:
        self._gpg("--passphrase", "", "--quick-generate-key", self._name, "ed25519", "sign", "0")
        rows = self._gpg("--with-colons", "--fingerprint").splitlines()
        self.fingerprint = next(row.split(":")[9] for row in rows if row.startswith("fpr:"))
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(
            ["gpgconf", "--homedir", str(self._home), "--kill", "all"], check=True, timeout=60
        )

    @property
    def config(self) -> tuple[str, ...]:
        return (
            "gpg.format=openpgp",
            f"gpg.program={self.program}",
            f"user.signingKey={self.fingerprint}",
        )

    def public(self) -> str:
        return self._gpg("--armor", "--export")

    def _gpg(self, *words: str) -> str:
        return subprocess.run(
            [str(self.program), *words],
            env={"PATH": os.environ.get("PATH", os.defpath)},
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        ).stdout
