"""Python's, numpy's and pandas' values → JSON that says the same."""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from lakeport.client.encode import to_json
from lakeport.client.errors import InvalidInput


class Role(enum.Enum):
    USER = "user"


@dataclass
class Said:
    role: Role
    content: str


class Only(Mapping[str, int]):
    def __str__(self) -> str:
        return "a mapping"

    def __getitem__(self, key: str) -> int:
        return 1

    def __iter__(self) -> Any:
        return iter("a")

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (math.nan, "null"),
        ([math.inf, -math.inf, 1.5], "[1e999,-1e999,1.5]"),
        ({"a": [{"b": math.inf}]}, '{"a":[{"b":1e999}]}'),
        (np.array([np.inf, np.nan]), "[1e999,null]"),
        ([pd.NA, pd.NaT, np.datetime64("NaT")], "[null,null,null]"),
        (Decimal("1.5"), "1.5"),
        (Decimal("Infinity"), "1e999"),
        (2**70, "1180591620717411303424"),
        ({1: 2, None: 3, Role.USER: 4, np.int64(5): 6}, '{"1":2,"null":3,"user":4,"5":6}'),
        ([np.float32(0.5), np.int8(1), np.bool_(True), np.str_("x")], '[0.5,1,true,"x"]'),
        (datetime(2024, 1, 1, tzinfo=UTC), '"2024-01-01T00:00:00.000000+00:00"'),
        (date(2024, 1, 1), '"2024-01-01"'),
        (np.datetime64("2024-01-01"), '"2024-01-01T00:00:00.000000"'),
        (pd.Timestamp("2024-01-01T00:00:00.000000001"), '"2024-01-01T00:00:00.000000001"'),
        (np.array(["2024-01-01", "NaT"], "M8[s]"), '["2024-01-01T00:00:00.000000",null]'),
        (b"\x00\xff", '"AP8="'),
        (UUID(int=0), '"00000000-0000-0000-0000-000000000000"'),
        (Said(Role.USER, "hi"), '{"role":"user","content":"hi"}'),
        (Only(), '{"a":1}'),
        ((1, [2]), "[1,[2]]"),
    ],
    ids=str,
)
def test_json_says_what_python_means(value: Any, written: str) -> None:
    assert to_json(value).decode() == written


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [1, {2}]}, r"a\[1\]: a value of type set has no form in JSON. A set has no order"),
        ({"a": {"b": object()}}, "a.b: a value of type object"),
        ([timedelta(1)], r"\[0\]: a value of type timedelta"),
        ({(1, 2): 1}, "a key of type tuple"),
        ("\ud800", "lone surrogate"),
    ],
)
def test_what_json_cannot_say_is_named_by_its_place(value: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        to_json(value)
    assert isinstance(caught.value, TypeError)


def test_endless_nesting_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(InvalidInput, match="nested too deeply"):
        to_json(endless)
