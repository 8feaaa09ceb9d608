"""
What a pass left that found nothing open: as long as it holds, a glance is enough.
"""

from collections.abc import Mapping
from typing import Self

from msgspec import Struct

from reconciler.controller.shared import Versions, uses
from reconciler.controller.status import KeyStatus, ServerStatus
from reconciler.model.desired import DesiredServer
from reconciler.observe.visit import Visit


class Rest(Struct, frozen=True):
    """
    What the pass went by besides what the server shows: document, newest secrets, audits.

    *until* is by the event loop's clock: one that is set back must not let it last.
    """

    desired: DesiredServer
    secrets: Versions
    keys: Mapping[str, KeyStatus]
    until: float

    @classmethod
    def after(cls, visit: Visit, status: ServerStatus, until: float) -> Self:
        """Return what *visit* went by, and what audits had said then."""
        wanted = uses(visit.desired)
        used = (ref for fields in visit.sources.values() for ref in fields.values())
        secrets: Versions = {ref.at: (ref.version, ref.created) for ref in used if ref.at in wanted}
        return cls(visit.desired, secrets, status.keys, until)

    def holds(
        self, desired: DesiredServer, status: ServerStatus, newest: Versions, now: float
    ) -> bool:
        """
        Whether all of that is the same today.

        Not left to being woken: a version may be newer than the pass, and older than the sweep.
        """
        return (
            desired is self.desired
            and status.keys == self.keys
            and now < self.until
            and all(newest.get(path) == used for path, used in self.secrets.items())
        )
