"""Which run of a function a record of the server belongs to."""

from typing import Any

import pytest

from lakeport.testing.records import Fault, calls_of, digest_of
from lakeport.testing.replica import Run

#: Seconds since the epoch.
NOON = 1_700_000_000.0


def record(
    request: Any, at: float = 0.0, seconds: float | None = 1.0, **more: Any
) -> dict[str, Any]:
    return {
        "endpoint": "echo",
        "served_entity": "echo",
        "caller": "admin",
        "time": int((NOON + at) * 1000),
        "seconds": seconds,
        "status": 400,
        "content_type": "application/json",
        "request": request,
        "body": None,
        "fault": None,
        "stream": False,
        **more,
    }


def run(request: Any, at: float, error: BaseException | None) -> Run:
    return Run(digest_of(request), NOON + at, error)


def errors(records: list[dict[str, Any]], runs: list[Run]) -> list[BaseException | None]:
    return [call.error for call in calls_of(records, {"echo": runs})]


def test_each_call_has_the_error_of_its_own_run() -> None:
    first, second = KeyError("a"), KeyError("b")
    records = [record({"a": 1}), record({"b": 1, "c": 2}, at=0.1)]

    found = errors(records, [run({"c": 2, "b": 1}, 0.2, second), run({"a": 1}, 0.3, first)])

    assert found == [first, second]


def test_equal_bodies_are_told_apart_by_their_order() -> None:
    error = ValueError()
    records = [record({"a": 1}, at=0, seconds=0.1), record({"a": 1}, at=5, seconds=0.1)]

    assert errors(records, [run({"a": 1}, 0.01, None), run({"a": 1}, 5.01, error)]) == [None, error]


@pytest.mark.parametrize("seconds", [None, 9.0])
def test_a_call_that_waited_has_a_run_that_began_late(seconds: float | None) -> None:
    error = ValueError()

    assert errors([record({"a": 1}, seconds=seconds)], [run({"a": 1}, 8, error)]) == [error]


def test_a_call_that_never_reached_the_function_has_none() -> None:
    error = ValueError()
    records = [record({"a": 1}, seconds=0.001, fault="f1"), record({"a": 1}, at=1, fault=None)]

    assert errors(records, [run({"a": 1}, 1.1, error)]) == [None, error]


def test_a_clock_that_a_test_holds_is_no_matter() -> None:
    error = ValueError()
    records = [record({"a": 1}, status=200), record({"a": 1}, at=1, status=400)]
    long_ago = -1e6

    found = errors(records, [run({"a": 1}, long_ago, None), run({"a": 1}, long_ago, error)])

    assert found == [None, error]


def test_bodies_that_are_no_json_go_by_time() -> None:
    error = ValueError()

    assert errors([record(None, body="a\n1\n")], [run(None, 0.1, error)]) == [error]


def test_a_fault_is_cleared_once_and_tells_what_is_left() -> None:
    faults: list[dict[str, Any]] = [
        {"id": "f1", "endpoint": "e", "kind": "slow", "left": 2, "hits": 1}
    ]
    fault = Fault(faults[0], look=lambda: faults, clear=lambda _: faults.clear())

    with fault:
        assert (fault.left, fault.hits) == (2, 1)

    assert (fault.left, fault.hits) == (0, 1)
    fault.clear()
    assert fault.hits == 1
