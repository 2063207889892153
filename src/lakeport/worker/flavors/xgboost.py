"""XGBoost: trees read an array as they read a frame's columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

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
    return _estimator(raw, booster)


def _predict(booster: Any, array: Any) -> Any:
    """What the booster says of a DMatrix, which holds the same 32 bits, and refuses infinities."""
    with np.errstate(over="ignore"):
        if np.isinf(array.astype(np.float32, copy=False)).any():
            raise ValueError("a value is infinite in 32 bits")
    return booster.inplace_predict(array)


def _estimator(raw: Any, booster: Any) -> Callable[[Any], Any]:
    """The estimator's predict, without the contexts that it enters at each call, which take a
    quarter of a small one. Only where the first of both is the same."""
    usual: Callable[[Any], Any] = raw.predict
    finish = _FINISH.get((type(raw).__name__, str(raw.objective)))
    # Before 2.0 there may be labels of its own (`_le`), or a DMatrix in place of the array.
    if finish is None or hasattr(raw, "_le"):
        return usual
    try:
        if not raw._can_use_inplace_predict():
            return usual
        asked = {"iteration_range": raw._get_iteration_range(None), "missing": raw.missing}
    except AttributeError:  # another XGBoost's inside
        return usual
    agrees: bool | None = None

    def predict(array: Any) -> Any:
        nonlocal agrees
        if agrees is False:
            return usual(array)
        found = finish(booster.inplace_predict(array, **asked))
        if agrees is None:
            expected = usual(array)
            agrees = found.dtype == expected.dtype and np.array_equal(found, expected)
            return expected
        return found

    return predict


def _itself(values: Any) -> Any:
    return values


def _likelier(probabilities: Any) -> Any:
    return (probabilities > 0.5).astype(np.int64)


def _likeliest(probabilities: Any) -> Any:
    return probabilities.argmax(axis=-1)


#: What an estimator makes of its booster's values, by its class and objective.
_FINISH: Final[dict[tuple[str, str], Callable[[Any], Any]]] = {
    ("XGBRegressor", "reg:squarederror"): _itself,
    ("XGBClassifier", "binary:logistic"): _likelier,
    ("XGBClassifier", "multi:softprob"): _likeliest,
}


def _booster_of(raw: Any) -> Any:
    import xgboost

    if not isinstance(raw, xgboost.XGBModel) or type(raw).__module__.partition(".")[0] != "xgboost":
        return None
    return raw.get_booster()


def _plain_trees(booster: Any) -> bool:
    learner = json.loads(booster.save_config())["learner"]
    device = learner.get("generic_param", {}).get("device", "cpu")
    return learner["gradient_booster"]["name"] == "gbtree" and str(device).startswith("cpu")
