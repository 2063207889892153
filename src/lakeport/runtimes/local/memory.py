"""Measures what replicas use, and tells when one uses too much."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from lakeport.runtimes.base import Usage
from lakeport.telemetry.ticks import pause

log = logging.getLogger(__name__)

#: Every so many looks, who belongs to whom is looked up anew: that may ask every process there is.
FAMILY_LOOKS = 5
#: Linux, where its kernel was built so, says whose children are whose.
_KERNEL_TELLS = os.path.exists(f"/proc/self/task/{threading.get_native_id()}/children")


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
                try:
                    usages = await asyncio.to_thread(_measure, looked, families)
                except Exception:  # no thread to be had, say: limits that hold no more are worse
                    log.exception("what replicas use could not be measured; trying again")
                    usages = [watched.usage for watched in looked]
                for watched, usage in zip(looked, usages, strict=True):
                    watched.usage = usage
                    over = usage is not None and 0 < watched.limit < usage.memory_bytes
                    if over and watched in self._watched:
                        watched.over()
                looks += 1
            await asyncio.sleep(pause(self._interval))


def _measure(all_watched: list[Watched], families: bool) -> list[Usage | None]:
    if families:
        children_of = _told_children if _KERNEL_TELLS else _looker()
        for watched in all_watched:
            watched.family = _family(watched, children_of)
    return [_usage(watched) for watched in all_watched]


def _told_children(pid: int) -> list[int]:
    """The pids of a process' children, as Linux tells them."""
    found: list[int] = []
    with suppress(OSError):  # gone meanwhile
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def _looker() -> Callable[[int], list[int]]:
    """The same where nobody tells: every process is asked for its parent."""
    children: dict[int, list[int]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone meanwhile
            children.setdefault(process.ppid(), []).append(process.pid)
    return lambda pid: children.get(pid, [])


def _family(watched: Watched, children_of: Callable[[int], list[int]]) -> dict[int, psutil.Process]:
    family: dict[int, psutil.Process] = {}
    waiting = children_of(watched.process.pid)
    while waiting:
        pid = waiting.pop()
        known = watched.family.get(pid)
        with suppress(psutil.Error):  # gone meanwhile
            family[pid] = known if known and known.is_running() else psutil.Process(pid)
            waiting += children_of(pid)
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
    return Usage(
        cpu_percent=cpu,
        memory_bytes=memory,
        memory_limit_bytes=watched.limit,
        pid=watched.process.pid,
    )
