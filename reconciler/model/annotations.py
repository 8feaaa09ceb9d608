"""What is said of a line in a file: what editors, forges and test reports show there.  Pure."""

import enum

from msgspec import Struct

from reconciler.model.source import NOWHERE, SourceLine


class Weight(enum.StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


HEAVIEST = tuple(Weight)


class Annotation(Struct, frozen=True):
    """
    One of them.  *rule* names its kind for good, such as `invalid-document`.

    *source* is NOWHERE where nobody knows a line; words may be foreign, and are shown escaped.
    """

    weight: Weight
    rule: str
    what: str
    remedy: str = ""
    source: SourceLine = NOWHERE
    server: str = ""

    @property
    def words(self) -> str:
        name = f"{self.server}: " if self.server else ""
        return f"{name}{self.what}; {self.remedy}" if self.remedy else f"{name}{self.what}"

    @property
    def order(self) -> tuple[int, SourceLine]:
        """The worst first, then by place."""
        return HEAVIEST.index(self.weight), self.source


RULES = {
    "invalid-document": "A document is not valid.",
    "policy": "The operator's policy does not allow what a document asks for.",
    "audit": "An exchange says that a key may do what it must not, or nobody can tell.",
    "blocked": "Something stands against it until a person decides.",
    "failed": "It could not be compared.",
    "new-recipient": "A server would get what it never got.",
    "stops-robots": "Robots stop.",
    "change": "Something is written or deleted.",
}
"""What each rule means."""
