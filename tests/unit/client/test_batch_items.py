"""Batches of a program's own items: how items are read, results taken, and a batch left."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import sparse

from lakeport.client.batch import BatchProgress, batch, batch_async
from lakeport.client.errors import (
    InvalidInput,
)
from tests.unit.client.asks import Asks, predictions, rows_of, total


@pytest.mark.parametrize(
    "items",
    [
        pd.DataFrame({"a": range(10), "b": range(10)}),
        type("GeoDataFrame", (pd.DataFrame,), {})({"a": range(10), "b": range(10)}),
        pa.table({"a": range(10), "b": range(10)}),
        pa.record_batch({"a": range(10), "b": range(10)}),
        np.array([[n, n] for n in range(10)]),
        sparse.coo_array(np.array([[n, n] for n in range(10)])),
    ],
    ids=lambda items: type(items).__name__,
)
def test_rows_of_one_table_are_items(items: Any) -> None:
    client = Asks(total)

    told: list[BatchProgress] = []

    found = predictions(batch(client, "m", items, chunk_rows=4, progress=told.append))

    assert found == [2 * n for n in range(10)]
    assert len(client.bodies) == 3
    assert told[0].total == 10


def test_options_reach_every_request() -> None:
    client = Asks(total)

    list(batch(client, "m", [[1], [2]], chunk_rows=1, params={"t": 1}))

    assert [body["params"] for body in client.bodies] == [{"t": 1}] * 2


def test_items_are_read_as_results_are_taken() -> None:
    read = 0

    def rows() -> Iterator[list[int]]:
        nonlocal read
        for n in range(10_000):
            read += 1
            yield [n]

    results = batch(Asks(total), "m", rows(), chunk_rows=1, concurrency=3)
    first = next(results)

    assert first.prediction == 0
    assert read <= 2 * 3 + 1
    results.close()  # type: ignore[attr-defined]


def test_leaving_early_cancels_what_runs_and_ends_the_thread() -> None:
    cancelled = threading.Event()

    begun = asyncio.Event()

    async def serve(body: dict[str, Any]) -> Any:
        if rows_of(body) == [[0]]:
            await begun.wait()
            return await total(body)
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    for item in batch(Asks(serve), "m", [[n] for n in range(100)], chunk_rows=1):
        assert item.prediction == 0
        break

    assert cancelled.is_set()
    assert not [t for t in threading.enumerate() if t.name == "lakeport-batch"]


def test_progress_is_told() -> None:
    told: list[BatchProgress] = []
    rows: list[Any] = [[1], ["bad"], [3]]

    list(batch(Asks(total), "m", rows, chunk_rows=1, progress=told.append))

    assert [(p.done, p.failed, p.total) for p in told] == [(1, 0, 3), (2, 1, 3), (3, 1, 3)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"chunk_rows": 0}, "chunk_rows"),
        ({"on_error": "ignore"}, "on_error"),
    ],
)
def test_bad_options_are_refused_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        batch(Asks(total), "m", [], **options)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="retry_failed"):
        batch(Asks(total), "m", [], retry_failed=True)  # type: ignore[call-arg]


async def test_it_works_within_a_running_loop() -> None:
    assert predictions(batch(Asks(total), "m", [[1], [2]])) == [1, 2]


async def test_async_batches_take_async_items() -> None:
    async def rows() -> AsyncIterator[list[int]]:
        for n in range(25):
            await asyncio.sleep(0)
            yield [n]

    client = Asks(total)

    found = [item.prediction async for item in batch_async(client, "m", rows(), chunk_rows=10)]

    assert found == list(range(25))
    assert len(client.bodies) == 3


async def test_leaving_an_async_batch_cancels_what_runs() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def serve(body: dict[str, Any]) -> Any:
        if rows_of(body) == [[0]]:
            await begun.wait()
            return await total(body)
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    items: Any = batch_async(Asks(serve), "m", [[n] for n in range(100)], chunk_rows=1)
    async with aclosing(items) as results:
        assert (await anext(results)).prediction == 0

    assert cancelled.is_set()
