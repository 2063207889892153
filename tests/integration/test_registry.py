"""The real MLflow behind the real proxy, used by MLflow's own clients."""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio
from yarl import URL

from lakeport.api.mlflow import mlflow_proxy
from lakeport.models.base import ModelNotFound
from lakeport.models.mlflow.registry import Registry
from tests.unit.models_mlflow.support import serving

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

CLIENT = Path(__file__).with_name("registry_client.py")
API = "/api/2.0/mlflow"
MB = 1024 * 1024


@dataclass
class Workspace:
    home: Path
    registry: Registry
    url: str
    http: aiohttp.ClientSession
    written: list[str] = field(default_factory=list)

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        async with self.http.request(method, self.url + path, json=body) as answer:
            return answer.status, await answer.json(content_type=None)

    async def run_client(self) -> dict[str, Any]:
        """What `registry_client.py` prints."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(CLIENT),
            cwd=self.home,
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": self.url,
                "MLFLOW_TRACKING_TOKEN": "a-token-of-the-caller",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()[-3000:]
        printed: dict[str, Any] = json.loads(output.splitlines()[-1])
        return printed


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workspace() -> AsyncIterator[Workspace]:
    written: list[str] = []
    with tempfile.TemporaryDirectory(prefix="lakeport-") as folder:
        home = Path(folder)
        registry = Registry(home=home, run=home, mode="lazy", tracking_uri=None, wait=60)
        app = mlflow_proxy(registry, on_write=written.append)
        async with serving(app) as url, aiohttp.ClientSession() as http:
            yield Workspace(home, registry, url, http, written)
            await registry.close()
        assert registry_processes(home) == []


def registry_processes(home: Path) -> list[psutil.Process]:
    """The guard and all below it; other tests of this session may have registries of their own."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if any(f"{home}/registry.sock" in word for word in process.cmdline())
    ]


async def resolve_and_fetch(registry: Registry, name: str, version: str, into: Path) -> None:
    await registry.fetch(await registry.resolve(name, version), into, lambda _: None)


def resident() -> int:
    size: int = psutil.Process().memory_info().rss
    return size


async def test_the_first_request_starts_the_registry_and_waits_for_it(
    workspace: Workspace,
) -> None:
    running_before = workspace.registry.running
    begun = time.monotonic()

    answers = await asyncio.gather(
        *(workspace.http.get(workspace.url + "/version") for _ in range(20))
    )

    print(f"first answer of a fresh registry: {time.monotonic() - begun:.1f} s")
    assert {answer.status for answer in answers} == {200}
    assert (running_before, workspace.registry.running) == (False, True)
    processes = registry_processes(workspace.home)
    for process in processes:
        print(f"{process.memory_info().rss / MB:.0f} MB {process.cmdline()[:5]}")
    assert len(processes) == 2  # the guard and MLflow
    for answer in answers:
        answer.release()


async def test_mlflows_own_client_works_unchanged(workspace: Workspace) -> None:
    printed = await workspace.run_client()

    assert printed == {
        "same": True,
        "pyfunc": True,
        "note": "a note",
        "versions": ["1", "2"],
        "models": ["iris"],
        "runs": 2,
        "champion": "2",
        "artifacts": ["notes"],
    }
    assert f"{API}/registered-models/alias" in workspace.written


async def test_a_registered_versions_run_tells_its_signature(workspace: Workspace) -> None:
    _, found = await workspace.call("GET", f"{API}/model-versions/get?name=iris&version=1")
    _, run = await workspace.call(
        "GET", f"{API}/runs/get?run_id={found['model_version']['run_id']}"
    )
    tags = {tag["key"]: tag["value"] for tag in run["run"]["data"]["tags"]}

    (model,) = json.loads(tags["mlflow.log-model.history"])

    columns = json.loads(model["signature"]["inputs"])
    assert columns[0]["name"] == "sepal length (cm)"
    assert model["run_id"] == found["model_version"]["run_id"]


