"""LightGBM: what it makes of a frame of numbers is one array."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from . import threads


def predictor(raw: Any) -> Callable[[Any], Any] | None:
    """The booster's or estimator's call for an array of numbers, or None where it needs a frame."""
    import lightgbm

    if type(raw).__module__.partition(".")[0] != "lightgbm":
        return None
    booster = raw if isinstance(raw, lightgbm.Booster) else raw.booster_
    if booster.pandas_categorical:
        return None
    most = threads.limit()
    if raw is booster:
        predict = raw.predict if most is None else partial(raw.predict, num_threads=most)
    else:
        estimator = _without_names(raw)
        estimator.n_jobs = estimator.n_jobs if most is None else most
        predict = estimator.predict

    def predict_array(array: Any) -> Any:
        # Of a frame LightGBM makes the smallest floats that hold all its columns.
        return predict(array.astype(np.result_type(array.dtype, np.float32), copy=False))

    return predict_array


def _without_names(estimator: Any) -> Any:
    """The estimator, sharing all it holds, but without the names that it would warn of at each
    array; it checks none of a frame's."""

    def none_such(self: Any) -> Any:
        raise AttributeError("feature_names_in_")

    kind = type(estimator)
    twin = copy.copy(estimator)
    twin.__class__ = type(kind.__name__, (kind,), {"feature_names_in_": property(none_such)})
    return twin
