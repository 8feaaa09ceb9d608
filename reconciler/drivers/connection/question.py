"""
The one request that is in flight, and what is taken for its answer.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Ends = Callable[[str, object], bool]
"""Is told event and payload of each message; says whether the newest answer is ours."""


def first(_event: str, _payload: object) -> bool:
    """Take the first answer: nobody else ever gets one of its kind."""
    return True


@dataclass(slots=True)
class Question:
    """
    The future holds the answer, or None for a failure.

    *answer* is empty where none comes: then the future tells that the request was written.
    """

    answer: str
    reply: asyncio.Future[Mapping[str, object] | None]
    ends: Ends = first
    _newest: Mapping[str, object] | None = None

    def wants(self, event: str, *, large: bool) -> bool:
        """Whether what *event* says may matter; of large messages only the answer's does."""
        return event == self.answer or (self.ends is not first and not large)

    def hear(self, event: str, body: Mapping[str, object]) -> bool:
        """Take a message; whether it may have been the answer."""
        if self.reply.done():
            return False
        if event == self.answer:
            self._newest = body
        if self.ends(event, body.get("payload")) and self._newest is not None:
            self.settle(self._newest)
        return event == self.answer

    def settle(self, answer: Mapping[str, object] | None) -> None:
        if not self.reply.done():
            self.reply.set_result(answer)
