"""MLflow's predict without its checks, for what passes them as it is.

They take four tenths of a small predict's time. A plan's frames and arrays are those that MLflow
would have made: they are given back unchanged.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from .frames import frame_of
from .plan import Columns

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

_SAMPLES: Final[dict[str, list[Any]]] = {
    "float64": [0.5, 2],
    "float32": [0.5, 2],
    "int64": [1, 2],
    "int32": [1, 2],
    "bool": [True, False],
    "text": ["a", "b"],
}


def agrees(plan: Columns, schema: Any) -> bool:
    """Whether this MLflow, with this pandas, makes the same frame of a sample as the plan does.

    Their rules for text change from release to release, and some pairs refuse it all.
    """
    try:
        from mlflow.models.utils import _enforce_schema
        from mlflow.utils.proto_json_utils import dataframe_from_parsed_json
        from pandas.testing import assert_frame_equal

        rows = [[_SAMPLES[kind.dtype or "text"][at] for kind in plan.kinds] for at in (0, 1)]
        body = {"columns": plan.names, "data": rows} if plan.named else {"data": rows}
        asked = plan.take("dataframe_split", body)
        assert asked is not None
        ours = frame_of(plan, plan.join([asked]))
        made = dataframe_from_parsed_json(body, pandas_orient="split", schema=schema)
        assert_frame_equal(ours, _enforce_schema(made, schema), check_exact=True)
    except Exception:  # noqa: BLE001  another MLflow's inside, or its refusal
        return False
    return True


def call(pyfunc: PyFuncModel) -> Callable[[Any], Any] | None:
    """The flavor's own predict, which MLflow calls last."""
    predict = getattr(pyfunc, "_predict_fn", None)
    if predict is None:  # another MLflow's inside
        return None
    params = inspect.signature(predict).parameters.get("params")
    if params is not None and params.kind is not inspect.Parameter.VAR_KEYWORD:
        return partial(predict, params=None)
    return cast("Callable[[Any], Any]", predict)


def twin(pyfunc: PyFuncModel) -> Callable[[Any], Any] | None:
    """MLflow's predict, its context and params included, of a model that has no inputs to check."""
    from mlflow.models import ModelSignature

    try:
        found, metadata = copy.copy(pyfunc), copy.copy(pyfunc.metadata)
        signature = metadata.signature
        params = getattr(signature, "params", None)
        metadata.signature = ModelSignature(params=params) if params else None
        found._model_meta = metadata
        found._predict_fn = _signed(pyfunc)
        unchecked = found.metadata.get_input_schema() is None
        unchecked = unchecked and pyfunc.metadata.get_input_schema() is not None
    except Exception:  # noqa: BLE001  another MLflow's inside
        return None
    return cast("Callable[[Any], Any]", found.predict) if unchecked else None


def _signed(pyfunc: PyFuncModel) -> Callable[..., Any]:
    """The predict that MLflow calls, whose signature, and that of the author's below it, are found
    once: MLflow asks for both at each predict, which takes longer than a small one itself."""
    impl = pyfunc._model_impl
    if type(impl).__name__ != "_PythonModelPyfuncWrapper":
        return _Signed(pyfunc._predict_fn)
    impl = copy.copy(impl)
    impl.python_model = _Author(impl.python_model)
    return _Signed(getattr(impl, pyfunc._predict_fn.__name__))


class _Signed:
    """A callable that knows its signature."""

    def __init__(
        self, called: Callable[..., Any], *, like: Callable[..., Any] | None = None
    ) -> None:
        """`like`: whose signature it is, if not its own."""
        self.__signature__ = inspect.signature(like or called)
        self._called = called

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._called(*args, **kwargs)


class _Author:
    """A model in Python as MLflow's wrapper uses it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.predict = _Signed(self._predict, like=model.predict)

    def _predict(self, *args: Any, **kwargs: Any) -> Any:
        # Looked up at each call: a model may put another in its place.
        return self._model.predict(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
