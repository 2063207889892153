"""From callbacks to coroutines and back, for what stands before the front."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from lakeport.errors import ApiError, Internal
from lakeport.serving.ports import Asked, CutReply, Done, Outcome, Reply, StreamReply

log = logging.getLogger(__name__)


def unforeseen(error: BaseException) -> Internal:
    """What a caller is told of an error that nobody thought of; the log gets all of it."""
    log.error("an invocation failed in an unforeseen way", exc_info=error)
    return Internal("Something went wrong inside Lakeport; its log has the reason.")


async def outcome_of(begin: Callable[[Done], Asked]) -> Reply | StreamReply:
    """Wait for what `begin`, a front's, leads to. Raises ApiError; cancelling it cancels that."""
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def done(outcome: Outcome) -> None:
        if future.done():  # cancelled in this very moment
            _close(outcome)
        else:
            future.set_result(outcome)

    asked = begin(done)
    try:
        outcome = await future
    except asyncio.CancelledError:
        asked.cancel()
        if not future.cancelled():
            _close(future.result())
        raise
    if isinstance(outcome, ApiError):
        try:
            raise outcome
        finally:
            # The error knows this frame, which holds the body: no circle for the collector.
            del outcome, future, done, asked
    assert not isinstance(outcome, CutReply)  # nothing but faults makes one
    return outcome


class Task:
    """An `Asked` that is a coroutine."""

    def __init__(
        self, work: Coroutine[Any, Any, Reply | StreamReply | CutReply], done: Done
    ) -> None:
        self._done = done
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._ended)

    def cancel(self) -> None:
        self._done = _close
        self._task.cancel()

    def _ended(self, task: "asyncio.Task[Reply | StreamReply | CutReply]") -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._done(task.result())
        else:
            self._done(error if isinstance(error, ApiError) else unforeseen(error))


def _close(outcome: Outcome) -> None:
    """Give up a stream that nobody takes."""
    reply = outcome.reply if isinstance(outcome, CutReply) else outcome
    if isinstance(reply, StreamReply):
        reply.events.close()
