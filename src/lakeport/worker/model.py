"""The model: loaded by MLflow, with the facts that decide how it is called."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, cast

from .batch import KINDS, Plain, Row
from .codec import Interface, Scoring
from .log import say, say_exception
from .refusal import EVALUATION_FAILED, Refusal, of_mlflow

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

_ROW_WISE_LOADERS = frozenset(("mlflow.sklearn", "mlflow.xgboost", "mlflow.lightgbm"))
_ROW_WISE_METHODS = frozenset(
    ("predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba")
)
_ROW_WISE_PACKAGES = frozenset(("sklearn", "xgboost", "lightgbm"))
#: Where MLflow has the classes that models written in Python are made from.
_PYTHON_MODELS = "mlflow.pyfunc.model"
_CHAT_TASK = "agent/v1/chat"
#: Parts of scikit-learn whose result for a row may depend on the rows beside it: one calls what its
#: author likes, the others stop iterating when the whole batch has converged.
_NOT_ROW_WISE = frozenset(
    (
        "FunctionTransformer",
        "IterativeImputer",
        "LatentDirichletAllocation",
        "MiniBatchNMF",
        "NMF",
    )
)


class Model:
    """A loaded model. `predict` and `stream` may be called from several threads."""

    def __init__(self, pyfunc: PyFuncModel, *, merge: bool | None) -> None:
        """`merge`: whether requests may be merged; None leaves it to what is known of flavors."""
        self._pyfunc = pyfunc
        metadata = pyfunc.metadata
        schema = metadata.get_input_schema()
        params = _ask(metadata, "get_params_schema")
        self.interface = Interface(
            schema=schema,
            params=frozenset(param.name for param in params.params) if params else frozenset(),
            type_hinted=bool(_ask(metadata, "_is_signature_from_type_hint")),
            required=_required(schema),
        )
        conf = metadata.flavors["python_function"]
        python_model = _python_model_of(pyfunc, conf)
        self.streams = bool(conf.get("streamable", False)) and _has_stream(python_model)
        #: An MLflow ChatModel, or what says that it is as good as one.
        self.chat = _is_chat_model(python_model, metadata)
        #: How plain requests look, when they may be merged; None when none may.
        self.plain = _plain_of(schema)
        if merge is False or self.streams or not (merge or _row_wise(pyfunc, conf)):
            if merge and self.plain:
                say("the model streams, so its requests are not merged")
            self.plain = None
        if merge and self.plain is None and not self.streams:
            say("requests cannot be merged without a signature of named, plain columns")
        #: MLflow's predict without its check of the schema, where plain rows pass it as they are.
        self._unchecked = None if self.interface.params else _unchecked(pyfunc, conf, self.plain)

    @property
    def row_wise(self) -> bool:
        return self.plain is not None

    def predict(self, scoring: Scoring) -> Any:
        """One call of MLflow's predict.

        Raises Refusal for what the schema or the model refused, and MemoryError.
        """
        try:
            return self._pyfunc.predict(scoring.data, params=scoring.params)
        except MemoryError:
            raise
        except BaseException as error:  # a model may raise anything, SystemExit included
            raise _refusal_of(error, scoring.data) from error

    def predict_rows(self, rows: Sequence[Row]) -> Any:
        """As `predict` with the frame of some plain rows. Raises as `predict` does."""
        assert self.plain is not None
        frame = frame_of(self.plain, rows)
        if self._unchecked is None:
            return self.predict(Scoring(frame, None, bare=False))
        try:
            return self._unchecked(frame)
        except MemoryError:
            raise
        except BaseException as error:  # a model may raise anything, SystemExit included
            raise _refusal_of(error, frame) from error

    def stream(self, scoring: Scoring) -> Generator[Any]:
        """The chunks of a model that streams. Raises as `predict` does, at any step."""
        chunks: Iterator[Any] | None = None
        try:
            while True:
                try:
                    if chunks is None:
                        predict = self._pyfunc.predict_stream
                        chunks = iter(predict(scoring.data, params=scoring.params))
                    chunk = next(chunks)
                except StopIteration:
                    return
                except MemoryError:
                    raise
                except BaseException as error:  # anything, SystemExit and GeneratorExit included
                    raise _refusal_of(error, scoring.data) from error
                yield chunk
        finally:
            _close(chunks)


def frame_of(plain: Plain, rows: Sequence[Row]) -> Any:
    """A typed frame of plain rows: the one that MLflow makes of their body."""
    import numpy as np
    import pandas as pd

    columns = list(zip(*rows, strict=True))
    dtypes = {kind.dtype for kind in plain.kinds}
    names = _columns_of(tuple(plain.names))
    if len(dtypes) == 1 and None not in dtypes and len(names) == len(set(names)):
        # What pandas makes of such columns is one block too, at five times the cost.
        return pd.DataFrame(np.array(columns, dtypes.pop()).T, columns=names.copy(), copy=False)
    return pd.DataFrame(
        {
            name: np.array(column, kind.dtype) if kind.dtype else list(column)
            for name, kind, column in zip(plain.names, plain.kinds, columns, strict=True)
        }
    )


@lru_cache(maxsize=1)
def _columns_of(names: tuple[str, ...]) -> Any:
    """The index of a frame's columns; one for all frames, since it keeps what it found out."""
    import pandas as pd

    return pd.Index(names)


