"""One checkup: of Vault, ledger, controller and servers; what one hides, another one may show."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack

from reconciler.doctor.findings import Finding
from reconciler.doctor.ledger import look_at_key, look_at_ledger
from reconciler.doctor.probe_controller import look_at_controller
from reconciler.doctor.probe_server import Rounds, driver, look_at_servers
from reconciler.doctor.probe_vault import VaultLook
from reconciler.model.desired import DesiredServer, DesiredState
from reconciler.observe.resolver import Resolver
from reconciler.plan.inputs import Consents
from reconciler.settings.model import Settings
from reconciler.system.console import say


async def check(
    settings: Settings,
    state: DesiredState | None,
    chosen: Sequence[DesiredServer],
    documents: list[Finding],
    *,
    visit: bool | None,
    parallelism: int,
    consents: Consents,
) -> list[Finding]:
    """Look at all of it, and at the servers *chosen*; *visit* as in `Rounds`."""
    vault = VaultLook(settings, state, parallelism)
    with ExitStack() as stack:
        stack.callback(vault.close)
        (controller, held), _ = await asyncio.gather(look_at_controller(settings), vault.look())
        backend = vault.backend
        book = await asyncio.to_thread(look_at_ledger, settings, backend, vault.ledger, state)
        if book.ledger is not None:
            stack.callback(book.ledger.close)
        begun = book.ledger is not None
        key = await asyncio.to_thread(look_at_key, settings, backend, ledger=begun)
        secrets = None
        if backend is not None:
            secrets = Resolver(
                backend,
                driver(settings),
                settings.timeouts,
                say,
                require_binding=settings.policy.require_binding,
            )
        rounds = Rounds(
            settings, book.ledger, secrets, book.why, visit, held, parallelism, consents
        )
        servers = await look_at_servers(state, chosen, rounds) if state is not None else []
    return [*vault.findings, key, *book.findings, *controller, *documents, *servers]
