"""Fills the workspace's registry through the wire: `python -m tests.contract.register [NAME ...]`.

Run by the server's Python, with MLFLOW_TRACKING_URI and MLFLOW_TRACKING_TOKEN of the workspace.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import mlflow

from tests.models.build import build

#: Version 1 of each unless others are named; of `iris` there is a second, which turns the classes
#: round.
MODELS = ("iris", "params", "streams", "chat", "load_raises", "load_hangs")


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")  # MLflow would like examples and type hints
    mlflow.set_experiment("contract")
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
        for name in names or MODELS:
            mlflow.log_artifacts(str(build(name, Path(folder))), name)
            mlflow.register_model(f"runs:/{run.info.run_id}/{name}", name)
    if names:
        return
    log_turned_iris()
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("iris", "champion", "1")


def log_turned_iris() -> None:
    """`iris` with 2 where version 1 says 0, and 0 where it says 2."""
    from mlflow.models import infer_signature
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    data, target = load_iris(return_X_y=True, as_frame=True)
    mlflow.sklearn.log_model(
        LogisticRegression(max_iter=500).fit(data, 2 - target),
        name="turned",
        signature=infer_signature(data, target),
        serialization_format="skops",
        pip_requirements=["mlflow", "scikit-learn", "skops"],
        registered_model_name="iris",
    )


if __name__ == "__main__":
    main(sys.argv[1:])
