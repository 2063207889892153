"""XGBoost: trees read an array as they read a frame's columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from . import threads


def predictor(raw: Any, names: Sequence[str] | None) -> Callable[[Any], Any] | None:
    """The booster's or estimator's call for an array of numbers, or None where it needs a frame.

    `names`: of the signature's columns; those of the booster must be the same.
    """
    import xgboost

    booster = raw if isinstance(raw, xgboost.Booster) else _booster_of(raw)
    if booster is None or not _plain_trees(booster):
        return None
    if booster.feature_names is not None and booster.feature_names != (names and list(names)):
        return None
    if "c" in (booster.feature_types or ()):
        return None
    if (most := threads.limit()) is not None:
        booster.set_param({"nthread": most})
    if raw is booster:
        return partial(_predict, raw)
    predict: Callable[[Any], Any] = raw.predict
    return predict


def _predict(booster: Any, array: Any) -> Any:
    """What the booster says of a DMatrix, which holds the same 32 bits, and refuses infinities."""
    with np.errstate(over="ignore"):
        if np.isinf(array.astype(np.float32, copy=False)).any():
            raise ValueError("a value is infinite in 32 bits")
    return booster.inplace_predict(array)


def _booster_of(raw: Any) -> Any:
    import xgboost

    if not isinstance(raw, xgboost.XGBModel) or type(raw).__module__.partition(".")[0] != "xgboost":
        return None
    return raw.get_booster()


def _plain_trees(booster: Any) -> bool:
    learner = json.loads(booster.save_config())["learner"]
    device = learner.get("generic_param", {}).get("device", "cpu")
    return learner["gradient_booster"]["name"] == "gbtree" and str(device).startswith("cpu")
