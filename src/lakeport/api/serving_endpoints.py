"""Serving endpoints: what Databricks' `ServingEndpointsAPI` calls."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response

from lakeport.api.context import Asking
from lakeport.api.openapi import ERRORS, TEXT
from lakeport.api.validation import JsonRoute
from lakeport.control.ports import EndpointsPort
from lakeport.wire import endpoints as wire

PREFIX = "/api/2.0/serving-endpoints"

ConfigVersion = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


def serving_endpoints(endpoints: EndpointsPort) -> APIRouter:
    router = APIRouter(
        prefix=PREFIX, tags=["Serving endpoints"], route_class=JsonRoute, responses=ERRORS
    )

    # MLflow's client ends both paths with a slash.
    @router.get("/", include_in_schema=False, response_model_exclude_none=True)
    @router.get("", response_model_exclude_none=True)
    async def list(caller: Asking) -> wire.EndpointList:
        return await endpoints.list(caller)

    @router.post("/", include_in_schema=False, response_model_exclude_none=True)
    @router.post("", response_model_exclude_none=True)
    async def create(caller: Asking, body: wire.CreateEndpoint) -> wire.EndpointDetailed:
        return await endpoints.create(caller, body)

    @router.post("/pt", response_model_exclude_none=True)
    async def create_pt(caller: Asking, body: wire.CreatePtEndpoint) -> wire.EndpointDetailed:
        given = body.model_dump(exclude_unset=True)
        return await endpoints.create(caller, wire.CreateEndpoint.model_validate(given))

    @router.put("/pt/{name}/config", response_model_exclude_none=True)
    async def update_pt_config(
        caller: Asking, name: str, body: wire.UpdatePtConfig
    ) -> wire.EndpointDetailed:
        given = body.config.model_dump(exclude_unset=True)
        return await endpoints.update_config(
            caller, name, wire.CoreConfigInput.model_validate(given)
        )

    @router.get("/get-model-optimization-info/{model}/{version}", response_model_exclude_none=True)
    async def optimization_info(caller: Asking, model: str, version: str) -> wire.OptimizationInfo:
        return await endpoints.optimization_info(model, version)

    @router.get("/{name}", response_model_exclude_none=True)
    async def get(caller: Asking, name: str) -> wire.EndpointDetailed:
        return await endpoints.get(caller, name)

    @router.delete("/{name}")
    async def delete(caller: Asking, name: str) -> dict[str, str]:
        await endpoints.delete(caller, name)
        return {}

    @router.put("/{name}/config", response_model_exclude_none=True)
    async def update_config(
        caller: Asking, name: str, body: wire.CoreConfigInput
    ) -> wire.EndpointDetailed:
        return await endpoints.update_config(caller, name, body)

    @router.post("/{name}/config:stop", response_model_exclude_none=True)
    async def stop(caller: Asking, name: str) -> wire.EndpointDetailed:
        return await endpoints.stop(caller, name)

    @router.post("/{name}/config:start", response_model_exclude_none=True)
    async def start(caller: Asking, name: str) -> wire.EndpointDetailed:
        return await endpoints.start(caller, name)

    @router.patch("/{name}/tags", response_model_exclude_none=True)
    async def patch_tags(caller: Asking, name: str, body: wire.PatchTags) -> wire.EndpointTags:
        return await endpoints.patch_tags(caller, name, body)

    @router.patch("/{name}/notifications", response_model_exclude_none=True)
    async def update_notifications(
        caller: Asking, name: str, body: wire.PatchNotifications
    ) -> wire.EndpointDetailed:
        return await endpoints.update_notifications(caller, name, body)

    @router.get("/{name}/served-models/{entity}/logs")
    async def logs(
        caller: Asking, name: str, entity: str, config_version: ConfigVersion = None
    ) -> wire.Logs:
        return wire.Logs(logs=await endpoints.logs(caller, name, entity, config_version))

    @router.get("/{name}/served-models/{entity}/build-logs")
    async def build_logs(
        caller: Asking, name: str, entity: str, config_version: ConfigVersion = None
    ) -> wire.Logs:
        return wire.Logs(logs=await endpoints.build_logs(caller, name, entity, config_version))

    @router.get("/{name}/metrics", response_class=Response, responses=TEXT)
    async def metrics(caller: Asking, name: str) -> Response:
        return Response(
            await endpoints.metrics(caller, name),
            media_type="text/plain; version=0.0.4; charset=utf-8",
        )

    @router.get("/{name}/openapi", response_class=Response, responses=TEXT)
    async def openapi(caller: Asking, name: str, request: Request) -> Response:
        # The door lets only a valid host through.
        host = request.headers.get("host", "localhost")
        document = await endpoints.openapi(caller, name, f"{request.scope['scheme']}://{host}")
        return Response(orjson.dumps(document), media_type="text/plain; charset=utf-8")

    return router
