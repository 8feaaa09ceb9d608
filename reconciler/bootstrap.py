"""
Put together what a pass works with: driver, Vault, ledger, fingerprint key, from the settings.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from reconciler.drivers import Trust
from reconciler.drivers.jt_trader.driver import JtTraderDriver
from reconciler.errors import Blocked, LedgerError, LedgerMissing, UsageError
from reconciler.ledger import Store
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.rollback_guard import GuardedStore, Place, RollbackGuard
from reconciler.ledger.stores import open_store
from reconciler.ledger.unrecorded import UnrecordedOutcomes
from reconciler.model.conditions import Code, Condition
from reconciler.model.desired import DesiredState
from reconciler.model.fingerprints import Fingerprints
from reconciler.model.references import SecretPath
from reconciler.model.secret import Secret
from reconciler.model.values import replace
from reconciler.observe.context import Audit, PassContext
from reconciler.observe.resolver import Resolver
from reconciler.plan.inputs import Consents
from reconciler.secrets import SecretBackend
from reconciler.secrets.fingerprint_key import key_from_file, key_from_vault
from reconciler.secrets.vault.auth import (
    SERVICE_ACCOUNT,
    AppRoleAuth,
    JwtAuth,
    KubernetesAuth,
    TokenAuth,
    TokenFileAuth,
)
from reconciler.secrets.vault.backend import VaultBackend
from reconciler.secrets.vault.kv_documents import VaultDocuments
from reconciler.secrets.vault.sweep import Sweeper, SweptBackend
from reconciler.settings.load import read_settings
from reconciler.settings.model import AuthMethod, Role, Settings, VaultAuth
from reconciler.settings.paths import key_file, unrecorded_folder
from reconciler.system import log_setup
from reconciler.system.clocks import SteadyClock
from reconciler.system.console import say
from reconciler.system.protect import keep_memory_private
from reconciler.system.who import who

if TYPE_CHECKING:
    from reconciler.exchanges.auditor import Auditor, KeyToAsk
    from reconciler.model.key_audits import Results
    from reconciler.settings.notifications import OwnKeys

REMEMBER_EVERY: Final = 600.0  # seconds: how old a sight in the ledger gets while nothing changes


class Recalled(Struct, frozen=True):
    """A ledger that was read elsewhere; `only` says that no other one knows its servers."""

    ledger: Ledger
    only: bool


def load_settings(
    flag: str | None,
    environ: Mapping[str, str],
    desired_paths: Sequence[str],
    *,
    in_repo_allowed: bool = False,
) -> Settings:
    """
    Read the settings as `read_settings` does, with what the senders say of their own keys.

    Whoever has them may hold secrets soon, so from here on the memory is for this process alone.
    """
    keep_memory_private()
    return read_settings(flag, environ, desired_paths, _own_keys, in_repo_allowed=in_repo_allowed)


def _own_keys(kind: str) -> "OwnKeys":
    from reconciler.notifications.senders import sender  # noqa: PLC0415  - only where there is one

    return sender(kind)


def now() -> datetime:
    return datetime.now(UTC)


def unrecorded() -> UnrecordedOutcomes:
    """Return what the ledger of this host could not take."""
    return UnrecordedOutcomes(unrecorded_folder())


def open_ledger(
    settings: Settings,
    command: str,
    *,
    create: bool = False,
    vault: VaultBackend | None = None,
) -> Ledger:
    """
    Open the ledger of the settings, or begin it.

    One in Vault is reached over *vault*; without it over a login of its own, which ends when the
    ledger is closed.  Raises LedgerMissing, LedgerError, and UsageError for a ledger in Vault whose
    fingerprint key does not lie there.
    """
    return _opened(settings, command, create=create, vault=vault)[0]


def writer(command: str) -> str:
    """Return what this process is called in the ledger."""
    return who(command, os.environ)


def ledger_store(
    settings: Settings, *, create: bool = False, vault: VaultBackend | None = None
) -> Store:
    """
    Open the store of the settings' ledger, whatever lies in it; see `open_ledger`.

    Raises LedgerMissing.
    """
    with ExitStack() as undo:
        load = None
        closing = None
        if (at := settings.ledger.at) is not None:
            _check_key(settings, at)
            if vault is None:
                vault = backend(settings)
                closing = vault.close
                undo.callback(closing)
            load = VaultDocuments(vault, at)
        store = open_store(
            str(settings.ledger), settings.timeouts, create=create, documents=load, closing=closing
        )
        undo.pop_all()
    return store


def _opened(
    settings: Settings, command: str, *, create: bool, vault: VaultBackend | None
) -> tuple[Ledger, GuardedStore]:
    with ExitStack() as undo:
        store = GuardedStore(ledger_store(settings, create=create, vault=vault))
        undo.callback(store.close)
        ledger = Ledger(store, now=now, timeouts=settings.timeouts, writer=writer(command))
        undo.pop_all()
    return ledger, store


def _check_key(settings: Settings, ledger: SecretPath) -> None:
    """Whoever shares a ledger must share the key, or nobody recognises what another one wrote."""
    key = settings.fingerprint_key
    if key is None:
        raise UsageError(
            "the ledger is in Vault, but the fingerprint key is not: no other host would recognise "
            "what this one wrote",
            "write fingerprintKey: vault:MOUNT/PATH#FIELD",
        )
    if f"{key.at}/".startswith(f"{ledger}/"):
        raise UsageError(
            "the fingerprint key lies below the ledger: whoever reads one would have the other",
            "name another path in fingerprintKey",
        )


def rollback_guard() -> RollbackGuard:
    """Return what this host remembers of its ledgers, beside the fingerprint key."""
    return RollbackGuard(Path(key_file()).parent / "seen")


def _file_place(settings: Settings) -> Place | None:
    return Place.of(settings.ledger.file) if settings.ledger.file else None


def suspicion(settings: Settings, ledger: Ledger, *, keep: bool) -> str:
    """Return why the ledger may have forgotten what was done; with *keep* that is remembered."""
    return rollback_guard().check(
        ledger.ledger_uid,
        ledger.sequence,
        _file_place(settings),
        born_now=ledger.born_now,
        keep=keep,
    )


def _watch(settings: Settings, ledger: Ledger, store: GuardedStore) -> str:
    """As `suspicion`, for a command that writes: from now on its requests raise the mark."""
    mark, place, uid = rollback_guard(), _file_place(settings), ledger.ledger_uid
    counted = 0

    def count() -> int:
        nonlocal counted
        counted = ledger.sequence()
        return counted

    def reached(sequence: int) -> None:
        try:
            mark.note(uid, sequence, place)
        except LedgerError:
            # A ledger in Vault is used from read-only containers, too, which remember nothing.
            if place is not None:
                raise

    suspect = mark.check(uid, count, place, born_now=ledger.born_now)
    store.tell(counted, reached)
    return suspect


def accept_ledger(settings: Settings, uid: str, writes: int) -> None:
    """Take the ledger as it is from now on, after so many writes.  Raises LedgerError."""
    rollback_guard().accept(uid, writes, _file_place(settings))


def backend(settings: Settings) -> VaultBackend:
    """Return the secret backend of the settings; contacts nothing yet."""
    vault = settings.vault
    if vault.address is None:
        raise UsageError("no Vault is named", "set VAULT_ADDR, or vault.address in the settings")
    return VaultBackend(
        address=vault.address,
        auth=_login(vault.auth),
        namespace=vault.namespace or "",
        ca_file=vault.ca_file,
        timeouts=settings.timeouts,
    )


def _login(
    auth: VaultAuth,
) -> TokenAuth | TokenFileAuth | AppRoleAuth | JwtAuth | KubernetesAuth:
    match auth.method:
        case AuthMethod.TOKEN:
            if auth.token is None:
                raise UsageError(
                    "there is no Vault token", "set VAULT_TOKEN, or vault.auth in the settings"
                )
            return TokenAuth(auth.token)
        case AuthMethod.TOKEN_FILE:
            return TokenFileAuth(auth.token_file or "")
        case AuthMethod.APPROLE:
            return AppRoleAuth(
                auth.role_id, auth.role_id_file, auth.secret_id_file, auth.mount or "approle"
            )
        case AuthMethod.JWT:
            return JwtAuth(auth.role or "", auth.token_file or "", auth.mount or "jwt")
        case AuthMethod.KUBERNETES:
            return KubernetesAuth(
                auth.role or "", auth.token_file or SERVICE_ACCOUNT, auth.mount or "kubernetes"
            )


def ledger_backend(settings: Settings) -> VaultBackend | None:
    """Return one login for the ledger and the fingerprint key; None when both lie on this host."""
    if settings.fingerprint_key is None and settings.ledger.at is None:
        return None
    return backend(settings)


def fingerprint_key(
    settings: Settings, vault: VaultBackend | None, *, create: bool
) -> Secret | None:
    """Return the fingerprint key; None when there is none, and none shall be made."""
    if settings.fingerprint_key is not None and vault is not None:
        return vault.wait(key_from_vault(vault, settings.fingerprint_key, create=create))
    return key_from_file(key_file(), create=create)


def make_fingerprint_key(settings: Settings, vault: VaultBackend | None) -> bool:
    """Make the fingerprint key if there is none; whether that was so."""
    if fingerprint_key(settings, vault, create=False) is not None:
        return False
    return fingerprint_key(settings, vault, create=True) is not None


def trust(settings: Settings, url: str) -> Trust:
    rule = settings.tls_for(url)
    return Trust() if rule is None else Trust(rule.ca_file, rule.client_cert, rule.client_key)


@contextmanager
def prepared(
    settings: Settings,
    command: str,
    *,
    parallelism: int,
    writes: bool,
    begin: bool = False,
    looks: bool = True,
    say: Callable[[str], None] = say,
    reading: Callable[[VaultBackend], SecretBackend] | None = None,
    lasting: bool = False,
    recalled: Recalled | None = None,
) -> Iterator[PassContext]:
    """
    Yield the context of a pass and give everything back afterwards.

    A command that *writes* needs a ledger and its key; with *begin* they are made when they are
    missing, and that is said.  One that only recalls (*looks* is False) compares nothing anew: it
    asks for no key, so that a pull request needs no right to read it.  *reading* may put something
    before Vault where secrets of servers are read.  A *lasting* process lives for months.
    *recalled* takes the place of the ledger of the settings.
    """
    log_setup.ensure()
    with ExitStack() as stack:
        vault = backend(settings)
        stack.callback(vault.close)
        ledger, suspect, found = recalled.ledger if recalled is not None else None, "", None
        if ledger is None:
            found = _ledger(settings, command, vault, needed=writes, begin=begin)
        if found is not None:
            ledger, store = found
            stack.callback(ledger.close)
            if not writes:
                suspect = suspicion(settings, ledger, keep=False)
            else:
                suspect = _watch(settings, ledger, store)
                stack.callback(_note, settings, ledger, store)
            if suspect and writes:
                say(
                    f"no reboot and no invalidation will be done: {suspect}; find out what was "
                    "done meanwhile, then: jtr ledger accept-restore"
                )
        key = fingerprint_key(settings, vault, create=False) if looks else None
        if key is None and begin:
            key = fingerprint_key(settings, vault, create=True)
            say("made a new fingerprint key")
        if key is None and writes:
            raise Blocked(
                f"there is no fingerprint key at {settings.fingerprint_key or key_file()}",
                "restore it if there was one, for nothing written with it is recognised without "
                "it; else `jtr ledger init` makes one",
            )
        if key is None and ledger is not None and looks:
            say(
                f"there is no fingerprint key at {settings.fingerprint_key or key_file()}: "
                "what was written is not recognised"
            )
        driver = JtTraderDriver(
            command=command, timeouts=settings.timeouts, accept_versions=settings.accept_versions
        )
        context = PassContext(
            driver=driver,
            resolver=Resolver(
                (reading or _swept(settings))(vault),
                driver,
                settings.timeouts,
                say,
                require_binding=settings.policy.require_binding,
            ),
            # Without a key nothing was ever remembered: any key will do to look once.
            fingerprints=Fingerprints(key)
            if key is not None
            else Fingerprints(Secret(token_hex(32)), lasting=False),
            timeouts=settings.timeouts,
            ledger=ledger,
            label=writer(command),
            policy=settings.policy,
            trust=lambda url: trust(settings, url),
            max_unknown_writes=settings.max_unknown_writes,
            parallelism=parallelism,
            now=now,
            jumped=SteadyClock(now, forgiving=lasting).jumped,
            unrecorded=unrecorded(),
            ledger_suspect=suspect,
            sole_writer=settings.sole_writer and recalled is None,
            ledger_shared=recalled.only if recalled is not None else settings.ledger.shared,
            remember_every=REMEMBER_EVERY if lasting else 0.0,
            reads_at_once=not lasting,
        )
        if writes:
            context = replace(context, audit=_gate(settings, context), egress_of=settings.egress_of)
        yield context


def _swept(settings: Settings) -> Callable[[VaultBackend], SecretBackend]:
    """Return what lets a survey learn the versions of all secrets at once."""
    timeouts = settings.timeouts
    return lambda vault: SweptBackend(
        vault,
        max_age=timeouts.interval,
        settle=timeouts.settle,
        sweeper=Sweeper(vault, thorough=False),
    )


def _gate(settings: Settings, context: PassContext) -> Audit:
    """Return what asks exchanges about keys before a push; it asks nobody before it is called."""
    turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by exchange

    async def audit(
        keys: "Sequence[KeyToAsk]", *, within: timedelta | None = None, again: bool = True
    ) -> "Results":
        from reconciler.exchanges.cache import GOOD  # noqa: PLC0415  - only who audits pays
        from reconciler.exchanges.registry import entry  # noqa: PLC0415

        async with AsyncExitStack() as stack:
            # Exchanges ban who asks too fast; in one order, or two could wait for one another.
            for family in sorted({entry(key.id.exchange).family for key in keys}):
                await stack.enter_async_context(turns[family])
            return await auditor(settings, context).audit(
                keys, within=GOOD if within is None else within, again=again
            )

    return audit


def auditor(settings: Settings, context: PassContext) -> "Auditor":
    """Return who asks exchanges about keys, as the settings have it; asks nobody yet."""
    from reconciler.exchanges.auditor import Auditor  # noqa: PLC0415  - only where keys are audited

    return Auditor(
        context.fingerprints,
        settings.timeouts,
        cache=settings.audit.cache,
        bases=settings.audit.bases,
        say=say,
        now=context.now,
    )


def beside_controller(
    settings: Settings, context: PassContext, state: DesiredState, consents: Consents
) -> Consents:
    """
    Leave drift and requests to the controller of this ledger, if there is one, and say so.

    What a person asked for by an option of this very command is theirs.
    """
    if settings.role is Role.CONTROLLER or context.ledger is None:
        return consents
    who = context.ledger.controller()
    if not who:
        return consents
    why = f"left to the controller of this ledger ({who})"
    heals = [server for server in state.servers if server.self_heal]
    asks = [server for server in state.servers if server.one_shots]
    if heals or asks:
        say(f"{who} is the controller of this ledger: drift and requests are left to it")
    resting = {f"{server.name}/{one.code}": why for server in heals for one in server.exchanges}
    left = Condition(Code.LEFT_TO_CONTROLLER, why)
    return replace(consents, quiet=consents.quiet or left, resting=resting)


def _note(settings: Settings, ledger: Ledger, store: GuardedStore) -> None:
    """Remember at the end of a command, however it ended, how far the ledger has come."""
    try:
        rollback_guard().note(ledger.ledger_uid, store.least, _file_place(settings))
    except LedgerError as error:
        # A ledger in Vault is used from read-only containers, too, which remember nothing.
        if settings.ledger.file:
            say(f"this host could not note how far the ledger has come: {error}")


def _ledger(
    settings: Settings, command: str, vault: VaultBackend, *, needed: bool, begin: bool
) -> tuple[Ledger, GuardedStore] | None:
    try:
        return _opened(settings, command, create=False, vault=vault)
    except LedgerMissing:
        if begin:
            found = _opened(settings, command, create=True, vault=vault)
            say(f"began a new ledger: {settings.ledger}")
            return found
        if needed:
            raise
        return None
