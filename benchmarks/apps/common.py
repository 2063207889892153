"""The model that $BENCH_MODEL names, for all applications here: from JSON rows to predictions.

They run in environments of their own, without Lakeport and without MLflow.
"""

import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np

warnings.filterwarnings("ignore")  # estimators that were fitted on a DataFrame warn of arrays

Rows = list[list[Any]]


class Predict:
    """A function from rows (lists of values, or an array of numbers) to a list of predictions.

    Models whose columns are all numbers get an array; others, and those that are code on pandas, a
    DataFrame.
    """

    def __init__(self) -> None:
        saved = joblib.load(os.environ["BENCH_MODEL"])
        self._predict = _CODE.get(saved["name"]) or saved["estimator"].predict
        self._columns: list[str] | None = None if saved["numbers"] else saved["columns"]

    def __call__(self, rows: Any) -> list[Any]:
        given: Any
        if self._columns is None:
            given = np.asarray(rows, dtype=np.float64)
        else:
            import pandas as pd

            given = pd.DataFrame(rows, columns=self._columns)
        found: list[Any] = np.asarray(self._predict(given)).tolist()
        return found


def _sum(frame: Any) -> Any:
    return frame.sum(axis=1)


def _sleep(rows: Any) -> Any:
    time.sleep(0.010)
    return np.zeros(len(rows))


_CODE: dict[str, Callable[[Any], Any]] = {
    "python": _sum,
    "python-rows": _sum,
    "sleep": _sleep,
}
