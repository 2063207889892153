"""The control plane's FastAPI app: every route that is neither an invocation nor the registry's."""

from collections.abc import Callable
from functools import cache
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from lakeport.api.context import request_id_of
from lakeport.api.cut import CutResponse
from lakeport.api.errors import as_api_error, encode_error
from lakeport.api.events import events
from lakeport.api.health import health
from lakeport.api.identity import identity
from lakeport.api.lakeport import lakeport
from lakeport.api.logs import logs as log_routes
from lakeport.api.monitoring import monitoring
from lakeport.api.not_yet import not_yet
from lakeport.api.openapi import allowed_methods, build_document
from lakeport.api.permissions import permissions
from lakeport.api.ports import SecretsPort, TokensPort
from lakeport.api.secrets import secrets as secret_routes
from lakeport.api.serving_endpoints import serving_endpoints
from lakeport.api.tokens import tokens as token_routes
from lakeport.api.validation import translate
from lakeport.control.log_pages import LogPages
from lakeport.control.ports import EndpointsPort
from lakeport.control.workbench import Workbench
from lakeport.errors import ApiError, EndpointNotFound, MalformedRequest, MethodNotAllowed
from lakeport.serving.faulty import Cut
from lakeport.stores.base import StoreError


def build_control_plane(
    *,
    endpoints: EndpointsPort,
    tokens: TokensPort,
    secrets: SecretsPort,
    serving: Callable[[], bool],
    workspace_id: str,
    single_endpoint: Callable[[], str | None],
    metrics: Callable[[], bytes],
    logs: LogPages,
    bench: Workbench | None = None,
) -> FastAPI:
    """The app. It expects `context.Context` in the scope, and errors other than ours go through."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    # Paths with fixed words before those that take any name in their place.
    for router in (
        not_yet(),
        serving_endpoints(endpoints),
        permissions(endpoints),
        token_routes(tokens),
        secret_routes(secrets),
        identity(workspace_id),
        events(endpoints),
        monitoring(endpoints),
        log_routes(logs),
        health(endpoints, serving=serving, metrics=metrics, single_endpoint=single_endpoint),
    ):
        app.include_router(router)
    if bench is not None:
        app.include_router(lakeport(bench))
        app.add_exception_handler(Cut, _break)

    @cache
    def document() -> dict[str, Any]:
        return build_document(app.routes)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return document()

    async def refuse_method(request: Request, exception: Exception) -> Response:
        # Starlette names the methods of one route; a path's are spread over several.
        response = await _answer(request, exception)
        named = set(response.headers.get("allow", "").split(", ")) - {""}
        named |= allowed_methods(document(), request.scope["path"])
        response.headers["allow"] = ", ".join(sorted(named))
        return response

    app.add_exception_handler(405, refuse_method)
    for foreign in (ApiError, StoreError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(foreign, _answer)
    return app


async def _break(request: Request, exception: Exception) -> Response:
    return CutResponse()


async def _answer(request: Request, exception: Exception) -> Response:
    error = _as_api_error(request, exception)
    status, headers, body = encode_error(error, request_id_of(request))
    response = Response(body, status)
    response.raw_headers = headers
    if isinstance(exception, HTTPException) and exception.headers:
        response.headers.update(exception.headers)
    return response


def _as_api_error(request: Request, exception: Exception) -> ApiError:
    if isinstance(exception, RequestValidationError):
        return translate(exception, None)
    if isinstance(exception, HTTPException):
        asked = f"{request.method} {request.scope['path'][:200]}"
        if exception.status_code == 404:
            return EndpointNotFound(f"No API found for '{asked}'")
        if exception.status_code == 405:
            return MethodNotAllowed(f"'{asked}': this path has no such method")
        return MalformedRequest("The body cannot be read.")
    return as_api_error(exception)
