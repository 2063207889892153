"""Batches of a program's own items: order, errors by item, what is sent again and what ends it."""

import asyncio
import itertools
from typing import Any

import pytest

from lakeport.client.batch import HOPELESS, batch
from lakeport.client.errors import (
    BadAnswer,
    BadRequest,
    ConnectionFailed,
    LakeportError,
    NotReady,
    PermissionDenied,
    RateLimited,
    ServerError,
    TimedOut,
    Unauthenticated,
)
from lakeport.client.retry import Retry
from tests.unit.client.asks import Asks, predictions, rows_of, total

QUICK = Retry(base=0.001, cap=0.002, deadline=30.0)


def failing(error: LakeportError, *, times: int) -> Any:
    """Adds up rows, but for the first `times` requests."""
    left = itertools.count(times, -1)

    async def serve(body: dict[str, Any]) -> Any:
        if next(left) > 0:
            raise error
        return await total(body)

    return serve


def test_results_come_in_order_though_answers_do_not() -> None:
    async def serve(body: dict[str, Any]) -> Any:
        first = rows_of(body)[0][0]
        await asyncio.sleep(0.02 if first % 20 == 0 else 0)
        return await total(body)

    client = Asks(serve)

    items = list(batch(client, "m", ([n, 1] for n in range(105)), chunk_rows=10))

    assert [item.index for item in items] == list(range(105))
    assert [item.prediction for item in items] == [n + 1 for n in range(105)]
    assert len(client.bodies) == 11


def test_a_bad_row_alone_fails() -> None:
    client = Asks(total)
    rows: list[Any] = [[n] for n in range(100)]
    rows[37] = ["bad"]
    rows[99] = [None]

    items = list(batch(client, "m", rows, chunk_rows=50))

    assert {item.index for item in items if not item.ok} == {37, 99}
    assert [item.prediction for item in items if item.ok] == [
        n for n in range(100) if n not in (37, 99)
    ]
    assert isinstance(items[37].error, BadRequest)
    assert items[37].prediction is None


def test_what_is_too_large_is_split() -> None:
    async def serve(body: dict[str, Any]) -> Any:
        if len(rows_of(body)) > 3:
            raise BadRequest("too large", status=413)
        return await total(body)

    assert predictions(batch(Asks(serve), "m", [[n] for n in range(10)])) == list(range(10))


def test_on_error_raise_names_the_first_bad_item() -> None:
    rows: list[Any] = [[1]] * 20
    rows[7] = ["bad"]

    with pytest.raises(BadRequest) as caught:
        list(batch(Asks(total), "m", rows, on_error="raise"))

    assert caught.value.__notes__ == ["Input 7 of the batch."]


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("slow down", status=429),
        NotReady("starts", status=503),
        ConnectionFailed("refused", sent=False),
        TimedOut("no connection", sent=False),
    ],
)
def test_what_was_not_run_is_sent_again(error: LakeportError) -> None:
    client = Asks(failing(error, times=7))  # more than Retry().attempts

    items = batch(client, "m", [[1], [2]], chunk_rows=1, concurrency=1, retry=QUICK)

    assert predictions(items) == [1, 2]
    assert len(client.bodies) == 9


@pytest.mark.parametrize(
    "error",
    [
        TimedOut("late", sent=True),
        ServerError("broke", status=500),
        ConnectionFailed("reset", sent=True),
    ],
)
@pytest.mark.parametrize("unsafe", [False, True])
def test_what_may_have_been_run_is_sent_again_only_when_asked(
    error: LakeportError, unsafe: bool
) -> None:
    client = Asks(failing(error, times=1))
    retry = Retry(base=0.001, unsafe=unsafe)

    items = list(batch(client, "m", [[1], [2]], chunk_rows=1, concurrency=1, retry=retry))

    assert [item.error for item in items] == [None if unsafe else error, None]


def test_attempts_bound_what_may_have_been_run() -> None:
    client = Asks(failing(TimedOut("late", sent=True), times=100))
    retry = Retry(attempts=3, base=0.001, unsafe=True)

    [item] = batch(client, "m", [[1]], retry=retry)

    assert isinstance(item.error, TimedOut)
    assert len(client.bodies) == 3


