"""What a registry that lies, or a caller that writes to it, cannot make of our disk."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lakeport.models.base import ModelNotFound, ModelVersion, RegistryUnavailable
from lakeport.models.mlflow import object_store
from lakeport.models.mlflow.outside import OutsideServer, credentials
from lakeport.models.mlflow.registry import Registry
from tests.unit.models_mlflow.support import FakeMlflow, upstream_serving


@dataclass
class Setting:
    mlflow: FakeMlflow
    registry: Registry
    #: The folder in which models are kept.
    models: Path
    log: list[str]

    async def fetch(self) -> Path:
        """Fetch version 1 of `iris` as the registry describes it."""
        found = await self.registry.resolve("iris", "1")
        into = self.models / found.key
        await self.registry.fetch(found, into, self.log.append)
        return into


def outside(tmp_path: Path, uri: str) -> Registry:
    return Registry(home=tmp_path, run=tmp_path, mode="lazy", tracking_uri=uri, wait=5)


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    mlflow = FakeMlflow()
    async with upstream_serving(mlflow) as url:
        registry = outside(tmp_path, url)
        models = tmp_path / "models"
        models.mkdir()
        yield Setting(mlflow, registry, models, [])
        await registry.close()


async def test_a_model_is_copied_with_its_folders(setting: Setting) -> None:
    setting.mlflow.version("iris", "1", "mlflow-artifacts:/0/a/model")
    setting.mlflow.folders["0/a/model"] = [
        {"path": "MLmodel", "is_dir": False, "file_size": 4},
        {"path": "data", "is_dir": True},
    ]
    setting.mlflow.folders["0/a/model/data"] = [{"path": "a b%#?.bin", "is_dir": False}]
    setting.mlflow.files["0/a/model/MLmodel"] = b"yaml"
    setting.mlflow.files["0/a/model/data/a b%#?.bin"] = bytes(3_000_000)

    into = await setting.fetch()

    assert (into / "MLmodel").read_bytes() == b"yaml"
    assert (into / "data/a b%#?.bin").read_bytes() == bytes(3_000_000)
    assert list(setting.models.iterdir()) == [into]
    assert any("3,000,000 bytes" in line for line in setting.log)


@pytest.mark.parametrize(
    "name",
    ["../evil", "..", ".", "", "/etc/evil", "a/b", "a\\..\\b", "nul\0", None, 3, ["x"]],
)
@pytest.mark.parametrize("is_dir", [False, True])
async def test_no_file_name_leads_out_of_the_models_folder(
    setting: Setting, name: object, is_dir: bool
) -> None:
    setting.mlflow.version("iris", "1", "mlflow-artifacts:/0/model")
    setting.mlflow.folders["0/model"] = [{"path": name, "is_dir": is_dir}]

    with pytest.raises(RegistryUnavailable, match="names a file that cannot be"):
        await setting.fetch()

    assert list(setting.models.iterdir()) == []


@pytest.mark.parametrize(
    "source",
    [
        "/etc",
        "file:///etc",
        "FILE:/etc",
        "etc",
        "",
        "../../etc",
        "http://127.0.0.1/model",
        "https://example.invalid/model",
        "ftp://example.invalid/model",
        "sftp://example.invalid/model",
        "hdfs://example.invalid/model",
        "dbfs:/model",
        "runs:/../model",
        "mlflow-artifacts://elsewhere.invalid:80/model",
        "mlflow-artifacts://[broken/model",
        "mlflow-artifacts:/",
        "mlflow-artifacts:/0/../../etc",
        "mlflow-artifacts:/0/%2e%2e/etc",
        "mlflow-artifacts:/0/..%2fetc",
        "models:/m-../../etc",
        "models:/iris/1",
    ],
)
async def test_only_the_registrys_own_files_and_object_stores_are_fetched(
    setting: Setting, source: str
) -> None:
    setting.mlflow.version("iris", "1", source)
    setting.mlflow.folders["etc"] = [{"path": "passwd", "is_dir": False}]

    with pytest.raises((ModelNotFound, RegistryUnavailable)):
        await setting.fetch()

    assert list(setting.models.iterdir()) == []


async def test_a_logged_model_at_a_local_path_is_refused_though_its_source_looks_well(
    setting: Setting,
) -> None:
    setting.mlflow.version("iris", "1", "models:/m-1")
    setting.mlflow.answers["mlflow/logged-models/m-1"] = {
        "model": {"info": {"artifact_uri": "file:///etc"}}
    }

    with pytest.raises(ModelNotFound, match="local path"):
        await setting.fetch()


@pytest.mark.parametrize("allowed", ["", "abfss,FILE, ,models,runs,mlflow-artifacts"])
def test_no_setting_lets_a_registry_name_a_local_path(allowed: str) -> None:
    environ = {object_store.ALLOWED: allowed}

    for uri in ("/etc", "file:///etc", "File:/etc", "etc", "", "models:/m-1", "runs:/1/m"):
        assert not object_store.is_allowed(uri, environ)
    assert object_store.is_allowed("s3://bucket/model", environ)
    assert object_store.is_allowed("abfss://f@account/model", environ) == ("abfss" in allowed)


async def test_folders_without_end_are_left(setting: Setting) -> None:
    setting.mlflow.version("iris", "1", "mlflow-artifacts:/0")
    for depth in range(100):
        setting.mlflow.folders["/".join(["0"] * (depth + 1))] = [{"path": "0", "is_dir": True}]

    with pytest.raises(RegistryUnavailable, match="nested too deep"):
        await setting.fetch()


async def test_a_download_that_breaks_off_leaves_nothing(setting: Setting) -> None:
    setting.mlflow.version("iris", "1", "mlflow-artifacts:/0")
    setting.mlflow.folders["0"] = [
        {"path": "MLmodel", "is_dir": False},
        {"path": "missing", "is_dir": False},
    ]
    setting.mlflow.files["0/MLmodel"] = b"yaml"

    with pytest.raises(RegistryUnavailable):
        await setting.fetch()

    assert list(setting.models.iterdir()) == []


async def test_a_version_that_was_made_again_is_not_taken_for_the_old_one(
    setting: Setting,
) -> None:
    setting.mlflow.version("iris", "1", "mlflow-artifacts:/0")
    old = ModelVersion("iris", "1", "an-older-key")

    with pytest.raises(ModelNotFound, match="deleted and made again"):
        await setting.registry.fetch(old, setting.models / "x", setting.log.append)


async def test_an_artifact_store_is_read_by_a_child_of_our_own(tmp_path: Path) -> None:
    # The child is MLflow's own code, so a folder stands in for a bucket.
    bucket = tmp_path / "bucket"
    (bucket / "data").mkdir(parents=True)
    (bucket / "MLmodel").write_text("yaml")
    (bucket / "data/weights").write_bytes(b"w")

    await object_store.download(bucket.as_uri(), tmp_path / "into", print)

    assert (tmp_path / "into/MLmodel").read_text() == "yaml"
    assert (tmp_path / "into/data/weights").read_bytes() == b"w"


async def test_what_a_failing_download_says_is_in_the_log(tmp_path: Path) -> None:
    log: list[str] = []

    with pytest.raises(RegistryUnavailable, match="exited with code 1"):
        await object_store.download("nosuchstore://x", tmp_path / "into", log.append)

    assert "nosuchstore" in "".join(log)


async def test_errors_of_the_outside_server_are_told_apart(tmp_path: Path) -> None:
    registry = outside(tmp_path, "http://127.0.0.1:9")  # the discard port: nobody listens

    with pytest.raises(RegistryUnavailable, match=r"did not answer \(no connection\)"):
        await registry.resolve("iris", "1")
    await registry.close()


async def test_an_address_without_mlflow_is_no_registry_without_the_model(setting: Setting) -> None:
    setting.mlflow.answers["mlflow/model-versions/get"] = {
        "error_code": "ENDPOINT_NOT_FOUND",
        "message": "No API found",
    }

    with pytest.raises(RegistryUnavailable, match="answered with HTTP 404"):
        await setting.registry.resolve("iris", "1")


async def test_a_registry_that_is_off_says_so(tmp_path: Path) -> None:
    registry = Registry(home=tmp_path, run=tmp_path, mode="off", tracking_uri=None, wait=5)

    assert not registry.enabled
    assert not registry.running
    with pytest.raises(RegistryUnavailable, match="LAKEPORT_REGISTRY"):
        await registry.resolve("iris", "1")
    await registry.close()


@pytest.mark.parametrize(
    "uri",
    [
        "file:///mlruns",
        "sqlite:///mlflow.db",
        "databricks",
        "http://",
        "http://user:secret@host",
        "http://host/?a=b",
    ],
)
def test_an_outside_server_is_named_by_a_plain_http_address(uri: str) -> None:
    with pytest.raises(ValueError) as refusal:
        OutsideServer(uri, {})

    assert "secret" not in str(refusal.value)


async def test_the_outside_server_gets_lakeports_own_credentials(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "of-the-operator")
    async with upstream_serving(setting.mlflow) as url:
        registry = outside(tmp_path, url)
        with pytest.raises(ModelNotFound):
            await registry.resolve("iris", "1")
        await registry.close()

    assert setting.mlflow.requests[-1].headers["Authorization"] == "Bearer of-the-operator"
    both = {"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p"}
    assert credentials(both) == {"Authorization": "Basic dTpw"}
    assert credentials({}) == {}


async def test_two_fetches_at_once_leave_one_whole_model(setting: Setting) -> None:
    setting.mlflow.version("iris", "1", "mlflow-artifacts:/0")
    setting.mlflow.folders["0"] = [{"path": "MLmodel", "is_dir": False}]
    setting.mlflow.files["0/MLmodel"] = b"yaml"

    first, second = await asyncio.gather(setting.fetch(), setting.fetch())

    assert first == second
    assert (first / "MLmodel").read_bytes() == b"yaml"
    assert list(setting.models.iterdir()) == [first]
