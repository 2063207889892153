"""Servers for tests: an ASGI app on a free port, and a stand-in for MLflow."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import uvicorn
from aiohttp import web
from starlette.types import ASGIApp

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """The URL of `app` under uvicorn."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="off", proxy_headers=False)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await running


@contextlib.asynccontextmanager
async def upstream_serving(handler: Handler) -> AsyncIterator[str]:
    """The URL of a server that gives every request to `handler`, cancelled when its client goes."""
    runner = web.ServerRunner(web.Server(handler, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        assert runner.addresses
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class FakeMlflow:
    """Answers MLflow's REST API with what it was given: for registries that lie."""

    def __init__(self) -> None:
        #: JSON answers by path below /api/2.0/; a status of 404 when it is an error.
        self.answers: dict[str, dict[str, Any]] = {}
        #: Listings by path of the folder.
        self.folders: dict[str, list[dict[str, Any]]] = {}
        self.files: dict[str, bytes] = {}
        self.requests: list[web.BaseRequest] = []

    def version(self, name: str, number: str, source: str) -> None:
        self.answers["mlflow/model-versions/get"] = {
            "model_version": {
                "name": name,
                "version": number,
                "creation_timestamp": 1,
                "status": "READY",
                "source": source,
            }
        }
        self.answers["mlflow/model-versions/get-download-uri"] = {"artifact_uri": source}

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        path = request.path.removeprefix("/api/2.0/")
        artifacts = "mlflow-artifacts/artifacts"
        if path == artifacts:
            return web.json_response({"files": self.folders.get(request.query["path"], [])})
        if path.startswith(artifacts):
            return web.Response(body=self.files[path.removeprefix(artifacts + "/")])
        answer = self.answers.get(path)
        if answer is None:
            answer = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "nothing there"}
        return web.Response(
            text=json.dumps(answer),
            status=404 if "error_code" in answer else 200,
            content_type="application/json",
        )