def load(folder: Path, *, merge: bool | None) -> Model:
    """Load the model in `folder`, which runs its author's code. Raises whatever that raises."""
    # The operator chose this model. MLflow's default may become to refuse pickles; and skops trusts
    # the types that the MLmodel file names, which MLflow passes on.
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    # MLflow's scoring server says so too: data that doesn't fit a type hint is then an error.
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    import mlflow.pyfunc

    return Model(mlflow.pyfunc.load_model(str(folder)), merge=merge)


def _refusal_of(error: BaseException, data: Any) -> Refusal:
    from mlflow.exceptions import MlflowException

    if isinstance(error, Refusal):
        return error
    if not isinstance(error, MlflowException):
        say_exception("the model raised")
        return Refusal(EVALUATION_FAILED)
    if error.error_code != "INVALID_PARAMETER_VALUE":  # those are the caller's fault, and many
        say_exception("the model raised")
    return of_mlflow(error, f"Failed to predict data '{_short(data)}'. \nError: ")


def _close(chunks: Any) -> None:
    """End a model's generator, whatever it makes of that."""
    try:
        if hasattr(chunks, "close"):
            chunks.close()
    except BaseException:  # noqa: BLE001  it may yield on, or raise: its caller has gone
        say_exception("the model's stream did not end as it was told to")


def _short(data: Any) -> str:
    try:
        return str(data)[:1000]
    except Exception:  # noqa: BLE001  the repr of hostile input: too deep, or with a fault of its own
        return type(data).__name__


def _ask(metadata: Any, method: str) -> Any:
    """A method that older releases of MLflow don't have."""
    found = getattr(metadata, method, None)
    return found() if found else None


def _required(schema: Any) -> frozenset[str]:
    if schema is None or not schema.has_input_names():
        return frozenset()
    return frozenset(_ask(schema, "required_input_names") or ())


def _python_model_of(pyfunc: PyFuncModel, conf: dict[str, Any]) -> type:
    """The class of the model's own object where that is an MLflow ChatModel or agent; `object` for
    all others, whose wrappers don't give theirs away."""
    if not str(conf.get("loader_module", "")).startswith("mlflow.pyfunc."):
        return object
    try:
        return type(pyfunc.get_raw_model())
    except Exception:  # noqa: BLE001  old MLflow, a wrapper without, or its fault
        return object


def _is_chat_model(python_model: type, metadata: Any) -> bool:
    """By its class; by the task that MLflow gives ChatModels, where that is not to be had."""
    said = getattr(metadata, "metadata", None)
    return (isinstance(said, dict) and said.get("task") == _CHAT_TASK) or any(
        (base.__module__, base.__name__) == (_PYTHON_MODELS, "ChatModel")
        for base in python_model.__mro__
    )


def _has_stream(python_model: type) -> bool:
    """Whether a model that says that it streams does: MLflow says so of every ChatModel and agent,
    and its own `predict_stream`, which they may have left as it is, only raises."""
    method = getattr(python_model, "predict_stream", None)
    return method is None or method.__module__ != _PYTHON_MODELS


def _plain_of(schema: Any) -> Plain | None:
    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        return None
    columns = [(column.name, getattr(column.type, "name", "")) for column in schema.inputs]
    if not columns or not all(kind in KINDS for _, kind in columns):
        return None
    return Plain(columns)


def _unchecked(
    pyfunc: PyFuncModel, conf: dict[str, Any], plain: Plain | None
) -> Callable[[Any], Any] | None:
    """What MLflow calls once it has checked a frame, or None where the check may change the frame.

    A frame of plain rows has the signature's columns, in order, each of its very type: the check,
    four tenths of a small predict's time, gives it back as it is. Text is left to MLflow, whose
    rules for it follow pandas' changing ones.
    """
    if conf.get("loader_module") not in _ROW_WISE_LOADERS or plain is None:
        return None
    if any(kind.dtype is None for kind in plain.kinds):
        return None
    predict = getattr(pyfunc, "_predict_fn", None)
    if predict is None:  # another MLflow's inside
        return None
    params = inspect.signature(predict).parameters.get("params")
    if params is not None and params.kind is not inspect.Parameter.VAR_KEYWORD:
        return partial(predict, params=None)
    return cast("Callable[[Any], Any]", predict)


def _row_wise(pyfunc: PyFuncModel, conf: dict[str, Any]) -> bool:
    if conf.get("loader_module") not in _ROW_WISE_LOADERS:
        return False
    if conf.get("predict_fn", "predict") not in _ROW_WISE_METHODS:
        return False
    try:
        raw = pyfunc.get_raw_model()
    except Exception as error:  # noqa: BLE001  old MLflow, a wrapper without, or its fault
        say(f"requests are not merged: the model's own object is not to be had ({error})")
        return False
    return _known(raw)


def _known(part: Any) -> bool:
    """Whether an estimator and all that it is made of are known to work row by row."""
    kind = type(part)
    if kind.__module__.partition(".")[0] not in _ROW_WISE_PACKAGES:
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
    return isinstance(value, (FunctionType, MethodType))
