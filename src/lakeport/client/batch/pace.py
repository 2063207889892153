"""How fast a batch may go: one rule for all of its requests."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import random as _random

from lakeport.client.retry import Retry


@dataclass(slots=True)
class Pace:
    """The decisions; times are seconds of one clock. `Gate` waits for them.

    A refusal (429, 503, no connection) makes every request wait, halves how many may run at a time,
    and each answer gives some of that back.
    """

    #: Requests at a time, at most.
    most: int
    retry: Retry
    random: Callable[[], float] = _random
    #: Requests at a time, now.
    limit: float = field(init=False)
    #: No request begins before it.
    resumes: float = field(default=float("-inf"), init=False)
    #: Waits in a row that were followed by a refusal.
    _waits: int = field(default=0, init=False)
    #: When the first refusal came since the last answer.
    _refused_since: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.limit = float(self.most)

    def refused(self, now: float, retry_after: float | None = None) -> None:
        if self._refused_since is None:
            self._refused_since = now
        if now >= self.resumes:  # else it was on its way when another was refused
            self._waits += 1
            self.limit = max(1.0, self.limit / 2)
        # At least half of it: all of the batch waits at one gate, so none spreads the load.
        most = min(self.retry.cap, self.retry.base * 2.0 ** min(self._waits, 30))
        wait = max(retry_after or 0.0, most * (1 + self.random()) / 2)
        self.resumes = max(self.resumes, now + wait)

    def answered(self) -> None:
        self._waits = 0
        self._refused_since = None
        self.limit = min(float(self.most), self.limit + 1 / self.limit)

    def hopeless(self, now: float) -> bool:
        """No answer came for `retry.deadline` seconds, or none will have when the wait is over."""
        since = self._refused_since
        return since is not None and max(now, self.resumes) - since > self.retry.deadline


class Gate:
    """Lets requests through as a Pace has it. For tasks of one event loop."""

    def __init__(
        self,
        pace: Pace,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.pace = pace
        self.clock = clock
        self._sleep = sleep
        self._running = 0
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for leave to send one request; leaving gives the place to another."""
        while True:
            if (wait := self.pace.resumes - self.clock()) > 0:
                await self._sleep(wait)
            elif self._running < int(self.pace.limit):
                break
            else:
                self._changed.clear()
                await self._changed.wait()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._changed.set()
