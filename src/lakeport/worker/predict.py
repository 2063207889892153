"""How a model is called with what its plan made: past a frame, past MLflow's checks, or not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from . import unchecked
from .flavors import lightgbm, onnx, sklearn, xgboost
from .frames import frame_of
from .plan import Columns, Floats, Plan

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

Predict = Callable[[Any], Any]

SKLEARN: Final = "mlflow.sklearn"
XGBOOST: Final = "mlflow.xgboost"
LIGHTGBM: Final = "mlflow.lightgbm"
ONNX: Final = "mlflow.onnx"
KNOWN: Final = frozenset((SKLEARN, XGBOOST, LIGHTGBM, ONNX))
_PYTHON_MODELS: Final = frozenset(("mlflow.pyfunc.model", "mlflow.pyfunc.loaders.code_model"))


def loader_of(pyfunc: PyFuncModel) -> str:
    """The module that MLflow loaded the model with: its flavor."""
    loader: str = pyfunc.metadata.flavors["python_function"].get("loader_module", "")
    return loader


def predict_of(pyfunc: PyFuncModel, raw: Any, plan: Plan, *, params: bool) -> Predict | None:
    """What to call with `plan.join`'s data; None where only MLflow's whole way is known.

    `raw`: the model's own object, or None; `params`: the signature has some, with defaults.
    """
    loader = loader_of(pyfunc)
    if loader not in KNOWN | _PYTHON_MODELS:
        return None
    if isinstance(plan, Floats):
        return sklearn.predictor(raw, _method(pyfunc), None)
    if isinstance(plan, Columns):
        if not unchecked.agrees(plan, pyfunc.metadata.get_input_schema()):
            return None
        if raw is not None and plan.dtype is not None and not params:
            predict = _predict_arrays(pyfunc, raw, plan)
            if predict is not None:
                return predict
    predict = unchecked.call(pyfunc) if loader in KNOWN and not params else unchecked.twin(pyfunc)
    if predict is None or not isinstance(plan, Columns):
        return predict
    return partial(_predict_frame, predict, plan)


def _predict_arrays(pyfunc: PyFuncModel, raw: Any, plan: Columns) -> Predict | None:
    loader, names = loader_of(pyfunc), plan.names if plan.named else None
    if loader == ONNX:
        return onnx.predictor(raw, names)
    if not _numeric(plan):
        return None
    if loader == SKLEARN:
        return sklearn.predictor(raw, _method(pyfunc), names)
    return xgboost.predictor(raw, names) if loader == XGBOOST else lightgbm.predictor(raw)


def _numeric(plan: Columns) -> bool:
    # Libraries look at a frame's booleans in ways of their own.
    return plan.dtype not in {None, "bool"}


def _predict_frame(predict: Predict, plan: Columns, data: Any) -> Any:
    return predict(frame_of(plan, data))


def _method(pyfunc: PyFuncModel) -> str:
    method: str = pyfunc.metadata.flavors["python_function"].get("predict_fn", "predict")
    return method