async def test_a_version_is_found_and_fetched_whole(workspace: Workspace) -> None:
    registry = workspace.registry

    first = await registry.resolve("iris", "1")
    champion = await registry.resolve("iris", "@champion")
    log: list[str] = []
    into = workspace.home / "models" / first.key
    into.parent.mkdir()
    await registry.fetch(first, into, log.append)

    assert (first.name, first.version) == ("iris", "1")
    assert champion.version == "2"
    assert champion == await registry.resolve("iris", "2")
    assert champion.key != first.key
    assert {"MLmodel", "requirements.txt"} <= {file.name for file in into.iterdir()}
    kept = next(workspace.home.glob("artifacts/*/models/*/artifacts/MLmodel")).parent
    assert {file.name for file in kept.iterdir()} == {file.name for file in into.iterdir()}
    assert any("MLmodel" in line and "bytes" in line for line in log)


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("nosuch", "1", "Registered model 'nosuch' does not exist."),
        ("nosuch", "@champion", "Registered model 'nosuch' does not exist."),
        ("iris", "7", "Model 'iris' has no version 7."),
        ("iris", "@nosuch", "Model 'iris' has no alias 'nosuch'."),
        ("iris", "first", "Model 'iris' has no version first."),
        ("iris", "99999999999999999999", "Model 'iris' has no version 99999999999999999999."),
        ("", "1", "Registered model '' does not exist."),
        ("a/b", "1", "Registered model 'a/b' does not exist."),
        ("iris' OR '1'='1", "1", "Registered model 'iris' OR '1'='1' does not exist."),
    ],
)
async def test_what_is_missing_is_named(
    workspace: Workspace, name: str, version: str, message: str
) -> None:
    with pytest.raises(ModelNotFound) as refusal:
        await workspace.registry.resolve(name, version)

    assert str(refusal.value) == message


async def test_an_outside_server_is_used_in_the_same_way(workspace: Workspace) -> None:
    # Our own proxy is as good an MLflow server as any.
    outside = Registry(
        home=workspace.home, run=workspace.home, mode="lazy", tracking_uri=workspace.url, wait=5
    )

    found = await outside.resolve("iris", "@champion")
    into = workspace.home / "from-outside"
    await outside.fetch(found, into, lambda _: None)
    await outside.close()

    assert (into / "MLmodel").is_file()
    assert found == await workspace.registry.resolve("iris", "2")


async def test_no_path_of_the_server_is_read_or_written_for_a_caller(workspace: Workspace) -> None:
    secret = workspace.home / "secret"
    secret.mkdir()
    (secret / "admin-token").write_text("the-admins")
    registry = workspace.registry

    for number, location in enumerate([secret.as_uri(), str(secret), f"file:{secret}"]):
        status, made = await workspace.call(
            "POST",
            f"{API}/experiments/create",
            {"name": f"evil-{number}", "artifact_location": location},
        )
        assert status == 200, made  # MLflow takes it; what counts is that nothing comes of it
        experiment = {"experiment_id": made["experiment_id"]}
        _, run = await workspace.call("POST", f"{API}/runs/create", experiment)
        run_id = run["run"]["info"]["run_id"]
        _, logged = await workspace.call(
            "POST", f"{API}/logged-models", {**experiment, "name": "evil", "source_run_id": run_id}
        )
        model = logged["model"]["info"]
        files = f"/ajax-api/2.0/mlflow/logged-models/{model['model_id']}/artifacts/files"
        upload = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run_id}&path=planted"
        for method, path in [
            ("GET", f"{API}/artifacts/list?run_id={run_id}"),
            ("GET", f"{API}/logged-models/{model['model_id']}/artifacts/directories"),
            ("GET", f"{files}?artifact_file_path=admin-token"),
            ("POST", upload),
        ]:
            async with workspace.http.request(
                method, workspace.url + path, data=b"x" if method == "POST" else None
            ) as answer:
                assert answer.status >= 400, path
                assert b"the-admins" not in await answer.read()
        name = f"evil-{number}"
        await workspace.call("POST", f"{API}/registered-models/create", {"name": name})
        for version in (
            {"source": location, "run_id": run_id},
            {"source": f"models:/{model['model_id']}", "model_id": model["model_id"]},
        ):
            status, answer_body = await workspace.call(
                "POST", f"{API}/model-versions/create", {"name": name, **version}
            )
            if status == 200:
                number_made = answer_body["model_version"]["version"]
                with pytest.raises(ModelNotFound):
                    await resolve_and_fetch(registry, name, number_made, workspace.home / "evil")

    assert [file.name for file in secret.iterdir()] == ["admin-token"]
    assert not (workspace.home / "evil").exists()