def test_one_attempt_means_never_again() -> None:
    client = Asks(failing(RateLimited("slow down", status=429), times=100))

    [item] = batch(client, "m", [[1]], retry=Retry(attempts=1))

    assert isinstance(item.error, RateLimited)
    assert len(client.bodies) == 1


def test_a_storm_makes_all_wait_and_is_survived() -> None:
    """Of a server that takes three requests of ten."""
    clock = itertools.count()
    refused = 0

    async def serve(body: dict[str, Any]) -> Any:
        nonlocal refused
        await asyncio.sleep(0)
        if next(clock) % 10 >= 3:
            refused += 1
            raise RateLimited("slow down", status=429)
        return await total(body)

    rows = [[n] for n in range(60)]

    assert predictions(batch(Asks(serve), "m", rows, chunk_rows=1, retry=QUICK)) == list(range(60))
    assert refused


@pytest.mark.parametrize("error", [Unauthenticated("expired"), PermissionDenied("no")])
def test_what_no_later_row_could_survive_ends_the_batch(error: LakeportError) -> None:
    async def serve(body: dict[str, Any]) -> Any:
        if rows_of(body)[0][0] >= 5:
            raise error
        return await total(body)

    client = Asks(serve)
    seen: list[Any] = []
    items = batch(client, "m", ([n] for n in range(10_000)), chunk_rows=1, concurrency=2)

    with pytest.raises(type(error)):
        seen.extend(item.prediction for item in items)

    assert seen == [0, 1, 2, 3, 4]
    assert len(client.bodies) < 20


def test_no_answer_for_the_deadline_ends_the_batch() -> None:
    client = Asks(failing(NotReady("stopped", status=503), times=10**6))
    retry = Retry(base=0.005, cap=0.01, deadline=0.1)

    with pytest.raises(NotReady) as caught:
        list(batch(client, "m", [[n] for n in range(100)], chunk_rows=1, retry=retry))

    assert "0.1 s" in caught.value.__notes__[0]


def test_a_retry_after_beyond_the_deadline_ends_it_at_once() -> None:
    client = Asks(failing(RateLimited("tomorrow", status=429, retry_after=3600), times=10**6))

    with pytest.raises(RateLimited):
        list(batch(client, "m", [[n] for n in range(100)], chunk_rows=1))


def test_rows_that_all_fail_end_it_early() -> None:
    client = Asks(total)

    with pytest.raises(BadRequest):
        list(batch(client, "m", [["bad"]] * 100_000, concurrency=2))

    assert HOPELESS <= len(client.bodies) < 200


def test_a_few_that_all_fail_are_told_one_by_one() -> None:
    items = list(batch(Asks(total), "m", [["bad"]] * 5))

    assert [item.ok for item in items] == [False] * 5


def test_another_number_of_predictions_is_a_bad_answer() -> None:
    async def serve(body: dict[str, Any]) -> Any:
        return {"predictions": [1, 2, 3]}

    items = list(batch(Asks(serve), "m", [[1], [2]]))
    alone = list(batch(Asks(serve), "m", [[1], [2]], chunk_rows=1))

    assert all(isinstance(item.error, BadAnswer) for item in items)
    assert [item.prediction for item in alone] == [[1, 2, 3]] * 2


def test_named_outputs_are_given_by_row() -> None:
    async def serve(body: dict[str, Any]) -> Any:
        return {"predictions": {"p": [0.1, 0.2], "label": ["a", "b"]}}

    assert predictions(batch(Asks(serve), "m", [[1], [2]])) == [
        {"p": 0.1, "label": "a"},
        {"p": 0.2, "label": "b"},
    ]


def test_a_bare_list_and_named_values_of_one_row() -> None:
    async def bare(body: dict[str, Any]) -> Any:
        return [7] * len(rows_of(body))

    async def named(body: dict[str, Any]) -> Any:
        return {"predictions": {"label": "a"}}

    assert predictions(batch(Asks(bare), "m", [[1], [2]])) == [7, 7]
    assert predictions(batch(Asks(named), "m", [[1]])) == [{"label": "a"}]
