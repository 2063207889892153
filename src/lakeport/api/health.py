"""Is it up, and how is it: for load balancers, monitoring, and callers of `mlflow models serve`."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from lakeport.api.context import Asking
from lakeport.api.openapi import ERRORS, TEXT
from lakeport.control.ports import EndpointsPort
from lakeport.errors import EndpointNotFound, PermissionDenied, Unavailable
from lakeport.wire.endpoints import Ready


class Health(BaseModel):
    status: Literal["ok"] = "ok"


def health(
    endpoints: EndpointsPort,
    *,
    serving: Callable[[], bool],
    metrics: Callable[[], bytes],
    single_endpoint: Callable[[], str | None],
) -> APIRouter:
    router = APIRouter(tags=["Health"], responses=ERRORS)

    @router.get("/health")
    @router.head("/health", include_in_schema=False)
    async def get_health() -> Health:
        if not serving():
            raise Unavailable("Lakeport is starting or stopping; try again shortly.")
        return Health()

    @router.get("/metrics", response_class=Response, responses=TEXT)
    async def get_metrics(caller: Asking) -> Response:
        # They name every endpoint; a caller may see only some of them.
        if not caller.admin:
            raise PermissionDenied("The server's metrics are for members of the group 'admins'.")
        return Response(metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def the_one(path: str) -> str:
        name = single_endpoint()
        if name is None:
            raise EndpointNotFound(
                f"No API found for 'GET {path}'. It is there when `lakeport serve` was started "
                "with exactly one --model."
            )
        return name

    # As MLflow's scoring server answers them.
    @router.get("/ping", response_class=Response, include_in_schema=False)
    async def ping(caller: Asking) -> Response:
        endpoint = await endpoints.get(caller, the_one("/ping"))
        if endpoint.state.ready != Ready.READY:
            raise Unavailable(f"The endpoint {endpoint.name} is not ready.")
        return Response("\n", media_type="application/json")

    @router.get("/version", response_class=Response, include_in_schema=False)
    async def mlflow_version(caller: Asking) -> Response:
        the_one("/version")
        return Response(version("mlflow"), media_type="application/json")

    return router
