"""An event loop whose clock jumps: it never waits, it goes straight to the next timer."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """Never waits; tells the loop how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: VirtualLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and self.loop is not None:
            if timeout is None:
                raise RuntimeError("everything waits and nothing can ever happen")
            self.loop.skip(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at time 0; sleeping an hour takes no time."""

    def __init__(self) -> None:
        selector = _Selector()
        self._virtual = 0.0
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self._virtual

    def skip(self, seconds: float) -> None:
        self._virtual += seconds


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to completion in virtual time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
