"""What a function returns is written as a worker writes it."""

import datetime as dt
import decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lakeport.testing.function import answer_json
from lakeport.worker import answer_body
from lakeport.worker.refusal import Refusal


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize(
    "result",
    [
        [1, "a", None, 1.5, True],
        {"a": [1, {"b": 2}]},
        [float("nan"), float("inf")],
        2**70,
        [np.float32(0.1), np.float64(0.1), np.int64(3), np.bool_(True), np.float64("nan")],
        {"a": np.arange(3), "b": np.array([[0.5]], "float32")},
        np.array([1.5, np.nan]),
        np.array(["a", "b"]),
        np.int8(1),
        pd.Series([1, 2], name="s"),
        pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
        [np.datetime64("2024-01-02"), pd.Timestamp("2024-01-02")],
        [dt.date(2024, 1, 2), dt.datetime(2024, 1, 2, tzinfo=dt.UTC)],
        (1, 2),
    ],
)
def test_answers_are_the_workers(result: Any, bare: bool) -> None:
    assert answer_json(result, bare=bare) == answer_body.answer_json(result, bare=bare)


@pytest.mark.parametrize("result", [object(), {1, 2}, decimal.Decimal(1), lambda: 1])
def test_what_json_cannot_say_is_refused_alike(result: Any) -> None:
    def said(write: Any) -> str:
        try:
            return str(write(result, bare=False))
        except Refusal as refused:
            return refused.message

    assert said(answer_json) == said(answer_body.answer_json)
