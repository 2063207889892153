"""What a data scientist does, with MLflow's own client and nothing changed. Prints JSON.

Run with MLFLOW_TRACKING_URI set; a program of its own, for MLflow reads its settings once.
"""

import json
import tempfile
from pathlib import Path

import mlflow
import mlflow.sklearn
import numpy as np
from mlflow import MlflowClient
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression


def main() -> None:
    features, labels = load_iris(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=200).fit(features, labels)
    mlflow.set_experiment("flowers")
    runs = []
    for _ in range(2):
        with mlflow.start_run() as run:
            runs.append(run.info)
            mlflow.log_param("solver", "lbfgs")
            mlflow.log_metric("accuracy", model.score(features, labels))
            mlflow.log_text("a note", "notes/note.txt")
            mlflow.sklearn.log_model(
                model, name="model", input_example=features.head(2), registered_model_name="iris"
            )
    client = MlflowClient()
    client.set_registered_model_alias("iris", "champion", "2")
    client.set_model_version_tag("iris", "1", "stage", "old")
    loaded = mlflow.sklearn.load_model("models:/iris@champion")
    anything = mlflow.pyfunc.load_model("models:/iris/1")
    with tempfile.TemporaryDirectory() as folder:
        note = mlflow.artifacts.download_artifacts(
            run_id=runs[-1].run_id, artifact_path="notes/note.txt", dst_path=folder
        )
        text = Path(note).read_text()
    versions = client.search_model_versions("name = 'iris'")
    print(
        json.dumps(
            {
                "same": bool(np.array_equal(loaded.predict(features), model.predict(features))),
                "pyfunc": bool(np.array_equal(anything.predict(features), model.predict(features))),
                "note": text,
                "versions": sorted(version.version for version in versions),
                "models": [found.name for found in client.search_registered_models()],
                "runs": len(client.search_runs([runs[-1].experiment_id])),
                "champion": client.get_model_version_by_alias("iris", "champion").version,
                "artifacts": [f.path for f in client.list_artifacts(runs[-1].run_id)],
            }
        )
    )


if __name__ == "__main__":
    main()
