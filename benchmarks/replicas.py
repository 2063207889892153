"""Lakeport with as many replicas as a measurement wants, and what one more of them weighs."""

import http.client
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from models import SavedModel
from servers import Refused, Running

#: Requests that one replica stands for: Databricks' unit of provisioned concurrency.
PER_REPLICA = 4
PATIENCE = 120.0
#: What the endpoint and the registered model are called.
NAME = "model"


def deploy(server: Running, model: SavedModel, concurrency: int) -> None:
    """Register the model and serve it with so much concurrency, at the least and at the most.

    From then on the server is asked for predictions.
    """
    version = _register(server, model.folder)
    entity = _entity(version, concurrency)
    wish = {"name": NAME, "config": {"served_entities": [entity]}}
    server.call("POST", "/api/2.0/serving-endpoints", wish)
    _wait_until_updated(server)
    server.peer = replace(server.peer, path=f"/serving-endpoints/{NAME}/invocations")


def provision(server: Running, concurrency: int) -> None:
    """Give the model that `deploy` serves another concurrency."""
    wish = {"served_entities": [_entity("1", concurrency)]}
    server.call("PUT", f"/api/2.0/serving-endpoints/{NAME}/config", wish)
    _wait_until_updated(server)


def weigh_further(server: Running, model: SavedModel) -> float | None:
    """MiB of PSS that each replica after the first adds; None where PSS is not to be had."""
    provision(server, PER_REPLICA)
    one = _weigh(server, model, 1)
    provision(server, 3 * PER_REPLICA)
    three = _weigh(server, model, 3)
    return None if one is None or three is None else round((three - one) / 2, 1)


def _weigh(server: Running, model: SavedModel, replicas: int) -> int | None:
    for _ in range(20 * replicas):  # each of them has predicted by then
        server.ask(model.body(1))
    time.sleep(2.0)  # what served before the update has ended by then
    return server.weigh().pss


def _entity(version: str, concurrency: int) -> dict[str, Any]:
    return {
        "name": NAME,
        "entity_name": NAME,
        "entity_version": version,
        "scale_to_zero_enabled": False,
        "min_provisioned_concurrency": concurrency,
        "max_provisioned_concurrency": concurrency,
    }


def _wait_until_updated(server: Running) -> None:
    deadline = time.monotonic() + PATIENCE
    path = f"/api/2.0/serving-endpoints/{NAME}"
    while (state := server.call("GET", path)["state"])["config_update"] == "IN_PROGRESS":
        if time.monotonic() > deadline:
            raise Refused(f"{NAME}: its update took more than {PATIENCE:g} s")
        time.sleep(0.1)
    if state != {"ready": "READY", "config_update": "NOT_UPDATING"}:
        raise Refused(f"{NAME}: its update ended as {state}")


def _register(server: Running, folder: Path) -> str:
    """A version of the registered model; its number."""
    mlflow = "/api/2.0/mlflow"
    server.call("POST", f"{mlflow}/registered-models/create", {"name": NAME})
    run = server.call("POST", f"{mlflow}/runs/create", {"experiment_id": "0"})["run"]["info"]
    root = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            path = f"{root}/model/{file.relative_to(folder)}"
            _put(server, f"/api/2.0/mlflow-artifacts/artifacts/{path}", file.read_bytes())
    wish = {"name": NAME, "source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
    made = server.call("POST", f"{mlflow}/model-versions/create", wish)
    version: str = made["model_version"]["version"]
    return version


def _put(server: Running, path: str, content: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.peer.port, timeout=60)
    try:
        connection.request("PUT", path, content, dict(server.peer.headers))
        answer = connection.getresponse()
        said = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise Refused(f"PUT {path}: {answer.status} {said[:500]!r}")
