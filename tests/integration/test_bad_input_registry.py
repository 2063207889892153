"""Hostile names, paths, sources and models in the registry.

Whoever has a token may write there. Nothing outside HOME/artifacts is read or written for them, and
no code of theirs runs but in a worker.
"""

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakeport.models.mlmodel import BadModel, load_yaml, read_mlmodel
from lakeport.models.requirements import read_requirements
from lakeport.models.signature import read_signature
from tests.integration.conftest import MODEL, Stock
from tests.integration.hostile import (
    ALL_NAMES,
    ENDPOINTS,
    RAW_SEGMENTS,
    ROOT,
    Answer,
    Wire,
    in_path,
    marker,
)
from tests.integration.server import ServerProcess, closing, entity, wait_for
from tests.models.fixtures import SavedModel

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"

#: Where a model's files must never be taken from, `{}` is a folder of the server's machine.
LOCAL_SOURCES = [
    "{}", "{}/", "/{}", "//{}", "./{}", "file:{}", "file://{}", "file://localhost{}", "file:///{}",
    "FILE:{}", "File://{}", "file:%2f{}", "file:../../../../../../../..{}",
    "../../../../../../../../..{}", " {}", "\t{}",
    "mlflow-artifacts:/../../../../../../../../..{}",
    "mlflow-artifacts:/..%2f..%2f..%2f..%2f..%2f..{}",
    "mlflow-artifacts:/%2e%2e/%2e%2e/%2e%2e/%2e%2e{}", "mlflow-artifacts:/%252e%252e/%252e%252e{}",
    "mlflow-artifacts:{}", "mlflow-artifacts://{}", "mlflow-artifacts:///{}",
    "mlflow-artifacts://localhost{}", "mlflow-artifacts:/x/../../..{}", "mlflow-artifacts:/..",
    "mlflow-artifacts:/.", "mlflow-artifacts:/", "mlflow-artifacts:", "runs:/../..{}",
    "runs:/x/../../../..{}", "models:/../..{}", "models:{}", "models:/stock/1/../../..{}",
    "dbfs:{}", "hdfs://{}", "sftp://localhost{}", "ftp://localhost{}", "local:{}", "sqlite:///{}",
    "s3://../..{}", "gs://..{}", "wasbs://..{}", "abfss://x@y{}", "C:{}", "~", "", ".",
]  # fmt: skip


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A folder that could be served as a model, and text in it that nobody may see."""
    folder = tmp_path_factory.mktemp("canary")
    text = marker()
    (folder / "secret").write_text(text)
    (folder / "MLmodel").write_text("flavors: {python_function: {loader_module: secret}}\n")
    return folder, text.encode()


@pytest.fixture(scope="module")
def server(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    home = tmp_path_factory.mktemp("registry") / "home"
    shutil.copytree(stock.home, home)
    server = ServerProcess(home, registry="eager", env_manager="local", start_timeout=30)
    with closing(server):
        server.start()
        assert server.client.get(f"{API}/registered-models/search").status_code == 200
        yield server
        assert "Traceback" not in server.said(), server.said()[-3000:]


@pytest.fixture
def wire(server: ServerProcess) -> Iterator[Wire]:
    registry = server.registry()
    wire = Wire(server)
    yield wire
    wire.close()
    assert server.registry() == registry, "the registry was lost"
    assert server.client.get(f"{API}/registered-models/search").status_code == 200


def discreet(answer: Answer, server: ServerProcess, *secrets: bytes) -> Answer:
    """MLflow's own answer, without the server's inside in it."""
    for secret in (str(server.home).encode(), str(ROOT).encode(), b"Traceback (most", *secrets):
        assert secret not in answer.body, answer
    assert "x-injected" not in answer.headers
    return answer


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["entity_name", "entity_version", "alias"])
def test_a_hostile_model_is_not_found(wire: Wire, field: str) -> None:
    for name in ALL_NAMES:
        given = {"entity_name": MODEL, "entity_version": "999"}
        given |= {"entity_version": f"@{name}"} if field == "alias" else {field: name}
        if given == {"entity_name": MODEL, "entity_version": "0"}:
            continue
        answer = wire.check(
            "POST", ENDPOINTS, {"name": "e", "config": {"served_entities": [given]}}
        )

        assert answer.status in {400, 404, 501}, (name, answer)


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("GET", "registered-models/get", "name"),
        ("POST", "registered-models/create", "name"),
        ("GET", "model-versions/get", "version"),
        ("GET", "model-versions/get-download-uri", "version"),
        ("POST", "registered-models/alias", "alias"),
        ("GET", "artifacts/list", "path"),
    ],
)
def test_mlflow_is_given_hostile_names_and_stays(
    wire: Wire, method: str, path: str, key: str
) -> None:
    for name in ALL_NAMES[::3]:
        if method == "GET":
            query = f"{key}=".encode() + in_path(name) + b"&run_id=x&name=" + MODEL.encode()
            answer = wire.send(method, f"{API}/{path}?".encode() + query)
        else:
            body = {"name": MODEL, "version": "1", key: name}
            answer = wire.send(method, f"{API}/{path}", body)

        discreet(answer, wire.server)


# --- artifacts ------------------------------------------------------------------------------------


def climbs_to(canary: Path, home: Path) -> list[bytes]:
    """Paths that would lead from the artifacts to the canary, or to the server's database."""
    up = os.path.relpath(canary / "secret", home / "artifacts")
    paths = [
        up,
        f"/{canary}/secret",
        "../lakeport.db",
        "../registry/mlflow.db",
        "x/../../lakeport.db",
    ]
    found = []
    for path in paths:
        once = path.replace(".", "%2e").replace("/", "%2f")
        found += [path, once, once.replace("%", "%25"), once.replace("%", "%2525")]
        found += [path.replace("/", "%2f"), path.replace("..", "%2e%2e"), path.replace("/", "%5c")]
        found += [
            path.replace("..", "..;"),
            path.replace("../", "..%00/"),
            path.replace("..", "..%c0%ae"),
        ]
    return [path.encode() for path in found]


