"""Fills the workspace's registry through the wire: `python -m tests.contract.register`.

Run by the server's Python, with MLFLOW_TRACKING_URI and MLFLOW_TRACKING_TOKEN of the workspace.
"""

import tempfile
import warnings
from pathlib import Path

import mlflow.pyfunc
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from tests.models.build import build

#: Version 1 of each; of `iris` there are two.
MODELS = (
    "params",
    "streams",
    "chat",
    "chat_model",
    "chat_counts",
    "chat_agent",
    "responses_agent",
    "load_raises",
    "load_hangs",
)
COLUMNS = [f"{part} {size} (cm)" for part in ("sepal", "petal") for size in ("length", "width")]


def main() -> None:
    warnings.simplefilter("ignore")  # MLflow would like examples and type hints
    mlflow.set_experiment("contract")
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
        for name in MODELS:
            mlflow.log_artifacts(str(build(name, Path(folder))), name)
            mlflow.register_model(f"runs:/{run.info.run_id}/{name}", name)
    log_flowers(turned=False)
    log_flowers(turned=True)
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("iris", "champion", "1")


def log_flowers(*, turned: bool) -> None:
    """A version of `iris`. `turned`: 2 where version 1 says 0, and 0 where it says 2."""
    mlflow.pyfunc.log_model(
        name="flowers",
        python_model=str(Path(__file__).with_name("flowers.py")),
        model_config={"turned": turned},
        signature=ModelSignature(
            inputs=Schema([ColSpec(DataType.double, column) for column in COLUMNS]),
            outputs=Schema([TensorSpec(np.dtype("int64"), (-1,))]),
        ),
        pip_requirements=["mlflow"],
        registered_model_name="iris",
    )


if __name__ == "__main__":
    main()
