"""Batches of what a program has at hand: any iterable in, one result for each item out."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import aclosing
from typing import Any, Unpack

from lakeport.client.batch.engine import Engine, Part
from lakeport.client.batch.loop import Loop
from lakeport.client.batch.options import BatchOptions, Options
from lakeport.client.batch.plan import (
    Bounds,
    Chunk,
    Planner,
    is_table,
    refuse_odd,
    rows_of,
    table_chunks,
)
from lakeport.client.batch.results import Asks, BatchItem, BatchProgress, HasAsync, Progress
from lakeport.client.errors import InvalidInput


def batch(
    client: HasAsync, name: str, items: Iterable[Any], **options: Unpack[BatchOptions]
) -> Iterator[BatchItem]:
    """Results in the order of `items`, which are read as results are taken: `2 * concurrency`
    requests ahead. Leaving the loop early stops what runs.

    Raises InvalidInput, and what ends a batch: see `lakeport.client.batch`.
    """
    refuse_odd(items)
    if isinstance(items, AsyncIterable):
        raise InvalidInput("items: AsyncClient.batch takes asynchronous iterables.")
    return _batch(client, name, items, Options.of(options))


def _batch(
    client: HasAsync, name: str, items: Iterable[Any], options: Options
) -> Iterator[BatchItem]:
    count = Count(options.progress, items)
    with Loop(client.asynchronous()) as loop:
        engine, planner = loop.submit(_prepare(loop.client, name, options)).result()
        window: deque[Future[list[Part]]] = deque()
        for chunk in _chunks(items, options.bounds, planner):
            window.append(loop.submit(engine.settle(chunk)))
            if len(window) >= options.ahead or window[0].done():
                yield from count.passed(window.popleft().result())
        while window:
            yield from count.passed(window.popleft().result())


def batch_async(
    client: Asks,
    name: str,
    items: Iterable[Any] | AsyncIterable[Any],
    **options: Unpack[BatchOptions],
) -> AsyncIterator[BatchItem]:
    """`batch` for an event loop; `items` may be an asynchronous iterable. An iterable that blocks
    blocks the loop."""
    refuse_odd(items)
    return _batch_async(client, name, items, Options.of(options))


async def _batch_async(
    client: Asks, name: str, items: Iterable[Any] | AsyncIterable[Any], options: Options
) -> AsyncGenerator[BatchItem]:
    count = Count(options.progress, items)
    engine, planner = await _prepare(client, name, options)
    window: deque[asyncio.Task[list[Part]]] = deque()
    try:
        async with aclosing(_chunks_async(items, options.bounds, planner)) as chunks:
            async for chunk in chunks:
                window.append(asyncio.create_task(engine.settle(chunk)))
                await asyncio.sleep(0)  # items that never wait must not keep requests from going
                if len(window) >= options.ahead or window[0].done():
                    for item in count.passed(await window.popleft()):
                        yield item
        while window:
            for item in count.passed(await window.popleft()):
                yield item
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)


class Count:
    """Counts what is done, and tells `progress`."""

    def __init__(self, progress: Progress | None, items: Any) -> None:
        self._progress = progress
        self._total = rows_of(items)
        self._began = time.monotonic()
        self._done = self._failed = 0

    def passed(self, parts: list[Part]) -> Iterator[BatchItem]:
        """The items of one chunk; its end tells `progress`."""
        for part in parts:
            self._done += part.rows
            self._failed += part.rows if part.error else 0
        if self._progress:
            seconds = time.monotonic() - self._began
            self._progress(BatchProgress(self._done, self._failed, self._total, seconds))
        for part in parts:
            values = part.values if part.error is None else [None] * part.rows
            for index, value in enumerate(values, part.start):
                yield BatchItem(index, value, part.error, part.answer)


async def _prepare(client: Asks, name: str, options: Options) -> tuple[Engine, Planner]:
    engine = Engine(client, name, options)
    task = await engine.task()
    signature = None if task else await engine.signature()
    return engine, Planner(options.bounds, task=task, signature=signature)


def _chunks(items: Iterable[Any], bounds: Bounds, planner: Planner) -> Iterator[Chunk]:
    if is_table(items):
        yield from table_chunks(items, bounds)
        return
    for item in items:
        yield from planner.add(item)
    yield from planner.flush()


async def _chunks_async(
    items: Iterable[Any] | AsyncIterable[Any], bounds: Bounds, planner: Planner
) -> AsyncGenerator[Chunk]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            for chunk in planner.add(item):
                yield chunk
        for chunk in planner.flush():
            yield chunk
        return
    for chunk in _chunks(items, bounds, planner):
        yield chunk
