"""A stream on its way to the caller: a lease that ends with it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial

from lakeport.gateway.chat import Exchange
from lakeport.runtimes.base import ReplicaLost, Stream, StreamFailed
from lakeport.serving.deployment import REPLICA_LOST, Deployment
from lakeport.serving.flight import Slot
from lakeport.wire.chat import failed_event

log = logging.getLogger(__name__)

STALLED = "The model sent nothing for {limit:g} seconds; the stream is given up."


class Events:
    """A stream's events; holds the lease until it is exhausted or closed.

    A class and not a generator: closing a generator that was never begun runs none of its code.
    """

    def __init__(
        self,
        stream: Stream,
        deployment: Deployment,
        slot: Slot,
        exchange: Exchange | None,
        ended: Callable[[int], None],
        *,
        patience: float,
    ) -> None:
        """`ended` gives back the lease. `patience`: seconds that a worker may send nothing; on the
        OpenAI wire the link itself sees to that."""
        self._stream = stream
        self._events = aiter(stream)
        self._deployment = deployment
        self._slot = slot
        self._exchange = exchange
        self._ended = ended
        self._patience = patience
        self._open = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._open:
            raise StopAsyncIteration
        try:
            if self._exchange is None:
                async with asyncio.timeout(self._patience):
                    return await anext(self._events)
            event = await anext(self._events)
            while (shown := self._exchange.event(event)) is None:
                event = await anext(self._events)
            return shown
        except StopAsyncIteration:
            self._end(200)
            raise
        except TimeoutError:
            self._end(504)
            self._deployment.hangs(self._slot)
            return failed_event("DEADLINE_EXCEEDED", STALLED.format(limit=self._patience))
        except Exception as problem:  # noqa: BLE001 - the caller is to hear of whatever ends it
            return self._failed(problem)

    def push(self, take: Callable[[bytes | None], bool]) -> bool:
        # A worker that may hang needs somebody who waits; on the OpenAI wire the link sees to that.
        return self._exchange is not None and self._stream.push(partial(self._pushed, take))

    def _pushed(
        self, take: Callable[[bytes | None], bool], event: bytes | Exception | None
    ) -> bool:
        exchange = self._exchange
        if isinstance(event, bytes):
            shown = event if exchange is None else exchange.event(event)
            return shown is None or take(shown)
        if event is not None:
            take(self._failed(event))
        self._end(200)
        return take(None)

    def _failed(self, problem: Exception) -> bytes:
        """The last event, which says why there are no more."""
        self._end(500)
        if isinstance(problem, StreamFailed):
            return failed_event(problem.error_code, problem.message)
        if not isinstance(problem, ReplicaLost):
            log.error("a stream failed in an unforeseen way", exc_info=problem)
            return failed_event("INTERNAL_ERROR", "The stream broke off.")
        return failed_event("INTERNAL_ERROR", REPLICA_LOST)

    def close(self) -> None:
        """The caller takes no more: the work for it is cancelled. Idempotent."""
        self._end(499)

    def _end(self, status: int) -> None:
        if self._open:
            self._open = False
            self._stream.close()
            self._deployment.freed(self._slot)
            self._ended(status)
