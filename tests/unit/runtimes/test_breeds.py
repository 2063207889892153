"""Which models' workers may be forked."""

from pathlib import Path
from typing import Any

import pytest

from lakeport.models.mlmodel import MLmodel
from lakeport.runtimes.local.breeds import Breed, breed_of

PYTHON = Path("/env/bin/python")


def breed(loader: str | None, **more: Any) -> Breed | None:
    pyfunc: dict[str, object] = {} if loader is None else {"loader_module": loader}
    flavor = {"serialization_format": more.pop("format", "pickle")}
    model = MLmodel({"python_function": pyfunc, "sklearn": flavor})
    options: dict[str, Any] = {"workload_type": "CPU", "asked": {}}
    return breed_of(model, PYTHON, **options | more)


@pytest.mark.parametrize(
    ("loader", "module", "templates"),
    [
        ("mlflow.sklearn", "sklearn.ensemble", True),
        ("mlflow.xgboost", "xgboost", True),
        ("mlflow.lightgbm", "lightgbm", True),
        ("mlflow.pyfunc.model", "mlflow.pyfunc.model", False),
        ("mlflow.pyfunc.loaders.chat_model", "mlflow.pyfunc.model", False),
        ("mlflow.onnx", "mlflow.onnx", False),
    ],
)
def test_known_flavors_are_forked(loader: str, module: str, templates: bool) -> None:
    found = breed(loader)

    assert found is not None
    assert found.interpreter == PYTHON
    assert {"numpy", "pandas", "mlflow.pyfunc", module} <= set(found.imports)
    assert found.templates is templates


@pytest.mark.parametrize(
    "loader", [None, "", "mlflow.pytorch", "mlflow.tensorflow", "mlflow.sklearns", "theirs.loader"]
)
def test_others_are_spawned(loader: str | None) -> None:
    assert breed(loader) is None


@pytest.mark.parametrize("workload_type", ["GPU_SMALL", "MULTIGPU_MEDIUM", "gpu_large"])
def test_models_on_a_gpu_are_spawned(workload_type: str) -> None:
    assert breed("mlflow.sklearn", workload_type=workload_type) is None


@pytest.mark.parametrize(
    "name",
    [
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_DYNAMIC",
        "PYTHONHASHSEED",
        "LD_PRELOAD",
        "MALLOC_ARENA_MAX",
        "CUDA_VISIBLE_DEVICES",
        "MLFLOW_LOGGING_LEVEL",
        "LANG",
    ],
)
def test_what_libraries_read_when_they_are_imported_needs_a_spawn(name: str) -> None:
    assert breed("mlflow.sklearn", asked={name: "2"}) is None


@pytest.mark.parametrize(
    "name", ["MODE", "OPENAI_API_KEY", "MLFLOW_TRACKING_URI", "TZ", "PATH", "LAKEPORT_MERGE"]
)
def test_other_variables_do_not(name: str) -> None:
    assert breed("mlflow.sklearn", asked={name: "2"}) is not None


def test_the_library_of_safe_pickles_is_imported_where_it_is_needed() -> None:
    plain, skops = breed("mlflow.sklearn"), breed("mlflow.sklearn", format="skops")

    assert plain is not None
    assert skops is not None
    assert set(skops.imports) - set(plain.imports) == {"skops.io"}
