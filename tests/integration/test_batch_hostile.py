"""Batches against a server of ours that misbehaves."""

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from lakeport import BadAnswer, Client, ConnectionFailed, RateLimited, Retry, ServerError, TimedOut
from tests.integration.raw_server import Act, Asked, RawServer, raw_server, reply

HERE = {"name": "m", "state": {"ready": "READY", "config_update": "NOT_UPDATING"}}
QUICK = Retry(base=0.01, cap=0.05, deadline=30.0)


@pytest.fixture
def server() -> Iterator[RawServer]:
    with raw_server() as server:
        yield server


@pytest.fixture
def client(server: RawServer) -> Iterator[Client]:
    with Client(server.url, "token", timeout=20) as client:
        yield client


class Model:
    """Answers with each row's first value; `before` may answer in its place."""

    def __init__(self, server: RawServer) -> None:
        self.lock = threading.Lock()
        self.asked: list[list[Any]] = []
        server.answer = self.answer

    def before(self, rows: list[Any]) -> Iterable[Act] | None:
        return None

    def answer(self, asked: Asked) -> Iterable[Act]:
        if asked.method == "GET":
            found = asked.path.startswith("/api/2.0/serving-endpoints/m") and "openapi" not in (
                asked.path
            )
            return [reply(200, HERE) if found else reply(404, {"error_code": "NOT_FOUND"})]
        if not asked.body:  # who asked has left in between
            return ["close"]
        body = asked.json()
        rows = body["dataframe_split"]["data"] if "dataframe_split" in body else body["inputs"]
        with self.lock:
            self.asked.append(rows)
            acts = self.before(rows)
        return [reply(200, {"predictions": [row[0] for row in rows]})] if acts is None else acts


def test_a_storm_is_waited_out_by_all_together(server: RawServer, client: Client) -> None:
    class Storm(Model):
        """Refuses all after the tenth request, for a while after its first refusal."""

        refused = 0
        until = threading.Event()

        def before(self, rows: list[Any]) -> Iterable[Act] | None:
            if len(self.asked) <= 10 or self.until.is_set():
                return None
            if not self.refused:
                threading.Timer(0.5, self.until.set).start()
            self.refused += 1
            return [
                reply(429, {"error_code": "REQUEST_LIMIT_EXCEEDED"}, headers={"retry-after": "1"})
            ]

    model = Storm(server)

    items = list(client.batch("m", [[n] for n in range(60)], chunk_rows=1, concurrency=8))

    assert [item.prediction for item in items] == list(range(60))
    # Those that were on their way together, and nobody again before the second was over.
    assert 1 <= model.refused <= 8


def test_a_server_that_never_takes_any_ends_it(server: RawServer, client: Client) -> None:
    class Closed(Model):
        def before(self, rows: list[Any]) -> Iterable[Act] | None:
            return [reply(429, {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "no more"})]

    Closed(server)
    retry = Retry(base=0.01, cap=0.05, deadline=0.5)

    with pytest.raises(RateLimited, match="no more"):
        list(client.batch("m", [[n] for n in range(60)], chunk_rows=1, retry=retry))


@pytest.mark.parametrize(
    ("acts", "kind", "unsafe"),
    [
        (["reset"], ConnectionFailed, False),
        (["reset"], ConnectionFailed, True),
        ([reply(200, {"predictions": [1]})[:-4], "close"], ConnectionFailed, False),
        ([reply(200, {"predictions": [1]})[:-4], "close"], ConnectionFailed, True),
        ([5.0], TimedOut, False),
        ([5.0], TimedOut, True),
        ([reply(502, b"bad gateway")], ServerError, True),
        ([reply(200, b"<html>")], BadAnswer, False),
    ],
)
def test_one_request_that_breaks(
    server: RawServer, client: Client, acts: list[Act], kind: type[Exception], unsafe: bool
) -> None:
    class Breaks(Model):
        broke = False

        def before(self, rows: list[Any]) -> Iterable[Act] | None:
            if rows[0][0] != 20 or self.broke:
                return None
            self.broke = True
            return acts

    model = Breaks(server)
    retry = Retry(base=0.01, cap=0.05, unsafe=unsafe)

    items = list(
        client.batch("m", [[n] for n in range(50)], chunk_rows=10, retry=retry, timeout=1.0)
    )

    failed = [item for item in items if not item.ok]
    assert [item.index for item in failed] == ([] if unsafe else list(range(20, 30)))
    assert all(isinstance(item.error, kind) for item in failed)
    assert [item.prediction for item in items if item.ok] == [
        n for n in range(50) if unsafe or not 20 <= n < 30
    ]
    assert len(model.asked) == (6 if unsafe else 5)


def test_a_slow_request_holds_up_its_own_rows_only(server: RawServer, client: Client) -> None:
    others = threading.Event()

    class Slow(Model):
        def before(self, rows: list[Any]) -> Iterable[Act] | None:
            if len(self.asked) >= 10:
                others.set()
            return None

        def answer(self, asked: Asked) -> Iterable[Act]:
            acts = super().answer(asked)
            if b"[0]" in asked.body:
                assert others.wait(30)
            return acts

    Slow(server)

    items = list(client.batch("m", [[n] for n in range(40)], chunk_rows=1, concurrency=8))

    assert [item.prediction for item in items] == list(range(40))


def test_leaving_early_hangs_up(server: RawServer, client: Client) -> None:
    class Hangs(Model):
        def before(self, rows: list[Any]) -> Iterable[Act] | None:
            return None if rows[0][0] == 0 else [30.0]

        def answer(self, asked: Asked) -> Iterable[Act]:
            acts = super().answer(asked)
            if b"[0]" in asked.body:
                begun.wait(30)
            elif asked.method == "POST":
                begun.set()
            return acts

    begun = threading.Event()
    Hangs(server)

    for item in client.batch("m", [[n] for n in range(40)], chunk_rows=1, retry=QUICK):
        assert item.prediction == 0
        break

    hung = [asked for asked in server.asked if asked.body and b"[0]" not in asked.body]
    assert hung
    assert all(asked.gone.wait(30) for asked in hung)
