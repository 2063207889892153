"""The embedded MLflow server, in one process: the program that `server.py` runs as its child.

`mlflow server` itself is two processes that each import MLflow (7 s and 500 MB); this is its
application under one uvicorn, with four differences that its command line does not offer:

- it listens on a unix socket that only its owner can open,
- it never opens a local path outside the artifacts folder. MLflow takes any `artifact_location` for
  an experiment, `file:///etc` too, and would then read and write there for whoever asks,
- it writes the tag by which code finds a model's signature in its run (`log_history.py`),
- nothing of the network's proxies is believed: it sits behind Lakeport's.

Imports MLflow, so nothing of Lakeport imports this.
"""

import argparse
import contextlib
import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn  # first: `mlflow.server` looks whether it is there, to know that it is a server
from mlflow.entities import RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.server import (
    ARTIFACT_ROOT_ENV_VAR,
    ARTIFACTS_DESTINATION_ENV_VAR,
    BACKEND_STORE_URI_ENV_VAR,
    REGISTRY_STORE_URI_ENV_VAR,
    SERVE_ARTIFACTS_ENV_VAR,
    handlers,
)
from mlflow.server.fastapi_app import app
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry
from mlflow.store.artifact.local_artifact_repo import (
    _TEMP_ARTIFACT_PREFIX,
    LocalArtifactRepository,
)

from lakeport.models.mlflow import log_history
from lakeport.models.mlmodel import load_yaml, read_bounded

log = logging.getLogger(__name__)

#: What clients are told: they come back to the server for artifacts.
ARTIFACT_ROOT = "mlflow-artifacts:/"
#: Longer than Lakeport keeps an idle connection, so that none is closed under a request.
KEEP_ALIVE = 75
#: Bytes of an MLmodel file that is read; they have a few thousand.
LARGEST_MLMODEL = 1024 * 1024


def confine_local_artifacts(folder: Path) -> None:
    """Refuse every local artifact location that is not `folder` or below it."""
    root = folder.resolve()

    class ConfinedArtifactRepository(LocalArtifactRepository):
        def __init__(
            self,
            artifact_uri: str,
            tracking_uri: str | None = None,
            registry_uri: str | None = None,
        ) -> None:
            super().__init__(artifact_uri, tracking_uri, registry_uri)
            if not Path(self.artifact_dir).resolve().is_relative_to(root):
                raise MlflowException(
                    "The server keeps no artifacts at a local path of the caller's choice.",
                    error_code=PERMISSION_DENIED,
                )

    for scheme in ("", "file"):
        _artifact_repository_registry.register(scheme, ConfinedArtifactRepository)


def remove_broken_uploads(folder: Path, before: float) -> None:
    """Remove what uploads left behind that were under way when an earlier server was killed.

    They are hidden, and may be as large as a model. `before` is a time in seconds since the epoch:
    a later one may still be going on.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            if name.startswith(_TEMP_ARTIFACT_PREFIX):
                file = Path(place, name)
                with contextlib.suppress(OSError):
                    if file.stat().st_mtime < before:
                        file.unlink()


def open_stores(database: Path, artifacts: Path) -> None:
    """Tell MLflow where things are, as `mlflow server` does, and make or migrate its tables."""
    backend = f"sqlite:///{database}"
    os.environ |= {
        BACKEND_STORE_URI_ENV_VAR: backend,
        REGISTRY_STORE_URI_ENV_VAR: backend,
        ARTIFACT_ROOT_ENV_VAR: ARTIFACT_ROOT,
        ARTIFACTS_DESTINATION_ENV_VAR: artifacts.as_uri(),
        SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    handlers.initialize_backend_stores(backend, backend, ARTIFACT_ROOT)


def tell_signatures(artifacts: Path) -> None:
    """From now on, a version that is registered leaves its signature in a tag of its run."""
    registry, tracking = handlers._get_model_registry_store(), handlers._get_tracking_store()
    create = registry.create_model_version

    def create_and_tell(*args: Any, **options: Any) -> ModelVersion:
        version: ModelVersion = create(*args, **options)
        try:
            location = registry.get_model_version_download_uri(version.name, version.version)
            mlmodel = read_mlmodel(artifacts, location)
            if version.run_id and mlmodel is not None:
                tags = tracking.get_run(version.run_id).data.tags
                told = tags.get(log_history.TAG)
                if value := log_history.with_model(told, mlmodel, version.run_id):
                    tracking.set_tag(version.run_id, RunTag(log_history.TAG, value))
        except Exception:
            # The version is registered, with the tag or without it.
            log.warning("The run of a version got no %s", log_history.TAG, exc_info=True)
        return version

    registry.create_model_version = create_and_tell  # type: ignore[method-assign]


def read_mlmodel(artifacts: Path, location: str) -> dict[str, Any] | None:
    """The MLmodel file of a model whose files this server keeps; None of any other.

    Raises OSError, ValueError when it cannot be read.
    """
    scheme, _, path = location.partition(":")
    file = (artifacts / path.strip("/") / "MLmodel").resolve()
    inside = scheme == "mlflow-artifacts" and file.is_relative_to(artifacts.resolve())
    if not inside or not file.is_file():
        return None
    found = load_yaml(read_bounded(file, LARGEST_MLMODEL))
    return found if isinstance(found, dict) else None


def listen(path: str) -> socket.socket:
    """A listening unix socket, readable by its owner alone."""
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    return listener


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--artifacts", type=Path, required=True)
    parser.add_argument("--socket", required=True)
    arguments = parser.parse_args()
    os.umask(0o077)
    # Beside the start: there may be very many files.
    threading.Thread(
        target=remove_broken_uploads, args=(arguments.artifacts, time.time()), daemon=True
    ).start()
    confine_local_artifacts(arguments.artifacts)
    open_stores(arguments.database, arguments.artifacts)
    tell_signatures(arguments.artifacts)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[listen(arguments.socket)])


if __name__ == "__main__":
    main()
