"""Items → requests: what is merged, what goes alone, and how large a request gets."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeport.client.batch.plan import Bounds, Chunk, Planner, refuse_odd, table_chunks
from lakeport.client.errors import InvalidInput
from lakeport.client.signature import Column, Signature


def planned(items: Any, *, rows: int = 1000, size: int = 8 << 20, **known: Any) -> list[Chunk]:
    planner = Planner(Bounds(rows, size), **known)
    return [c for item in items for c in planner.add(item)] + list(planner.flush())


def shape(chunks: list[Chunk]) -> list[tuple[str, int]]:
    return [(chunk.form, chunk.rows) for chunk in chunks]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([[1, 2], (3, 4)], [("rows", 2)]),
        ([np.array([1.0, 2.0]), [3.0, 4.0]], [("rows", 2)]),
        ([[1, 2], [3]], [("rows", 1), ("rows", 1)]),
        ([{"a": 1}, {"a": 2}, {"b": 2}], [("records", 2), ("records", 1)]),
        ([{"a": 1, "b": 2}, {"b": 3, "a": 4}], [("records", 2)]),
        ([1, 2.5, "x", "y"], [("inputs", 2), ("inputs", 2)]),
        ([[1], {"inputs": [[1], [2]]}, [2]], [("rows", 1), ("whole", 1), ("rows", 1)]),
        ([{"input": 5}, {"prompt": "x"}], [("records", 1), ("records", 1)]),  # columns of that name
        ([pd.DataFrame({"a": [1, 2]}), np.zeros((2, 2))], [("whole", 1), ("whole", 1)]),
        ([[{"role": "user", "content": "hi"}]], [("whole", 1)]),
        ([], []),
    ],
)
def test_what_classic_items_become(items: list[Any], expected: list[tuple[str, int]]) -> None:
    assert shape(planned(items)) == expected


@pytest.mark.parametrize(
    ("task", "item", "given"),
    [
        ("llm/v1/chat", "hi", {"messages": [{"role": "user", "content": "hi"}]}),
        ("llm/v1/chat", [{"role": "user"}], {"messages": [{"role": "user"}]}),
        ("llm/v1/chat", {"messages": [], "n": 2}, {"body": {"messages": [], "n": 2}}),
        ("agent/v1/responses", "hi", {"body": {"input": [{"role": "user", "content": "hi"}]}}),
        ("llm/v1/completions", "once", {"prompt": "once"}),
        ("llm/v1/embeddings", ["a", "b"], {"input": ["a", "b"]}),
    ],
)
def test_what_one_language_item_becomes(task: str, item: Any, given: dict[str, Any]) -> None:
    [chunk] = planned([item], task=task)

    assert chunk.given() == given


def test_texts_to_embed_share_requests() -> None:
    chunks = planned(["a", "b", "c"], rows=2, task="llm/v1/embeddings")

    assert [chunk.given() for chunk in chunks] == [{"input": ["a", "b"]}, {"input": ["c"]}]


def test_a_signature_tells_rows_of_tensors_from_whole_inputs() -> None:
    images = Signature((Column(None, "float32", shape=(-1, 2, 2)),))

    chunks = planned([np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((5, 2, 2))], signature=images)

    assert shape(chunks) == [("inputs", 2), ("whole", 1)]


@pytest.mark.parametrize(
    "item",
    [
        pd.Series({"b": 2.0, "a": 1.0}),
        next(pd.DataFrame({"b": [2.0], "a": [1.0]}).itertuples()),
        {"b": 2.0, "a": 1.0},
    ],
)
def test_a_row_that_knows_its_names_is_a_record(item: Any) -> None:
    signature = Signature((Column("a", "double"), Column("b", "double")))
    planner = Planner(Bounds(), signature=signature)

    (chunk,) = [*planner.add(item), *planner.flush()]

    assert (chunk.form, chunk.values[0]["a"], chunk.values[0]["b"]) == ("records", 1.0, 2.0)


@pytest.mark.parametrize(("name", "form"), [("inputs", "records"), ("values", "whole")])
def test_a_column_called_as_a_body_is_a_column(name: str, form: str) -> None:
    signature = Signature((Column(name, {"type": "array", "items": "double"}),))
    planner = Planner(Bounds(), signature=signature)

    (chunk,) = [*planner.add({"inputs": [1.0, 2.0]}), *planner.flush()]

    assert chunk.form == form


def test_plain_values_are_rows_of_the_only_column() -> None:
    one = Signature((Column("x", "double"),))

    assert [chunk.given() for chunk in planned([1, 2], signature=one)] == [{"rows": [[1], [2]]}]


@given(
    st.lists(st.lists(st.integers(0, 10**12), min_size=1, max_size=3), max_size=60),
    st.integers(1, 10),
    st.integers(1, 200),
)
def test_chunks_are_all_items_in_order_within_their_bounds(
    items: list[list[int]], rows: int, size: int
) -> None:
    chunks = planned(items, rows=rows, size=size)

    assert [value for chunk in chunks for value in chunk.values] == items
    assert [chunk.start for chunk in chunks] == list(
        np.cumsum([0, *(chunk.rows for chunk in chunks)])[:-1]
    )
    for chunk in chunks:
        assert 1 <= chunk.rows <= rows
        written = sum(len(str(value).replace(" ", "")) + 1 for value in chunk.values)
        assert written <= size or chunk.rows == 1


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_rows_of_a_frame_are_sliced(make: Any) -> None:
    frame = make({"a": list(range(10)), "b": ["x"] * 10})

    chunks = list(table_chunks(frame, Bounds(4)))

    assert [(chunk.start, chunk.rows) for chunk in chunks] == [(0, 4), (4, 4), (8, 2)]
    second = chunks[1].part(1, 3)
    assert second.start == 5
    assert list(second.given()["data"]["a"]) == [5, 6]


def test_rows_of_an_array_are_sliced_by_bytes_too() -> None:
    array = np.full((100, 10), 0.123456789)

    chunks = list(table_chunks(array, Bounds(1000, 1300)))

    assert sum(chunk.rows for chunk in chunks) == 100
    assert {chunk.rows for chunk in chunks[:-1]} == {10}


@pytest.mark.parametrize(
    "items", ["text", b"bytes", {"a": [1, 2]}, 5, None, np.array(5), pl.LazyFrame({"a": [1]})]
)
def test_mistakes_are_refused(items: Any) -> None:
    with pytest.raises(InvalidInput, match="items"):
        refuse_odd(items)


@pytest.mark.parametrize("bounds", [{"rows": 0}, {"bytes": 0}])
def test_bounds_of_nothing_are_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="expected 1 or more"):
        Bounds(**bounds)
