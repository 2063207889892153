"""The model: loaded by MLflow, with the facts that decide how it is called."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .flavors import in_turn, rows
from .flavors.sklearn import fitted_names
from .log import say, say_exception
from .model_input import Interface, Scoring
from .plan import Floats, Plan, plan_of
from .predict import KNOWN, SKLEARN, loader_of, predict_of
from .refusal import EVALUATION_FAILED, Refusal, of_mlflow

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

#: Where MLflow has the classes that models written in Python are made from.
_PYTHON_MODELS = "mlflow.pyfunc.model"
_CHAT_TASK = "agent/v1/chat"


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
        self._raw = _raw_of(pyfunc)
        if loader_of(pyfunc) == SKLEARN:
            _in_turn(self._raw)
        #: How requests become arrays; None: MLflow's way is the only one.
        self.plan = self._plan_of(schema)
        self._planned: Callable[[Any], Any] | None = None
        if self.plan is not None:
            self._planned = predict_of(
                pyfunc, self._raw, self.plan, params=bool(self.interface.params)
            )
        if self._planned is None or self.streams or self.interface.type_hinted:
            self.plan = None
        #: To predict again is to predict the same: no code of an author's own.
        self.pure = loader_of(pyfunc) in KNOWN
        known = self.plan is not None and rows.known(conf, self._raw)
        #: Requests may share a predict.
        self.row_wise = self._merges(merge, known=known)
        #: A predict may wait for something. One that only computes has no use for threads beside
        #: it: those of forests, which let go of the lock at each tree, only hold each other up.
        self.waits = not (known or self.row_wise)

    def _plan_of(self, schema: Any) -> Plan | None:
        if schema is not None:
            return plan_of(schema)
        width = getattr(self._raw, "n_features_in_", None)
        if loader_of(self._pyfunc) != SKLEARN or not isinstance(width, int):
            return None
        return Floats(width, fitted_names(self._raw))

    def _merges(self, merge: bool | None, *, known: bool) -> bool:
        """`known`: the flavor's estimator is known to be row-wise."""
        if merge is None:
            merge = _declared(self._pyfunc.metadata)
        if merge is None:
            return known
        if merge and self.plan is None:
            why = "the model streams" if self.streams else "its signature is not one of plain types"
            say(f"requests are not merged: {why}")
        return merge and self.plan is not None

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

    def predict_planned(self, data: Any) -> Any:
        """The predictions for what the plan joined. Raises whatever the model raises."""
        assert self._planned is not None
        return self._planned(data)

    def refusal_of(self, error: BaseException, data: Any) -> BaseException:
        """What `predict` raises in place of what the model raised."""
        return error if isinstance(error, MemoryError) else _refusal_of(error, data)

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


def _in_turn(raw: Any) -> None:
    try:
        in_turn.in_turn(raw)
    except Exception as error:  # noqa: BLE001  another scikit-learn's inside, or an author's class
        say(f"scikit-learn loops as it does: {error}")


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


def _raw_of(pyfunc: PyFuncModel) -> Any:
    """The model's own object where it is of a known flavor, else None."""
    if loader_of(pyfunc) not in KNOWN:
        return None
    try:
        return pyfunc.get_raw_model()
    except Exception as error:  # noqa: BLE001  old MLflow, a wrapper without, or its fault
        say(f"the model's own object is not to be had, so MLflow calls it: {error}")
        return None


def _declared(metadata: Any) -> bool | None:
    """What the model's author says in its metadata: {"lakeport": {"row_wise": true}}."""
    said = getattr(metadata, "metadata", None)
    ours = said.get("lakeport") if isinstance(said, dict) else None
    row_wise = ours.get("row_wise") if isinstance(ours, dict) else None
    if row_wise is None or isinstance(row_wise, bool):
        return row_wise
    say(f"the model's metadata says row_wise: {row_wise!r}, which is neither true nor false")
    return None
