"""What a test's function takes: by its own parameters, and by an MLflow signature."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lakeport.worker.model_input import Interface


def takes_params(function: Callable[..., Any]) -> bool:
    """Whether it has a parameter `params` besides the request. Raises TypeError for a function that
    takes something else."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin, which does not tell
        return False
    try:
        signature.bind(None)
    except TypeError:
        with suppress(TypeError):
            signature.bind(None, params=None)
            return True
        raise TypeError(
            f"{function!r} cannot be served: it must take the request as its one argument, and "
            "may take `params` as a second."
        ) from None
    return "params" in list(signature.parameters)[1:]


def interface(signature: Any) -> Interface:
    """What the decoding of a body has to know of an MLflow ModelSignature, or of none."""
    if signature is None:
        return Interface(schema=None, params=frozenset(), type_hinted=False)
    params = signature.params.params if signature.params else ()
    schema = signature.inputs
    named = schema is not None and schema.has_input_names()
    return Interface(
        schema=schema,
        params=frozenset(param.name for param in params),
        type_hinted=False,
        required=frozenset(schema.required_input_names() if named else ()),
    )


def pyfunc(model: Any, signature: Any) -> Any:
    """MLflow's own model around one with a `predict`, for its enforcement of signatures. Raises
    TypeError for a signature of another kind."""
    from mlflow.models import Model, ModelSignature  # noqa: PLC0415  heavy, and seldom needed
    from mlflow.pyfunc import PyFuncModel  # noqa: PLC0415

    if not isinstance(signature, ModelSignature):
        raise TypeError(
            f"signature: expected mlflow.models.ModelSignature, as infer_signature gives, not "
            f"{type(signature).__name__}."
        )
    flavors = {"python_function": {"loader_module": "lakeport.testing"}}
    return PyFuncModel(Model(signature=signature, flavors=flavors), model)
