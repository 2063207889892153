"""Measures what replicas use, and tells when one uses too much."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from lakeport.runtimes.base import Usage

#: Every so many looks, who belongs to whom is looked up anew: that asks every process there is.
FAMILY_LOOKS = 5


@dataclass(eq=False, slots=True)
class Watched:
    """One process, with all that it started."""

    process: psutil.Process
    #: Bytes; 0 is no limit.
    limit: int
    over: Callable[[], None]
    usage: Usage | None = None
    family: dict[int, psutil.Process] = field(default_factory=dict)


class MemoryWatch:
    """Looks every `interval` seconds, in a thread. `over` of a process is called, on the loop, when
    its resident memory, with that of its descendants, is above its limit."""

    def __init__(self, *, interval: float = 1.0) -> None:
        self._interval = interval
        self._watched: set[Watched] = set()
        self._task: asyncio.Task[None] | None = None

    def watch(self, pid: int, *, limit: int, over: Callable[[], None]) -> Watched | None:
        """None when there is no such process any more."""
        try:
            watched = Watched(psutil.Process(pid), limit, over)
        except psutil.Error:
            return None
        self._watched.add(watched)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._poll())
        return watched

    def unwatch(self, watched: Watched | None) -> None:
        if watched is not None:
            self._watched.discard(watched)

    async def close(self) -> None:
        self._watched.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _poll(self) -> None:
        looks = 0
        while True:
            looked = list(self._watched)
            if looked:
                # What a guard started is most of a new engine.
                families = looks % FAMILY_LOOKS == 0 or any(w.usage is None for w in looked)
                usages = await asyncio.to_thread(_measure, looked, families)
                for watched, usage in zip(looked, usages, strict=True):
                    watched.usage = usage
                    over = usage is not None and 0 < watched.limit < usage.memory_bytes
                    if over and watched in self._watched:
                        watched.over()
                looks += 1
            await asyncio.sleep(self._interval)


def _measure(all_watched: list[Watched], families: bool) -> list[Usage | None]:
    if families:
        children = _children()
        for watched in all_watched:
            watched.family = _family(watched, children)
    return [_usage(watched) for watched in all_watched]


def _children() -> dict[int, list[psutil.Process]]:
    """Every process, by its parent's pid."""
    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            children.setdefault(process.ppid(), []).append(process)
        except psutil.Error:
            continue  # gone meanwhile
    return children


def _family(
    watched: Watched, children: dict[int, list[psutil.Process]]
) -> dict[int, psutil.Process]:
    family: dict[int, psutil.Process] = {}
    waiting = list(children.get(watched.process.pid, ()))
    while waiting:
        process = waiting.pop()
        waiting += children.get(process.pid, ())
        family[process.pid] = process
    return family


def _usage(watched: Watched) -> Usage | None:
    try:
        memory, cpu = watched.process.memory_info().rss, watched.process.cpu_percent()
    except psutil.Error:
        return None
    for process in watched.family.values():
        try:
            memory += process.memory_info().rss
            cpu += process.cpu_percent()
        except psutil.Error:
            continue  # gone meanwhile
    return Usage(cpu_percent=cpu, memory_bytes=memory, memory_limit_bytes=watched.limit)
