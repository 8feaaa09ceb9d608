"""What `jtr doctor` finds out about Vault: by questions alone, and of values by none."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from reconciler import bootstrap
from reconciler.doctor import vault
from reconciler.doctor.findings import (
    Finding,
    Grade,
    all_or,
    failed,
    of_error,
    ok,
    skipped,
    warning,
)
from reconciler.errors import (
    Exit,
    Forbidden,
    JtrError,
    SecretsError,
    TokenExpired,
    UsageError,
)
from reconciler.model.desired import DesiredState, Presence
from reconciler.model.references import SecretPath, SecretRef
from reconciler.model.wording import counted
from reconciler.secrets.vault.backend import VaultBackend
from reconciler.secrets.vault.health import health
from reconciler.settings.model import AuthMethod, Settings

_CODE: Final = Exit.SECRETS
_TRIED: Final = 20  # secrets that may show that a token lives
_RESTS: Final = (
    "login",
    "token",
    "policies",
    "mount",
    "can-read",
    "cannot-write",
    "powers",
    "secrets",
    "bindings",
)


@dataclass(slots=True)
class VaultLook:
    """
    Asks Vault for its health, the token's life and rights, and the metadata of each secret.

    `backend` is there once a login worked.
    """

    settings: Settings
    state: DesiredState | None
    parallelism: int
    findings: list[Finding] = field(default_factory=list)
    ledger: list[Finding] = field(default_factory=list)  # what the token may do to a ledger there
    backend: VaultBackend | None = None
    _known: set[SecretPath] = field(default_factory=set)  # of which a failure was told already

    def close(self) -> None:
        if self.backend is not None:
            self.backend.close()

    async def look(self) -> None:
        """Find out all of it; what cannot be asked is told as skipped."""
        if not await self._reach():
            return
        backend: VaultBackend | None = None
        try:
            backend = bootstrap.backend(self.settings)
            ref = self.settings.fingerprint_key
            key = ref.at if ref is not None else None
            refs = _references(self.state, key)
            await self._token(backend, refs)
        except JtrError as error:
            if backend is not None:
                backend.close()
            self._give_up("vault.login", error, "there was no login to Vault")
            return
        self.backend = backend
        paths = sorted({ref.at for ref in refs})
        await self._mounts(paths, backend)
        await self._rights(paths, key, backend)
        # The key may be missing: see key.usable.
        wanted = [ref for ref in refs if ref.at != key and ref.at not in self._known]
        await self._secrets(wanted, backend)

    async def _token(self, backend: VaultBackend, refs: Sequence[SecretRef]) -> None:
        """Say who we are to Vault; where the token may not ask that, that it may do its work."""
        method = self.settings.vault.auth.method
        try:
            token = await backend.whoami()
        except (Forbidden, TokenExpired):
            # The least token may do nothing but read; one that is dead looks the same until then.
            at = await _readable(backend, refs)
            if at is None:
                raise
            self.findings.append(ok("vault.login", f"by {method}: it may read {at}"))
            why = "the token may not look itself up (auth/token/lookup-self), and need not"
            self._skip(why, "token", "policies")
            return
        own = method not in (AuthMethod.TOKEN, AuthMethod.TOKEN_FILE)
        self.findings += [
            ok("vault.login", f"by {method}"),
            vault.token_finding(
                token.ttl,
                token.kind,
                renewable=token.renewable,
                own=own,
                file=method is AuthMethod.TOKEN_FILE,
            ),
            vault.policies_finding(token.policies),
        ]

    def _skip(self, why: str, *names: str) -> None:
        self.findings += [skipped(f"vault.{name}", why) for name in names]

    def _give_up(self, code: str, error: JtrError, why: str) -> None:
        """Note that nothing more can be asked."""
        if isinstance(error, UsageError):
            # A login that is not set up fails the secrets backend here, not the words.
            error = SecretsError(error.what, error.remedy)
        self.findings.append(of_error(code, error))
        self._skip(why, *(name for name in _RESTS if f"vault.{name}" != code))

    async def _reach(self) -> bool:
        vaults, code = self.settings.vault, "vault.reachable"
        if vaults.address is None:
            none = UsageError("no Vault is named", "set VAULT_ADDR, or vault.address in settings")
            self._give_up(code, none, none.what)
            return False
        try:
            found = await health(
                vaults.address,
                ca_file=vaults.ca_file,
                timeouts=self.settings.timeouts,
                now=bootstrap.now,
            )
        except JtrError as error:
            self._give_up(code, error, "Vault cannot be asked")
            return False
        state = ok("vault.sealed", "unsealed")
        if not found.initialised:
            state = failed("vault.sealed", "it was never initialised", "initialise it", _CODE)
        elif found.sealed:
            state = failed("vault.sealed", "it is sealed", "unseal it", _CODE)
        self.findings += [
            ok(code, f"{vaults.address}, version {found.version or 'not told'}"),
            state,
            vault.clock_finding(found.ahead, found.uncertainty),
        ]
        if state.grade is Grade.FAILED:
            self._skip("Vault is sealed", *_RESTS)
        return state.grade is Grade.OK

    async def _mounts(self, paths: Sequence[SecretPath], backend: VaultBackend) -> None:
        """See that each mount is KV version 2, by one secret of each."""
        first = {at.mount: at for at in reversed(paths)}
        troubles = {}
        for mount in sorted(first):
            try:
                trouble = await backend.mount_trouble(first[mount])
            except SecretsError as error:
                trouble = error
            if trouble is not None:
                troubles[mount] = of_error("vault.mount", trouble)
        self._known |= {at for at in paths if at.mount in troubles}
        if first:
            fine = f"KV version 2: {', '.join(sorted(first))}"
            self.findings += all_or(troubles.values(), "vault.mount", fine)
        else:
            self._skip("nothing is declared", "mount")

    async def _rights(
        self, paths: Sequence[SecretPath], key: SecretPath | None, backend: VaultBackend
    ) -> None:
        ledger = self.settings.ledger.at
        try:
            rights = await backend.capabilities(vault.asked_of(paths, ledger))
        except (Forbidden, TokenExpired):
            why = "the token may not ask what it may do (sys/capabilities-self; policy default)"
            self._skip(why, "can-read", "cannot-write", "powers")
            return
        except SecretsError as error:
            why = "Vault did not say what the token may do"
            self.findings.append(warning("vault.can-read", error.what, error.remedy))
            self._skip(why, "cannot-write", "powers")
            return
        sound = [at for at in paths if at not in self._known]
        self.findings += vault.rights_findings(rights, sound, key)
        self._known |= set(vault.unreadable(rights, sound, "metadata"))
        if ledger is not None:
            self.ledger += vault.ledger_rights(rights, ledger)

    async def _secrets(self, refs: Sequence[SecretRef], backend: VaultBackend) -> None:
        """Read the metadata of each secret: whether there is a version that could be used."""
        gate = asyncio.Semaphore(self.parallelism)
        unbound: set[SecretPath] = set()

        async def one(ref: SecretRef) -> Finding | None:
            async with gate:
                try:
                    info = await backend.describe(ref.at, ref.version)
                    if info.targets is None:
                        unbound.add(ref.at)
                except SecretsError as error:
                    return of_error("vault.secrets", error)
            return None

        if refs:
            found = filter(None, await asyncio.gather(*map(one, refs)))
            fine = f"{counted(len(refs), 'secret')}: each has the version that is wanted"
            self.findings += all_or(found, "vault.secrets", fine)
            required = self.settings.policy.require_binding
            self.findings.append(
                vault.binding_finding(sorted(unbound), all_of=len(refs), required=required)
            )


async def _readable(backend: VaultBackend, refs: Sequence[SecretRef]) -> SecretPath | None:
    """Return a declared secret whose metadata the token may read, or None."""
    for ref in refs[:_TRIED]:
        with suppress(SecretsError):
            await backend.describe(ref.at, ref.version)
            return ref.at
    return None


def _references(state: DesiredState | None, key: SecretPath | None) -> list[SecretRef]:
    """Return every reference of documents and settings, once, in order."""
    found: set[SecretRef] = set()
    for server in state.servers if state is not None else ():
        found |= {ref for ref in (server.access_secret, server.access_token) if ref is not None}
        for exchange in server.exchanges:
            if exchange.presence is Presence.PRESENT:
                found.update(exchange.references)
    whole = {SecretRef(ref.at, None, ref.version) for ref in found}
    if key is not None:
        whole.add(SecretRef(key))
    return sorted(whole, key=str)
