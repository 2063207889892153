"""Fitted models as folders that a worker can load, saved by MLflow's own flavors."""

import importlib
import logging
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

    No requirements are noted: it runs in the environment that it was made in, and finds the code
    that lies beside the tests. Raises what MLflow raises for a model that cannot be saved.
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
        _link_code(folder)


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


def _link_code(folder: Path) -> None:
    """Have a saved model import what this process did from elsewhere than its environment, an
    application's own package: as the code that MLflow saves with a model, but as links."""
    from mlflow.models import Model  # noqa: PLC0415  heavy; loaded by now

    code = folder / "code"
    code.mkdir(exist_ok=True)
    for name, place in _own_code().items():
        with suppress(FileExistsError):
            (code / name).symlink_to(place)
    saved = Model.load(str(folder))
    saved.flavors["python_function"]["code"] = "code"
    saved.save(str(folder / "MLmodel"))


def _own_code() -> dict[str, Path]:
    """Files and folders of the modules that were imported from elsewhere than the environment."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    installed = [Path(sysconfig.get_path(kind)).resolve() for kind in kinds]
    found: dict[str, Path] = {}
    for name, module in list(sys.modules.items()):
        if "." in name or name in ("__main__", "lakeport"):
            continue
        # A folder without __init__.py has a path only; a built-in module has neither.
        places = [str(path) for path in getattr(module, "__path__", None) or ()]
        if not places and (file := getattr(module, "__file__", None)):
            places = [str(file)]
        for place in (Path(path).resolve() for path in places):
            own = not any(place.is_relative_to(path) for path in installed)
            if own and place.exists() and not {"site-packages", "dist-packages"} & set(place.parts):
                found[name if place.is_dir() else place.name] = place
    return found


def _pickle_by_value(kind: type) -> None:
    """Have a class that lies beside the tests travel with its model: no worker could import it."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None or "site-packages" in Path(file).parts:
        return
    import cloudpickle  # type: ignore[import-untyped]  # noqa: PLC0415  comes with MLflow

    cloudpickle.register_pickle_by_value(module)
