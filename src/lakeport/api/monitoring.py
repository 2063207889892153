"""How busy endpoints are: for terminals and consoles. Prometheus reads `/metrics` instead."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from lakeport.api.context import Asking
from lakeport.api.openapi import ERRORS
from lakeport.api.validation import JsonRoute
from lakeport.control.ports import EndpointsPort
from lakeport.wire import monitoring as wire

_NAME = Query(max_length=255)


def monitoring(endpoints: EndpointsPort) -> APIRouter:
    router = APIRouter(
        prefix="/api/2.0/lakeport",
        tags=["Lakeport"],
        route_class=JsonRoute,
        responses=ERRORS,
    )

    @router.get("/live")
    async def live(caller: Asking) -> wire.Live:
        """What each endpoint that one may see does now: replicas, requests, queues."""
        return await endpoints.live(caller)

    @router.get("/series")
    async def series(
        caller: Asking,
        endpoint: Annotated[str, _NAME],
        served_entity: Annotated[str | None, _NAME] = None,
        range: Annotated[Literal["15m", "24h"], Query()] = "15m",
    ) -> wire.Series:
        """What a served entity did in the last 15 minutes, by the second, or in 24 hours, by the
        minute. It may go unnamed where the endpoint has but one."""
        return await endpoints.series(caller, endpoint, served_entity, range)

    return router
