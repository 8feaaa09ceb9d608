"""
The one request that is in flight, and what is taken for its answer.
"""

import asyncio
from collections.abc import Callable

from msgspec import Struct

Ends = Callable[[str, object], bool]
"""Is told event and payload of each message; says whether the newest answer is ours."""


def first(_event: str, _payload: object) -> bool:
    """Take the first answer: nobody else ever gets one of its kind."""
    return True


class Answer(Struct, frozen=True):
    """
    What was answered.

    *digest* is that of the packet, None where nobody took it.  With *same* it was that of the last
    answer, and the payload was not decoded.
    """

    payload: object = None
    digest: int | None = None
    same: bool = False


class Question(Struct, eq=False):
    """
    The future holds the answer, or None for a failure.

    *answer* is empty where none comes: then the future tells that the request was written.
    *known* is the digest of the last answer that was read in the same way.
    """

    answer: str
    reply: asyncio.Future[Answer | None]
    ends: Ends = first
    known: int | None = None
    _newest: Answer | None = None

    def wants(self, event: str, *, large: bool) -> bool:
        """Whether what *event* says may matter; of large messages only the answer's does."""
        return event == self.answer or (self.ends is not first and not large)

    def hear_again(self, event: str, digest: int) -> bool:
        """
        Take a message as the answer if it is the last one once more; whether it was taken.

        Once: a second one is an answer that nobody asked for, whatever it says.
        """
        same = event == self.answer and self.ends is first and digest == self.known
        if not same or self.reply.done():
            return False
        self.settle(Answer(digest=digest, same=True))
        return True

    def hear(self, event: str, payload: object, digest: int | None) -> bool:
        """Take a message; whether it may have been the answer."""
        if self.reply.done():
            return False
        if event == self.answer:
            self._newest = Answer(payload, digest)
        if self.ends(event, payload) and self._newest is not None:
            self.settle(self._newest)
        return event == self.answer

    def settle(self, answer: Answer | None) -> None:
        if not self.reply.done():
            self.reply.set_result(answer)
