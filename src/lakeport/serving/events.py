"""A stream on its way to the caller: a lease that ends with it."""

import asyncio
from collections.abc import AsyncIterator, Callable

from lakeport.gateway.chat import Exchange
from lakeport.runtimes.base import ReplicaLost, Stream, StreamFailed
from lakeport.serving.deployment import Deployment, Slot
from lakeport.wire.chat import failed_event

REPLICA_LOST = (
    "The replica that held this request ended before it answered. It is being started again; the "
    "served entity's logs say why it ended."
)
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
        """`patience`: seconds that a worker may send nothing. On the OpenAI wire the link itself
        sees to that."""
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
        except StreamFailed as failure:
            self._end(500)
            return failed_event(failure.error_code, failure.message)
        except TimeoutError:
            self._end(504)
            self._deployment.hangs(self._slot)
            return failed_event("DEADLINE_EXCEEDED", STALLED.format(limit=self._patience))
        except ReplicaLost:
            self._end(500)
            return failed_event("INTERNAL_ERROR", REPLICA_LOST)

    async def aclose(self) -> None:
        """The caller takes no more: the work for it is cancelled. Idempotent."""
        self._end(499)

    def _end(self, status: int) -> None:
        if self._open:
            self._open = False
            self._stream.close()
            self._deployment.freed(self._slot)
            self._deployment.release()
            self._ended(status)
