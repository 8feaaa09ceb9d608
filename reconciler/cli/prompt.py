"""
Asking people on a terminal, while servers want their pings answered.
"""

import asyncio
import threading
from contextlib import suppress

import click


async def confirm(question: str) -> bool:
    """
    Ask on a thread, because servers want their pings answered meanwhile.

    Not on one of asyncio's own, which are waited for: a signal must end the command although
    nobody answers.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bool] = loop.create_future()

    def settle(answer: bool | BaseException) -> None:
        if answered.done():  # given up meanwhile
            return
        if isinstance(answer, bool):
            answered.set_result(answer)
        else:
            answered.set_exception(answer)

    def ask() -> None:
        try:
            answer: bool | BaseException = click.confirm(question)
        except (click.Abort, OSError) as error:
            answer = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, answer)

    threading.Thread(target=ask, daemon=True).start()
    return await answered
