"""MLflow's tracking and registry under our address, by MLFLOW_TRACKING_URI and _TOKEN alone."""

import warnings
from pathlib import Path

import pytest

from tests.contract.workspace import Workspace

pytest.importorskip("mlflow")

import mlflow
from mlflow.exceptions import MlflowException, RestException

pytestmark = pytest.mark.lakeport  # Databricks' tracking URI is `databricks`: a later issue


@pytest.fixture(autouse=True)
def tracking(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", workspace.host)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", workspace.token)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


@pytest.mark.operation("mlflow log_model", "mlflow load_model", "mlflow registry")
def test_a_model_is_logged_registered_found_and_loaded(workspace: Workspace) -> None:
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    name = workspace.new_name("model")
    data = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
    model = LinearRegression().fit(data, [1.0, 3.0, 5.0])
    mlflow.set_experiment("contract-client")
    with warnings.catch_warnings(), mlflow.start_run() as run:
        warnings.simplefilter("ignore")  # hints to authors of models
        mlflow.log_param("alpha", 0.5)
        mlflow.log_metric("r2", 1.0)
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=mlflow.models.infer_signature(data, model.predict(data)),
            serialization_format="skops",
            pip_requirements=["mlflow", "scikit-learn", "skops"],
            registered_model_name=name,
        )
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(name, "best", "1")
    client.set_model_version_tag(name, "1", "checked", "yes")

    version = client.get_model_version_by_alias(name, "best")
    found = client.search_model_versions(f"name = '{name}'")
    data_of_run = client.get_run(run.info.run_id).data
    loaded = mlflow.pyfunc.load_model(f"models:/{name}@best")

    assert (version.version, version.tags) == ("1", {"checked": "yes"})
    assert [v.version for v in found] == ["1"]
    assert data_of_run.params == {"alpha": "0.5"}
    assert data_of_run.metrics == {"r2": 1.0}
    assert loaded.predict(pd.DataFrame({"x": [10.0]})).round(6).tolist() == [21.0]


@pytest.mark.operation("mlflow artifacts")
def test_artifacts_are_uploaded_listed_and_downloaded(tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(bytes(range(256)) * 4096)
    mlflow.set_experiment("contract-client")
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(tmp_path / "big.bin"), "some folder")

    listed = mlflow.MlflowClient().list_artifacts(run.info.run_id, "some folder")
    got = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="some folder/big.bin", dst_path=str(tmp_path / "got")
    )

    assert [(item.path, item.file_size) for item in listed] == [("some folder/big.bin", 2**20)]
    assert Path(got).read_bytes() == (tmp_path / "big.bin").read_bytes()


@pytest.mark.operation("mlflow registry")
def test_errors_of_the_registry_reach_its_client(workspace: Workspace) -> None:
    client = mlflow.MlflowClient()

    with pytest.raises(RestException) as unknown:
        client.get_registered_model(workspace.new_name("unknown"))
    with pytest.raises(MlflowException) as twice:
        client.create_registered_model("iris")

    assert unknown.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert twice.value.error_code == "RESOURCE_ALREADY_EXISTS"


@pytest.mark.operation("mlflow registry")
def test_the_registry_wants_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "not-a-token-of-this-place")

    with pytest.raises(MlflowException, match="UNAUTHENTICATED"):
        mlflow.MlflowClient().search_registered_models()