def test_artifact_paths_lead_nowhere_else(wire: Wire, canary: tuple[Path, bytes]) -> None:
    folder, text = canary
    home = wire.server.home
    database = b"SQLite format 3"
    written = marker().encode()
    before = sorted(file for file in folder.parent.rglob("*") if not file.is_relative_to(home))

    for path in [*climbs_to(folder, home), *RAW_SEGMENTS]:
        target = f"{ARTIFACTS}/".encode() + path
        for answer in (
            wire.send("GET", target),
            wire.send("PUT", target, written),
            wire.send("DELETE", target) if path.strip(b"/.") else wire.send("HEAD", target),
            wire.send("GET", f"{ARTIFACTS}?path=".encode() + path),
            wire.send("GET", b"/ajax-api/2.0/mlflow/get-artifact?run_uuid=x&path=" + path),
            wire.send(
                "POST",
                b"/api/2.0/mlflow-artifacts/mpu/create/" + path,
                {"path": "x", "num_parts": 1},
            ),
        ):
            discreet(answer, wire.server, text, database)

    assert sorted(f for f in folder.parent.rglob("*") if not f.is_relative_to(home)) == before
    assert (folder / "secret").read_bytes() == text
    for file in home.rglob("*"):
        if file.is_file() and not file.is_relative_to(home / "artifacts"):
            assert written not in file.read_bytes(), file


def test_an_artifact_that_could_run_is_given_as_a_file(wire: Wire) -> None:
    wire.send("PUT", f"{ARTIFACTS}/page.html", b"<script>alert(1)</script>")

    answer = wire.send("GET", f"{ARTIFACTS}/page.html")

    assert answer.status == 200
    assert answer.headers["x-content-type-options"] == "nosniff"


# --- sources --------------------------------------------------------------------------------------


def serve_version(wire: Wire, model: str, version: str) -> str:
    """Why an endpoint of this version does not serve; an AssertionError when it does."""
    name = f"of-{model}-{version}"
    body = {"name": name, "config": {"served_entities": [entity("e", model, version)]}}
    answer = wire.check("POST", ENDPOINTS, body)
    if answer.status != 200:
        assert answer.status in {400, 404}
        return str(answer.json()["message"])
    settled = wire.server.settled(name)
    assert settled["state"] == {"ready": "NOT_READY", "config_update": "UPDATE_FAILED"}, settled
    [failed] = settled["pending_config"]["served_entities"]
    wire.check("DELETE", f"{ENDPOINTS}/{name}")
    return str(failed["state"]["deployment_state_message"])


def test_a_local_path_is_never_a_models_source(wire: Wire, canary: tuple[Path, bytes]) -> None:
    folder, text = canary
    wire.send("POST", f"{API}/registered-models/create", {"name": "local"})
    taken = 0
    for source in LOCAL_SOURCES:
        made = wire.send(
            "POST",
            f"{API}/model-versions/create",
            {"name": "local", "source": source.format(folder)},
        )
        discreet(made, wire.server, text)
        if made.status != 200:
            continue
        taken += 1
        why = serve_version(wire, "local", made.json()["model_version"]["version"])
        assert why, source
        assert text.decode() not in why
        assert str(wire.server.home) not in why
    assert taken < len(LOCAL_SOURCES)
    for file in (wire.server.home / "models").rglob("*"):
        assert not file.is_file() or text not in file.read_bytes()


def test_no_address_of_a_callers_choice_is_asked(wire: Wire) -> None:
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def note() -> None:
            with_socket, _ = listener.accept()
            asked.append(with_socket)

        threading.Thread(target=note, daemon=True).start()
        wire.send("POST", f"{API}/registered-models/create", {"name": "remote"})
        for scheme in (
            "http",
            "https",
            "mlflow-artifacts",
            "HTTP",
            "ftp",
            "sftp",
            "hdfs",
            "s3+http",
        ):
            for host in (
                "127.0.0.1",
                "localhost",
                "2130706433",
                "0x7f000001",
                "[::ffff:127.0.0.1]",
                "user@127.0.0.1",
            ):
                made = wire.send(
                    "POST",
                    f"{API}/model-versions/create",
                    {"name": "remote", "source": f"{scheme}://{host}:{port}/model"},
                )
                if made.status == 200:
                    assert serve_version(wire, "remote", made.json()["model_version"]["version"])

    assert not asked


