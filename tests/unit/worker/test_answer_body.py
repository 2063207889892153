"""Predictions are written as MLflow writes them, as JSON that everybody reads."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lakeport.worker import answer_body
from lakeport.worker.refusal import Refusal


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        (np.array([1, 2]), [1, 2]),
        (np.array([0.1], dtype="float32"), [0.10000000149011612]),
        (np.array([1.0, math.nan, math.inf]), [1.0, None, None]),
        (pd.Series([1.5, 2.5], name="y"), [{"y": 1.5}, {"y": 2.5}]),
        (pd.DataFrame({"a": [1], "b": ["x"]}), [{"a": 1, "b": "x"}]),
        (["a", None], ["a", None]),
        ({"a": np.float64(1.5), "b": [np.int32(2)], "c": np.array([True])}, None),
        ([10**30, math.nan], [10**30, None]),
        ({1: "one", None: "none"}, {"1": "one", "null": "none"}),
        (["\ud800"], ["\ud800"]),
        (b"bytes", "Ynl0ZXM=\n"),
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006+00:00"),
        (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
    ],
)
def test_predictions_are_written_as_mlflow_writes_them(predictions: Any, expected: Any) -> None:
    body = json.loads(answer_body.answer_json(predictions, bare=False))

    if expected is None:
        expected = {"a": 1.5, "b": [2], "c": [True]}
    assert body == {"predictions": expected}


def test_an_output_that_json_cannot_say_is_refused() -> None:
    circle: list[object] = []
    circle.append(circle)

    for output in (object(), {"a": {1, 2}}, circle):
        with pytest.raises(Refusal, match="cannot be written as JSON"):
            answer_body.answer_json(output, bare=True)


def test_an_event_has_no_line_ends_of_any_kind() -> None:
    event = answer_body.event_json({"text": "a\nb\rc\u0085d\u2028e\u2029f"})

    assert len(event.decode().splitlines()) == 1
    assert json.loads(event) == {"text": "a\nb\rc\u0085d\u2028e\u2029f"}
