"""Which models' workers may be forked, and from what: pure rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lakeport.models.mlmodel import MLmodel

#: Every worker's: what decodes requests, and what loads the model.
COMMON = ("numpy", "orjson", "simdjson", "pandas", "mlflow.pyfunc")
_SKLEARN = (
    "mlflow.sklearn",
    "sklearn.pipeline",
    "sklearn.compose",
    "sklearn.preprocessing",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.ensemble",
)
_SKOPS = ("skops.io",)
_PYTHON = ("mlflow.pyfunc.model", "cloudpickle")
#: Loader modules whose library is known to bear a fork, before and after it has loaded a model.
_LIBRARIES = {
    "mlflow.sklearn": _SKLEARN,
    "mlflow.xgboost": ("mlflow.xgboost", "sklearn.base", "xgboost"),
    "mlflow.lightgbm": ("mlflow.lightgbm", "sklearn.base", "lightgbm"),
}
#: Loader modules of models that may hold what no copy can share once they are loaded: an author's
#: own code with its connections and threads, a session with its pool of them.
_UNSHARED = {
    "mlflow.pyfunc.model": _PYTHON,
    "mlflow.pyfunc.loaders": _PYTHON,
    "mlflow.onnx": ("mlflow.onnx",),
}
#: Variables that libraries read when they are imported, by their beginnings.
_READ_AT_IMPORT = (
    *("OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "NUMEXPR_", "VECLIB_"),
    *("NVPL_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "HSA_", "MALLOC_", "GLIBC_", "LD_", "DYLD_"),
    *("PYTHON", "NPY_", "NUMPY_", "SCIPY_", "SKLEARN_", "JOBLIB_", "LOKY_", "PANDAS_", "ARROW_"),
    *(
        "JE_",
        "_RJEM_",
        "MIMALLOC_",
        "POLARS_",
        "XGBOOST_",
        "LIGHTGBM_",
        "MPL",
        "OTEL_",
        "GIT_PYTHON_",
    ),
    *("MLFLOW_", "_MLFLOW_", "LANG", "LC_"),
)
#: And those among them that are read when they are used.
_READ_LATE = (
    *("MLFLOW_TRACKING_", "MLFLOW_REGISTRY_", "MLFLOW_EXPERIMENT_", "MLFLOW_RUN_", "MLFLOW_S3_"),
    *("MLFLOW_HTTP_", "MLFLOW_DEPLOYMENTS_"),
)


@dataclass(frozen=True, slots=True)
class Breed:
    """What a zygote has in common with all that it forks."""

    interpreter: Path
    #: Modules that it has imported.
    imports: tuple[str, ...]
    #: Whether a process that has loaded a model may be forked, too.
    templates: bool


def breed_of(
    model: MLmodel, interpreter: Path, *, workload_type: str, asked: Mapping[str, str]
) -> Breed | None:
    """The breed of a model's workers; None where they have to be spawned.

    `asked` are the variables of its environment that differ from those of a zygote.
    """
    if workload_type.upper().startswith(("GPU", "MULTIGPU")):
        return None
    if any(map(_read_at_import, asked)):
        return None
    loader = str(model.flavors.get("python_function", {}).get("loader_module", ""))
    if loader in _LIBRARIES:
        imports = (*COMMON, *_LIBRARIES[loader])
        if _is_skops(model):
            imports += _SKOPS
        return Breed(interpreter, imports, templates=True)
    for prefix, library in _UNSHARED.items():
        if loader == prefix or loader.startswith(prefix + "."):
            return Breed(interpreter, (*COMMON, *library), templates=False)
    return None


def _read_at_import(name: str) -> bool:
    return name.startswith(_READ_AT_IMPORT) and not name.startswith(_READ_LATE)


def _is_skops(model: MLmodel) -> bool:
    said = [flavor.get("serialization_format") for flavor in model.flavors.values()]
    return "skops" in said