# --- models ---------------------------------------------------------------------------------------


def test_a_models_code_runs_in_a_worker_and_nowhere_else(
    wire: Wire, saved_model: SavedModel, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    folder = tmp_path / "model"
    shutil.copytree(saved_model("iris_pickle"), folder)
    source = (
        "__import__('json').dump([__import__('os').getpid(), dict(__import__('os').environ)], "
        f"open({str(ran)!r}, 'w'))"
    )
    [pickled] = folder.glob("*.pkl")
    pickled.write_bytes(b"cbuiltins\neval\n(V" + source.encode() + b"\ntR.")
    server = wire.server
    ours = {server.process.pid, *(process.pid for process in server.registry())}

    version = server.register("pickled", folder)
    wire.send("GET", f"{API}/model-versions/get?name=pickled&version={version}")
    assert not ran.exists()
    body = {"name": "pickled", "config": {"served_entities": [entity("e", "pickled", version)]}}
    assert wire.check("POST", ENDPOINTS, body).status == 200
    wait_for(lambda: ran.exists() and ran.read_text().endswith("]"), what="the model's code")
    wire.check("DELETE", f"{ENDPOINTS}/pickled")

    where, environment = json.loads(ran.read_text())
    assert where not in ours
    assert server.token not in environment.values()


_BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
_MERGES = "a0: &a0 {k: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10)
)
#: Texts for an `MLmodel` file.
BAD_MLMODELS = {
    "nothing": "",
    "a list": "[]",
    "no YAML": "{",
    "no flavors": "flavors: 1",
    "tabs": "flavors:\n\t- x",
    "NUL": "flavors: {a: {b: \0}}",
    "code": "flavors: !!python/object/apply:os.system ['touch {ran}']\n",
    "a name": "flavors: !!python/name:os.system\n",
    "billions": _BOMB + "flavors: {python_function: {loader_module: *a9}}\n",
    "a version of billions": _BOMB + "flavors: {a: {b: 1}}\nmlflow_version: *a9\n",
    "merges": _MERGES + "flavors: {a: {b: 1}}\n",
    "itself": "flavors: &a {x: *a}\n",
    "deep": "flavors: " + "[" * 100_000 + "]" * 100_000,
    "deep blocks": "flavors: " + "- " * 100_000 + "x",
    "many digits": "flavors: {a: {b: 1}}\nmlflow_version: " + "9" * 10_000,
    "no date": "flavors: {a: {b: 9999-99-99}}",
    "no number": "flavors: {a: {b: !!int ''}}",
    "no boolean": "flavors: {a: {b: !!bool x}}",
    "no time": "flavors: {a: {b: !!timestamp x}}",
    "huge": "x" * (9 * 1024 * 1024),
}


@pytest.mark.parametrize("what", BAD_MLMODELS)
def test_a_hostile_mlmodel_is_refused_at_once(tmp_path: Path, what: str) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "MLmodel").write_text(BAD_MLMODELS[what].replace("{ran}", str(ran)))

    with pytest.raises(BadModel) as refused:
        read_mlmodel(tmp_path)

    assert str(tmp_path) not in str(refused.value)
    assert not ran.exists()


@pytest.mark.parametrize("what", BAD_MLMODELS)
def test_hostile_files_beside_it_ask_for_nothing(tmp_path: Path, what: str) -> None:
    text = BAD_MLMODELS[what].replace("{ran}", str(tmp_path / "ran"))
    deep = "[" * 100_000 + "]" * 100_000
    (tmp_path / "MLmodel").write_text(
        json.dumps(
            {
                "flavors": {"python_function": {}},
                "signature": {"inputs": deep, "outputs": "{", "params": "[1]"},
                "saved_input_example_info": {
                    "artifact_path": "example.json",
                    "serving_input_path": "../../../../../../etc/passwd",
                    "type": "dataframe",
                },
            }
        )
    )
    for name in ("conda.yaml", "python_env.yaml", "example.json"):
        (tmp_path / name).write_text(text if name != "example.json" else deep)
    model = read_mlmodel(tmp_path)

    needs = read_requirements(tmp_path, model)
    said = read_signature(model, tmp_path)

    assert (needs.python, needs.lines) == (None, ())
    assert (said.inputs, said.outputs, said.params, said.example) == (None, None, None, None)
    assert not (tmp_path / "ran").exists()


def test_aliases_as_yaml_writers_make_them_are_read() -> None:
    assert load_yaml("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}


def test_a_hostile_model_leaves_the_server_as_it_was(
    wire: Wire, saved_model: SavedModel, tmp_path: Path
) -> None:
    for what in ("billions", "itself", "merges", "code", "no flavors"):
        folder = tmp_path / what
        shutil.copytree(saved_model("params"), folder)
        (folder / "MLmodel").write_text(BAD_MLMODELS[what])
        version = wire.server.register("hostile", folder)

        assert "MLmodel" in serve_version(wire, "hostile", version)
