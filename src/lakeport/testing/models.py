"""Fitted models as folders that a worker can load, saved by MLflow's own flavors."""

import importlib
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Packages whose objects have a flavor, in the order in which they are asked for; the flavor's
#: name where it is another one's.
_FLAVORS = {
    "sklearn": "sklearn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "torch": "pytorch",
    "keras": "keras",
    "tensorflow": "tensorflow",
    "statsmodels": "statsmodels",
    "prophet": "prophet",
    "spacy": "spacy",
    "onnx": "onnx",
    "transformers": "transformers",
    "sentence_transformers": "sentence_transformers",
}


def flavor_of(model: object) -> str | None:
    """MLflow's flavor for an object, by the packages of its class and of those above it; "pyfunc"
    for a PythonModel; None: it is no model that MLflow knows."""
    for base in type(model).__mro__:
        package = base.__module__.partition(".")[0]
        if base.__module__ == "mlflow.pyfunc.model":
            return "pyfunc"
        if package in _FLAVORS:
            return _FLAVORS[package]
    return None


def save(model: object, folder: Path, *, signature: Any = None) -> None:
    """Save a model with its flavor. `signature`: an MLflow ModelSignature.

    No requirements are noted: it runs in the environment that it was made in. Raises what MLflow
    raises for a model that cannot be saved.
    """
    flavor = flavor_of(model)
    assert flavor is not None
    module = importlib.import_module(f"mlflow.{flavor}")
    options: dict[str, Any] = {"pip_requirements": []}
    if signature is not None:
        options["signature"] = signature
    with _quiet():
        if flavor == "pyfunc":
            _pickle_by_value(type(model))
            module.save_model(path=str(folder), python_model=model, **options)
        elif flavor == "sklearn":
            # Plain pickles take every estimator; MLflow's own choice differs by release.
            module.save_model(model, str(folder), serialization_format="cloudpickle", **options)
        else:
            module.save_model(model, str(folder), **options)


@contextmanager
def _quiet() -> Iterator[None]:
    """What MLflow advises on models that are to be kept is no test's business, least of all where
    a run has warnings be errors."""
    log = logging.getLogger("mlflow")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _pickle_by_value(kind: type) -> None:
    """Have a class that lies beside the tests travel with its model: no worker could import it."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None or "site-packages" in Path(file).parts:
        return
    import cloudpickle  # type: ignore[import-untyped]  # noqa: PLC0415  comes with MLflow

    cloudpickle.register_pickle_by_value(module)
