"""A worker's stream that stalls is given up, and its replica reported."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from lakeport.runtimes.base import Take
from lakeport.serving.deployment import Deployment, QueueLimits
from lakeport.serving.events import Events
from lakeport.serving.flight import Slot


class Silent:
    """A stream of one event, and then nothing."""

    closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'{"a":1}'
        await asyncio.Event().wait()

    def push(self, take: Take) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


class Faulty(Silent):
    """A stream that fails in a way that nobody thought of."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'{"a":1}'
        raise RuntimeError("a secret of the inside")


async def test_a_stream_that_stalls_ends_with_an_error_and_its_replica_is_reported() -> None:
    hung: list[tuple[str, str]] = []
    limits = QueueLimits(requests=1, bytes=1, ready_wait=1, timeout=1)
    deployment = Deployment("d", cast("Any", None), limits, lambda *seen: hung.append(seen))
    statuses: list[int] = []
    stream = Silent()
    slot = Slot("r1", cast("Any", None))

    events = Events(stream, deployment, slot, None, statuses.append, patience=0.05)
    told = [event async for event in events]

    assert told[0] == b'{"a":1}'
    assert json.loads(told[1])["error"]["code"] == "DEADLINE_EXCEEDED"
    assert len(told) == 2
    assert (hung, statuses, stream.closed) == ([("d", "r1")], [504], True)


async def test_a_stream_that_fails_for_a_fault_of_ours_counts_as_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = QueueLimits(requests=1, bytes=1, ready_wait=1, timeout=1)
    deployment = Deployment("d", cast("Any", None), limits, lambda *seen: None)
    statuses: list[int] = []
    stream = Faulty()
    slot = Slot("r1", cast("Any", None))

    events = Events(stream, deployment, slot, None, statuses.append, patience=1)
    with caplog.at_level(logging.CRITICAL, logger="lakeport"):
        told = [event async for event in events]

    assert json.loads(told[1])["error"]["code"] == "INTERNAL_ERROR"
    assert b"secret" not in told[1]
    assert (len(told), statuses, stream.closed) == (2, [500], True)
