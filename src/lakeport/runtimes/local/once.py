"""One piece of work for all who want it at the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(eq=False)
class _Job(Generic[T]):
    task: "asyncio.Task[T] | None" = None
    ending: bool = False
    said: list[str] = field(default_factory=list)
    listeners: list[Say] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.said.append(line)
        for listener in self.listeners:
            listener(line)


class Once(Generic[T]):
    """Runs work by key: who asks for a key that is being worked on waits for that work, and hears
    all that it says. When nobody waits any more the work is cancelled."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job[T]] = {}

    async def run(self, key: str, work: Callable[[Say], Coroutine[None, None, T]], say: Say) -> T:
        """The work's result or its exception."""
        while (job := self._jobs.get(key)) is not None and job.ending:
            await _over(job)
        if job is None:
            job = self._begin(key, work)
        assert job.task is not None
        for line in job.said:
            say(line)
        job.listeners.append(say)
        try:
            return await asyncio.shield(job.task)
        finally:
            job.listeners.remove(say)
            if not job.listeners and not job.task.done():
                job.ending = True
                job.task.cancel()
                await _over(job)

    async def close(self) -> None:
        """Cancel all work; returns once it has ended."""
        for job in list(self._jobs.values()):
            job.ending = True
            if job.task is not None:
                job.task.cancel()
            await _over(job)

    def _begin(self, key: str, work: Callable[[Say], Coroutine[None, None, T]]) -> _Job[T]:
        job = self._jobs[key] = _Job[T]()
        job.task = asyncio.get_running_loop().create_task(work(job.say))
        job.task.add_done_callback(lambda _: self._jobs.pop(key))
        return job


async def _over(job: _Job[T]) -> None:
    if job.task is not None:
        await asyncio.wait([job.task])
