"""What `jtr doctor` finds out about Vault: by questions alone, and of values by none."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from reconciler import bootstrap
from reconciler.doctor import findings as checkup
from reconciler.doctor import vault
from reconciler.doctor.findings import Finding
from reconciler.doctor.vault import TokenLook, VaultFacts
from reconciler.errors import JtrError, SecretsError, UsageError
from reconciler.model.desired import DesiredState, Presence
from reconciler.model.references import SecretPath, SecretRef
from reconciler.secrets.vault.backend import VaultBackend
from reconciler.secrets.vault.health import health
from reconciler.settings.model import AuthMethod, Settings

_RESTS = ("login", "token", "policies", "mount", "can-read", "cannot-write", "powers", "secrets")


@dataclass(slots=True)
class VaultLook:
    """What was found; `backend` is there once a login worked, `why` says why it is not."""

    findings: list[Finding] = field(default_factory=list)
    backend: VaultBackend | None = None
    why: str = ""
    ledger: list[Finding] = field(default_factory=list)  # what the token may do to a ledger there
    known: set[SecretPath] = field(default_factory=set)  # of which a failure was told already

    def close(self) -> None:
        """Leave Vault."""
        if self.backend is not None:
            self.backend.close()

    def give_up(self, finding: Finding, why: str) -> None:
        """Note that nothing more can be asked."""
        self.why = why
        self.findings.append(finding)
        self.findings += [
            checkup.skipped(f"vault.{name}", why)
            for name in _RESTS
            if f"vault.{name}" != finding.code
        ]


async def look_at_vault(
    settings: Settings, state: DesiredState | None, *, parallelism: int
) -> VaultLook:
    """Ask Vault for its health, the token's life and rights, and the metadata of each secret."""
    look = VaultLook()
    if not await _reach(settings, look):
        return look
    backend: VaultBackend | None = None
    try:
        backend = bootstrap.backend(settings)
        facts = await asyncio.to_thread(backend.whoami)
    except JtrError as error:
        if backend is not None:
            backend.close()
        look.give_up(_vault_error("vault.login", error), "there was no login to Vault")
        return look
    look.backend = backend
    own = settings.vault.auth.method not in (AuthMethod.TOKEN, AuthMethod.TOKEN_FILE)
    token = TokenLook(
        facts.policies, facts.ttl, facts.renewable, facts.kind, settings.vault.auth.method, own
    )
    look.findings += vault.token_findings(token)
    refs = references(state, settings)
    await _mounts(refs, backend, look)
    await _rights(refs, settings, backend, look)
    await _secrets(refs, settings, backend, look, parallelism)
    return look


async def _reach(settings: Settings, look: VaultLook) -> bool:
    address = settings.vault.address
    if address is None:
        error = SecretsError("no Vault is named", "set VAULT_ADDR, or vault.address in settings")
        look.give_up(checkup.of_error("vault.reachable", error), "no Vault is named")
        return False
    try:
        found = await asyncio.to_thread(
            health,
            address,
            ca_file=settings.vault.ca_file,
            timeouts=settings.timeouts,
            now=bootstrap.now,
        )
    except JtrError as error:
        look.give_up(_vault_error("vault.reachable", error), "Vault cannot be asked")
        return False
    look.findings += vault.vault_findings(
        VaultFacts(
            address, found.version, found.sealed, found.initialised, found.ahead, found.uncertainty
        )
    )
    if found.sealed or not found.initialised:
        look.why = "Vault is sealed"
        look.findings += [checkup.skipped(f"vault.{name}", look.why) for name in _RESTS]
    return not look.why


def _vault_error(code: str, error: JtrError) -> Finding:
    """A login that is not set up is a failure of the secrets backend here, not of the words."""
    if isinstance(error, UsageError):
        error = SecretsError(error.what, error.remedy)
    return checkup.of_error(code, error)


def references(state: DesiredState | None, settings: Settings) -> tuple[SecretRef, ...]:
    """Return every reference of documents and settings, once, in order."""
    found: set[SecretRef] = set()
    for server in state.servers if state is not None else ():
        found |= {ref for ref in (server.access_secret, server.access_token) if ref is not None}
        for exchange in server.exchanges:
            if exchange.presence is Presence.PRESENT:
                found.update(exchange.references)
    whole = {SecretRef(ref.at, None, ref.version) for ref in found}
    if settings.fingerprint_key is not None:
        whole.add(SecretRef(settings.fingerprint_key.at))
    return tuple(sorted(whole, key=str))


def _paths(refs: Iterable[SecretRef]) -> list[SecretPath]:
    return sorted({ref.at for ref in refs})


async def _mounts(refs: Sequence[SecretRef], backend: VaultBackend, look: VaultLook) -> None:
    """See that each mount is KV version 2, by one secret of each."""
    first: dict[str, SecretPath] = {}
    for at in _paths(refs):
        first.setdefault(at.mount, at)
    troubles: list[Finding] = []
    for mount, at in first.items():
        try:
            trouble = await asyncio.to_thread(backend.mount_trouble, at)
        except SecretsError as error:
            trouble = error
        if trouble is not None:
            troubles.append(checkup.of_error("vault.mount", trouble))
            look.known |= {ref.at for ref in refs if ref.at.mount == mount}
    if troubles:
        look.findings += troubles
    elif first:
        look.findings.append(checkup.ok("vault.mount", f"KV version 2: {', '.join(first)}"))
    else:
        look.findings.append(checkup.skipped("vault.mount", "nothing is declared"))


async def _rights(
    refs: Sequence[SecretRef], settings: Settings, backend: VaultBackend, look: VaultLook
) -> None:
    ledger = settings.ledger.at
    paths = _paths(refs)
    asked = vault.asked_of(paths, ledger)
    try:
        rights = await asyncio.to_thread(backend.capabilities, asked)
    except SecretsError as error:
        why = "the token may not ask what it may do (sys/capabilities-self; policy default)"
        look.findings.append(checkup.warning("vault.can-read", error.what, error.remedy))
        look.findings += [
            checkup.skipped(f"vault.{name}", why) for name in ("cannot-write", "powers")
        ]
        return
    key = settings.fingerprint_key.at if settings.fingerprint_key is not None else None
    sound = [at for at in paths if at not in look.known]
    look.findings += vault.rights_findings(rights, sound, key)
    look.known |= set(vault.unreadable(rights, sound, "metadata"))
    if ledger is not None:
        look.ledger += vault.ledger_rights(rights, ledger)


async def _secrets(
    refs: Sequence[SecretRef],
    settings: Settings,
    backend: VaultBackend,
    look: VaultLook,
    parallelism: int,
) -> None:
    """Read the metadata of each secret: whether there is a version that could be used."""
    key = settings.fingerprint_key.at if settings.fingerprint_key is not None else None
    gate = asyncio.Semaphore(parallelism)

    async def one(ref: SecretRef) -> Finding | None:
        async with gate:
            try:
                await asyncio.to_thread(backend.describe, ref.at, ref.version)
            except SecretsError as error:
                return checkup.of_error("vault.secrets", error)
        return None

    # The key may be missing: see key.usable.
    wanted = [ref for ref in refs if ref.at != key and ref.at not in look.known]
    found = [finding for finding in await asyncio.gather(*map(one, wanted)) if finding]
    look.findings += found
    if wanted and not found:
        text = f"{checkup.counted(len(wanted), 'secret')}: each has the version that is wanted"
        look.findings.append(checkup.ok("vault.secrets", text))
