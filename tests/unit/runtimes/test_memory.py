"""The watch on what replicas use."""

import asyncio
import os

import pytest

from lakeport.runtimes.base import Usage
from lakeport.runtimes.local import memory
from lakeport.runtimes.local.memory import MemoryWatch, Watched


async def test_a_look_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def measure(watched: list[Watched], families: bool) -> list[Usage | None]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise RuntimeError("can't start new thread")
        return [Usage(cpu_percent=0.0, memory_bytes=2, memory_limit_bytes=1, pid=os.getpid())]

    monkeypatch.setattr(memory, "_measure", measure)
    watch, over = MemoryWatch(interval=0.01), asyncio.Event()

    watched = watch.watch(os.getpid(), limit=1, over=over.set)

    async with asyncio.timeout(10):
        await over.wait()
    assert watched is not None
    assert looks >= 2
    await watch.close()
