"""An event loop in a thread of its own, for those who have none: works inside a running one too."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

T = TypeVar("T")
C = TypeVar("C")


class Submit(Protocol):
    """Runs a coroutine on some other thread's loop."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> "Future[T]": ...


class Loop(Generic[C]):
    """Holds `opened` open while the block runs. Leaving it, by Ctrl-C too, cancels what still runs
    and waits for its end."""

    def __init__(self, opened: AbstractAsyncContextManager[C]) -> None:
        self._opened = opened
        self._ready: Future[C] = Future()
        # A generator that is never closed must not keep the interpreter from ending.
        self._thread = threading.Thread(target=self._run, name="lakeport-batch", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._leave: asyncio.Event

    def __enter__(self) -> Self:
        self._thread.start()
        self.client = self._ready.result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join()

    def submit(self, work: Coroutine[Any, Any, T], /) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        try:
            self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
            async with self._opened as client:
                self._ready.set_result(client)
                await self._leave.wait()
                others = asyncio.all_tasks() - {asyncio.current_task()}
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)
