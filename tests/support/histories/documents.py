"""The documents of a history, and what there is for them to name: servers, exchanges, robots."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from reconciler.model.desired import (
    Afterwards,
    DesiredExchange,
    DesiredServer,
    Mode,
    OnCredentialChange,
    OneShot,
    Presence,
    RequestKind,
    Suspension,
)
from reconciler.model.references import SecretPath, SecretRef
from reconciler.model.source import SourceLine

FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "bybit": {"bybit_api_key": "apiKey", "bybit_api_secret": "secret"},
    "mexc": {"mexc_api_key": "apiKey", "mexc_secret": "secret"},
}
CODES: Final = tuple(FIELDS)
URLS: Final = ("https://one.test", "https://two.test", "https://spare.test")
ROBOTS: Final = {1: ("grid", "bybit"), 2: ("maker", "bybit"), 3: ("old", "mexc")}
RUNNING: Final = frozenset({1, 2})
SOURCE: Final = SourceLine("history.yaml", 1)
SUSPENDED: Final = Suspension("maintenance", "history", None)


@dataclass(frozen=True, slots=True)
class Document:
    """One document; `key` says which secrets are its own, whatever it is called."""

    key: str
    name: str
    url: str
    exchanges: Mapping[str, Presence]
    suspended: bool = False
    observed: bool = False
    restarts: bool = False
    heals: bool = False
    cache: datetime | None = None
    reboot: datetime | None = None
    resumes: bool = True

    def server(self) -> DesiredServer:
        return DesiredServer(
            self.name,
            self.url,
            SOURCE,
            supervised=True,
            sole_account=True,
            exchanges=tuple(self._exchange(*one) for one in sorted(self.exchanges.items())),
            mode=Mode.OBSERVE if self.observed else Mode.ENFORCE,
            self_heal=self.heals,
            on_credential_change=(
                OnCredentialChange.RESTART if self.restarts else OnCredentialChange.LEAVE
            ),
            suspend=SUSPENDED if self.suspended else None,
            cache=OneShot(RequestKind.CACHE, self.cache, "stale", SOURCE) if self.cache else None,
            reboot=(
                OneShot(
                    RequestKind.REBOOT,
                    self.reboot,
                    "new secret",
                    SOURCE,
                    robots=Afterwards.RESUME if self.resumes else Afterwards.LEAVE,
                )
                if self.reboot
                else None
            ),
        )

    def _exchange(self, code: str, presence: Presence) -> DesiredExchange:
        if presence is Presence.ABSENT:
            return DesiredExchange(code, SOURCE, presence)
        return DesiredExchange(code, SOURCE, secret=SecretRef(path_of(self.key, code)))


def robot_name(url: str, robot: int) -> str:
    return f"{ROBOTS[robot][0]}-{short(url)}"


def path_of(key: str, code: str) -> SecretPath:
    return SecretPath("secret", f"jt/{key}/{code}")


def short(url: str) -> str:
    return url.removeprefix("https://").removesuffix(".test")
