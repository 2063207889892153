"""What counts as plain, and how plain requests are grouped."""

import math
from typing import Any

import pytest

from lakeport.worker.batch import MAX_REQUESTS, MAX_ROWS, Plain, groups

PLAIN = Plain([("x", "double"), ("n", "long"), ("s", "string"), ("b", "boolean")])
ROW = (1.5, 2, "a", True)
COLUMNS = ["x", "n", "s", "b"]


def split(*rows: object, columns: object = COLUMNS, **more: object) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": list(rows), **more}}


@pytest.mark.parametrize(
    "document",
    [
        split([1.5, 2, "a", True]),
        split([2, 1.5, True, "a"], columns=["n", "x", "b", "s"]),
        {"dataframe_records": [{"x": 1.5, "n": 2, "s": "a", "b": True}]},
        {"dataframe_records": [{"b": True, "s": "a", "n": 2, "x": 1.5}]},
        split([1.5, 2, "a", True]) | {"params": {}},
        split([1.5, 2, "a", True]) | {"params": None},
    ],
)
def test_plain_requests_become_rows_in_the_signatures_order(document: dict[str, Any]) -> None:
    assert PLAIN.rows(document) == [ROW]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"inputs": [[1.5, 2, "a", True]]},
        split(),
        split([1.5, 2, "a", True]) | {"params": {"p": 1}},
        split([1.5, 2, "a", True]) | {"dataframe_records": []},
        split([1.5, 2, "a", True]) | {"messages": []},
        split([1.5, 2, "a", True], index=[7]),
        split([1.5, 2, "a", True], columns=None),
        split([1.5, 2, "a", True], columns=["x", "n", "s", "other"]),
        split([1.5, 2, "a", True], columns=["x", "n", "s", "s"]),
        split([1.5, 2, "a", True], columns=["x", "n", "s", ["b"]]),
        split([1.5, 2, "a"]),
        split([1.5, 2, "a", True], [1.5]),
        split("abcd"),
        split([None, 2, "a", True]),
        split([True, 2, "a", True]),
        split(["1.5", 2, "a", True]),
        split([2**53, 2, "a", True]),
        split([1.5, 2.0, "a", True]),
        split([1.5, True, "a", True]),
        split([1.5, 2**63, "a", True]),
        split([1.5, 2, 3, True]),
        split([1.5, 2, "a", 1]),
        {"dataframe_split": {"data": [[1.5, 2, "a", True]]}},
        {"dataframe_split": [1]},
        {"dataframe_records": [{"x": 1.5, "n": 2, "s": "a"}]},
        {"dataframe_records": [{"x": 1.5, "n": 2, "s": "a", "other": 1}]},
        {"dataframe_records": [[1.5, 2, "a", True]]},
        {"dataframe_records": {"x": [1.5]}},
        {"dataframe_records": []},
    ],
)
def test_everything_else_takes_mlflows_way(document: dict[str, Any]) -> None:
    assert PLAIN.rows(document) is None


@pytest.mark.parametrize("other", [2**53, -(2**60)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_nan_hides_no_large_integer(other: int, place: int) -> None:
    values: list[float] = [1, other]
    values.insert(place, math.nan)
    plain = Plain([("x", "double")])

    assert plain.rows(split(*([value] for value in values), columns=["x"])) is None


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1], [range(1)]),
        ([1, 1, 1], [range(3)]),
        ([MAX_ROWS, 1], [range(1), range(1, 2)]),
        ([1, MAX_ROWS], [range(1), range(1, 2)]),
        ([10 * MAX_ROWS], [range(1)]),
        ([1] * (MAX_REQUESTS + 1), [range(MAX_REQUESTS), range(MAX_REQUESTS, MAX_REQUESTS + 1)]),
    ],
)
def test_groups_are_bounded_in_requests_and_rows(sizes: list[int], expected: list[range]) -> None:
    assert groups(sizes) == expected
