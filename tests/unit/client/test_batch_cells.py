"""Texts of CSV cells, and the values that they are."""

import math
from datetime import UTC, date, datetime
from typing import Any

import pytest

from lakeport.client.batch.cells import text_of, values_of


@pytest.mark.parametrize(
    ("kind", "cells", "values"),
    [
        ("double", ["1", "2.5", "-1e3"], [1.0, 2.5, -1000.0]),
        ("double", ["1", "", "x", "1_0"], [1.0, None, "x", "1_0"]),
        ("long", ["1", "-2"], [1, -2]),
        ("long", ["1", "", "2.0", "2.5", "inf"], [1, None, 2, "2.5", "inf"]),
        ("boolean", ["true", "False", "", "yes"], [True, False, None, "yes"]),
        ("string", ["007", "", "true"], ["007", "", "true"]),
        ("datetime", ["2026-01-02", ""], ["2026-01-02", None]),
        (None, ["007", "0", "-1.50", "1e3", "", "TRUE", "x", "+1", "1."],
         ["007", 0, -1.5, 1000.0, None, True, "x", "+1", "1."]),
        ({"type": "array"}, ["[1, 2]", "", "x"], [[1, 2], None, "x"]),
    ],
)  # fmt: skip
def test_values_of_cells(kind: Any, cells: list[str], values: list[Any]) -> None:
    found = values_of(cells, kind)

    assert found == values
    assert [type(each) for each in found] == [type(each) for each in values]


def test_what_is_no_number_in_json_is_one_of_doubles() -> None:
    [nothing, endless] = values_of(["nan", "inf"], "double")

    assert math.isnan(nothing)
    assert endless == math.inf


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("a,b", "a,b"),
        (True, "true"),
        (1.5, "1.5"),
        (10**30, "1" + "0" * 30),
        (b"\xff", "/w=="),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (
            [datetime(2026, 1, 2, tzinfo=UTC), b"\xff"],
            '["2026-01-02T00:00:00.000000+00:00","/w=="]',
        ),
    ],
)
def test_texts_of_values(value: Any, text: str) -> None:
    assert text_of(value) == text
