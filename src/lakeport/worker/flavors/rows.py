"""Which models are known to treat each row without a look at the others."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from . import onnx
from .sklearn import METHODS

_LOADERS: Final = frozenset(("mlflow.sklearn", "mlflow.xgboost", "mlflow.lightgbm"))
_PACKAGES: Final = frozenset(("sklearn", "xgboost", "lightgbm"))
#: Parts of scikit-learn whose result for a row may depend on the rows beside it: one calls what its
#: author likes, one may draw a number for each row, the others stop iterating when the whole batch
#: has converged.
_NOT_ROW_WISE: Final = frozenset(
    (
        "DummyClassifier",
        "FunctionTransformer",
        "IterativeImputer",
        "LatentDirichletAllocation",
        "MiniBatchNMF",
        "NMF",
    )
)


def known(conf: dict[str, Any], raw: Any) -> bool:
    """`raw`: the model's own object, or None; `conf`: of its `python_function` flavor."""
    if raw is None:
        return False
    loader = conf.get("loader_module")
    if loader == "mlflow.onnx":
        return onnx.row_wise(raw)
    if loader not in _LOADERS or conf.get("predict_fn", "predict") not in METHODS:
        return False
    return _known(raw)


def _known(part: Any) -> bool:
    """Whether an estimator and all that it is made of are known to work row by row."""
    kind = type(part)
    if kind.__module__.partition(".")[0] not in _PACKAGES:
        return False
    if kind.__name__ in _NOT_ROW_WISE:
        return False
    parts = part.get_params(deep=True) if hasattr(part, "get_params") else {}
    return all(
        _known(inner) if hasattr(inner, "get_params") else not _is_code(inner)
        for inner in parts.values()
        if not isinstance(inner, type)
    )


def _is_code(value: Any) -> bool:
    """Whether it is an author's code, in whatever guise; numpy's ufuncs look at one value each."""
    package = type(value).__module__.partition(".")[0]
    return callable(value) and not isinstance(value, np.ufunc) and package not in _PACKAGES
