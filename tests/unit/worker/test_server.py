"""The loop of a worker, without its sockets."""

import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from lakeport.worker.call import Call
from lakeport.worker.server import Server


class _Scorer:
    """Answers each call, and remembers how many came at a time."""

    model = SimpleNamespace(row_wise=False, waits=False, streams=False)
    max_body = 1024

    def __init__(self, *, merges: bool) -> None:
        self.merges = merges
        self.asked: list[list[int]] = []

    def batch(self, calls: Sequence[Call]) -> Iterator[list[tuple[Call, bytes]]]:
        self.asked.append([call.id for call in calls])
        yield [(call, b"answer") for call in calls]


class _Connection:
    def __init__(self, calls: list[Call]) -> None:
        self.calls = {call.id: call for call in calls}
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)


@pytest.mark.parametrize(
    ("merges", "asked"), [(True, [[0, 1, 2]]), (False, [[0], [2]])], ids=["merged", "not merged"]
)
def test_who_has_gone_is_seen_between_two_predicts(merges: bool, asked: list[list[int]]) -> None:
    scorer: Any = _Scorer(merges=merges)
    server = Server(scorer, secret="", concurrency=4)
    calls = [Call(id, b"{}", None, None, time.monotonic() + 60) for id in range(3)]
    connection: Any = _Connection(calls)
    server._waiting.extend((connection, call) for call in calls)

    server._compute_batch()
    calls[1].cancel()
    while server._waiting:
        server._compute_batch()

    assert scorer.asked == asked
    assert not connection.calls
    assert b"".join(connection.sent).count(b"answer") == len([id for ids in asked for id in ids])