@pytest.mark.parametrize("source", ["/etc", "file:///etc", "mlflow-artifacts:/../../etc"])
async def test_a_path_as_a_versions_source_is_refused_at_once(
    workspace: Workspace, source: str
) -> None:
    body = {"name": "iris", "source": source}

    status, answer = await workspace.call("POST", f"{API}/model-versions/create", body)

    assert status == 400
    assert answer["error_code"] == "INVALID_PARAMETER_VALUE"


async def test_artifact_paths_do_not_leave_the_artifacts_folder(workspace: Workspace) -> None:
    for path in ("../registry/mlflow.db", "%2e%2e/registry/mlflow.db", "/etc/passwd", "%2Fetc"):
        url = f"{workspace.url}/api/2.0/mlflow-artifacts/artifacts/{path}"
        async with workspace.http.get(URL(url, encoded=True)) as answer:
            assert answer.status >= 400


async def test_a_large_upload_streams_through_in_bounded_memory(workspace: Workspace) -> None:
    size, piece = 300 * MB, bytes(MB)
    peak = before = resident()

    async def zeros() -> AsyncIterator[bytes]:
        nonlocal peak
        for _ in range(size // MB):
            yield piece
            peak = max(peak, resident())

    url = f"{workspace.url}/api/2.0/mlflow-artifacts/artifacts/0/large"
    begun = time.monotonic()
    async with workspace.http.put(url, data=zeros()) as answer:
        assert answer.status == 200
    uploaded = time.monotonic()
    received = 0
    async with workspace.http.get(url) as answer:
        async for part in answer.content.iter_any():
            received += len(part)
            peak = max(peak, resident())

    print(
        f"300 MB up in {uploaded - begun:.1f} s, down in {time.monotonic() - uploaded:.1f} s, "
        f"memory grew by {(peak - before) / MB:.0f} MB"
    )
    assert received == size
    assert (workspace.home / "artifacts/0/large").stat().st_size == size
    assert peak - before < 64 * MB


async def test_a_killed_registry_comes_back_and_requests_wait_for_it(workspace: Workspace) -> None:
    killed = registry_processes(workspace.home)
    for process in killed:
        process.kill()
    begun = time.monotonic()

    search = f"{workspace.url}{API}/experiments/search"
    answers = await asyncio.gather(
        *(workspace.http.get(search, params={"max_results": 5}) for _ in range(10)),
        *(workspace.http.post(search, json={"max_results": 5}) for _ in range(10)),
    )

    print(f"answers again after {time.monotonic() - begun:.1f} s")
    statuses = [answer.status for answer in answers]
    # A write that was on its way when the connection broke is for the client to send again.
    assert set(statuses[:10]) == {200}
    assert set(statuses[10:]) <= {200, 503}
    for answer in answers:
        answer.release()
    assert (await workspace.registry.resolve("iris", "1")).version == "1"
    assert not {p.pid for p in killed} & {p.pid for p in registry_processes(workspace.home)}


async def test_what_a_broken_upload_left_is_removed(workspace: Workspace) -> None:
    folder = workspace.home / "artifacts/broken"

    def left() -> list[Path]:
        return list(folder.glob(".*"))

    async def until(there: bool) -> None:
        while bool(left()) != there:  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.05)

    async def pieces() -> AsyncIterator[bytes]:
        yield bytes(MB)
        await until(there=True)
        for process in registry_processes(workspace.home):
            process.kill()
        while True:
            yield bytes(MB)

    async with asyncio.timeout(60):
        url = f"{workspace.url}/api/2.0/mlflow-artifacts/artifacts/broken/file"
        async with workspace.http.put(url, data=pieces()) as answer:
            assert answer.status == 503
        (folder / "whole").write_text("kept")
        # The next start is a second away.
        assert left()
        await until(there=False)
        await workspace.registry.session()  # the tests below find it running

    assert [file.name for file in folder.iterdir()] == ["whole"]


async def test_what_it_prints_is_in_its_log(workspace: Workspace) -> None:
    assert "database tables" in (workspace.home / "logs/registry.log").read_text()
    for private in ("registry", "logs/registry.log", "registry/mlflow.db", "registry.sock"):
        assert (workspace.home / private).stat().st_mode & 0o077 == 0
