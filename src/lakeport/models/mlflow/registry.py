"""The model registry: finds versions and fetches their files from an MLflow server."""

import asyncio
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import aiohttp

from lakeport.models.base import ModelNotFound, ModelVersion, RegistryUnavailable
from lakeport.models.mlflow import artifacts, object_store, rest
from lakeport.models.mlflow.outside import OutsideServer
from lakeport.models.mlflow.server import RegistryServer
from lakeport.models.sources import is_version, parse_registered_model

#: References from one place to the next (version to logged model, and so on) that are followed.
MOST_HOPS = 5


class Registry:
    """A `ModelRegistry` on the embedded MLflow server, an outside one, or none.

    `mode` counts for the embedded one alone: `tracking_uri` names an outside one instead.
    `environment` is added to that of the embedded server's process. Raises ValueError for a
    `tracking_uri` that cannot be used.
    """

    def __init__(
        self,
        *,
        home: Path,
        run: Path,
        mode: Literal["lazy", "eager", "off"],
        tracking_uri: str | None,
        wait: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._outside_url = tracking_uri
        self._eager = mode == "eager"
        self._server: RegistryServer | OutsideServer | None = None
        if tracking_uri:
            self._server = OutsideServer(tracking_uri, os.environ)
        elif mode != "off":
            self._server = RegistryServer(home, run, wait=wait, environment=environment)

    @property
    def enabled(self) -> bool:
        return self._server is not None

    @property
    def running(self) -> bool:
        """Whether it can be asked without starting anything."""
        return self._server is not None and self._server.up

    def open(self) -> None:
        """Start the embedded server if it is to be there from the start; waits for nothing."""
        if self._eager and self._server is not None:
            self._server.begin()

    async def close(self) -> None:
        """The embedded server is gone when this returns."""
        if self._server is not None:
            await self._server.close()

    async def session(self) -> tuple[aiohttp.ClientSession, str]:
        """Connections to the MLflow server and the URL below which it answers, once it is up.

        Raises RegistryUnavailable.
        """
        return await self._asked().session()

    async def resolve(self, name: str, version: str) -> ModelVersion:
        """Find a version by number ("3") or alias ("@champion"), starting the server if need be.

        Raises ModelNotFound, RegistryUnavailable.
        """
        found = await self._version(name, version)
        number = str(found.get("version", ""))
        status = found.get("status", "READY")
        if status != "READY":
            raise ModelNotFound(f"Version {number} of model '{name}' is not ready ({status}).")
        source = str(found.get("source", ""))
        if (scheme := object_store.scheme_of(source)) in {"", "file"}:
            raise ModelNotFound(_refusal(scheme))
        made = str(found.get("creation_timestamp", ""))
        identity = f"{name}\n{number}\n{made}\n{source}"
        key = hashlib.sha256(identity.encode()).hexdigest()[:32]
        return ModelVersion(name=name, version=number, key=key)

    async def fetch(self, model: ModelVersion, into: Path, log: Callable[[str], None]) -> None:
        """Copy the model's files to the folder `into` (made here, complete or absent).

        `log` takes lines for the endpoint's build log. Raises ModelNotFound, RegistryUnavailable.
        """
        log(f"Fetching version {model.version} of model '{model.name}'")
        if (await self.resolve(model.name, model.version)).key != model.key:
            raise ModelNotFound(
                f"Version {model.version} of model '{model.name}' is another one by now: it was "
                "deleted and made again."
            )
        location = await self._location(model)
        part = into.with_name(f".{into.name}.{secrets.token_hex(4)}.part")
        try:
            await self._download(location, part, log)
            await asyncio.to_thread(_put, part, into)
        except OSError as error:
            raise RegistryUnavailable(
                f"The files of model '{model.name}' cannot be stored: {error.strerror or error}."
            ) from error
        finally:
            await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)

    def _asked(self) -> RegistryServer | OutsideServer:
        if self._server is None:
            raise RegistryUnavailable("The model registry is off (LAKEPORT_REGISTRY=off).")
        return self._server

    async def _version(self, name: str, version: str) -> dict[str, Any]:
        """MLflow's `ModelVersion`."""
        server = self._asked()
        alias = version.removeprefix("@") if version.startswith("@") else None
        missing = f"has no alias '{alias}'" if alias is not None else f"has no version {version}"
        if not is_version(version):
            raise ModelNotFound(f"Model '{name}' {missing}.")
        try:
            if alias is not None:
                path, query = "registered-models/alias", {"name": name, "alias": alias}
            else:
                path, query = "model-versions/get", {"name": name, "version": version}
            answer = await rest.get(server, f"{rest.API}/{path}", query)
        except rest.Refused as error:
            if await self._has_model(server, name):
                raise ModelNotFound(f"Model '{name}' {missing}.") from error
            raise ModelNotFound(f"Registered model '{name}' does not exist.") from error
        return _object(answer, "model_version")

    async def _has_model(self, server: rest.Server, name: str) -> bool:
        try:
            await rest.get(server, f"{rest.API}/registered-models/get", {"name": name})
        except rest.Refused:
            return False
        return True

    async def _location(self, model: ModelVersion) -> str:
        """Where the files really are: references into the registry are followed.

        Anybody with a token may write the references. A path of this machine, or of the server's,
        is not followed. Raises ModelNotFound, RegistryUnavailable.
        """
        try:
            uri = await self._download_uri(model.name, model.version)
            for _ in range(MOST_HOPS):
                scheme = object_store.scheme_of(uri)
                if scheme == "mlflow-artifacts" or object_store.is_allowed(uri, os.environ):
                    return uri
                if scheme == "models":
                    uri = await self._follow_model(uri)
                elif scheme == "runs":
                    uri = await self._follow_run(uri)
                else:
                    raise ModelNotFound(_refusal(scheme))
        except rest.Refused as error:
            raise ModelNotFound(f"The model's files cannot be found: {error.message}") from error
        raise ModelNotFound("The model's source refers to itself.")

    async def _download_uri(self, name: str, version: str) -> str:
        query = {"name": name, "version": version}
        answer = await rest.get(self._asked(), f"{rest.API}/model-versions/get-download-uri", query)
        return _text(answer, "artifact_uri")

    async def _follow_model(self, uri: str) -> str:
        path = uri.partition(":")[2].strip("/")
        if path.startswith("m-") and "/" not in path:
            answer = await rest.get(
                self._asked(), f"{rest.API}/logged-models/{quote(path, safe='')}", {}
            )
            return _text(_object(_object(answer, "model"), "info"), "artifact_uri")
        try:
            model = parse_registered_model(uri)
        except ValueError as error:
            raise ModelNotFound("The model's source names no model.") from error
        found = await self._version(model.name, model.version)
        return await self._download_uri(model.name, str(found.get("version", "")))

    async def _follow_run(self, uri: str) -> str:
        run, _, path = uri.partition(":")[2].strip("/").partition("/")
        answer = await rest.get(self._asked(), f"{rest.API}/runs/get", {"run_id": run})
        root = _text(_object(_object(answer, "run"), "info"), "artifact_uri")
        return f"{root.rstrip('/')}/{path}"

    async def _download(self, location: str, into: Path, log: Callable[[str], None]) -> None:
        if object_store.scheme_of(location) == "mlflow-artifacts":
            path = artifacts.artifact_path(location, self._outside_url)
            await artifacts.download(self._asked(), path, into, log)
        else:
            await object_store.download(location, into, log)


def _refusal(scheme: str) -> str:
    if scheme in {"", "file"}:
        return (
            "The model's files are at a local path, which is never taken from a registry. Log the "
            "model to an experiment whose artifacts the MLflow server keeps (mlflow-artifacts:)."
        )
    return (
        f"The model's files are at a '{scheme}:' address, which is not allowed. An operator can "
        f"allow it with {object_store.ALLOWED}."
    )


def _put(part: Path, into: Path) -> None:
    try:
        part.rename(into)
    except OSError:
        # Somebody may have been faster: the same key is the same files.
        if not into.exists():
            raise


def _object(answer: dict[str, Any], name: str) -> dict[str, Any]:
    value = answer.get(name)
    if not isinstance(value, dict):
        raise RegistryUnavailable(f"The model registry's answer lacks '{name}'.")
    return value


def _text(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str):
        raise RegistryUnavailable(f"The model registry's answer lacks '{name}'.")
    return value
