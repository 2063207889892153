"""What happened to endpoints."""

from typing import Annotated

from fastapi import APIRouter, Query

from lakeport.api.context import Asking
from lakeport.api.openapi import ERRORS
from lakeport.api.validation import JsonRoute
from lakeport.control.ports import EndpointsPort
from lakeport.wire import events as wire


def events(endpoints: EndpointsPort) -> APIRouter:
    router = APIRouter(
        prefix="/api/2.0/lakeport/events",
        tags=["Lakeport"],
        route_class=JsonRoute,
        responses=ERRORS,
    )

    @router.get("", response_model_exclude_none=True)
    async def list(
        caller: Asking,
        endpoint: Annotated[str | None, Query(max_length=255)] = None,
        after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> wire.Events:
        """Events with an id above `after`, oldest first; of one endpoint, or of all one may see."""
        found = await endpoints.events(caller, endpoint, after=after, limit=limit)
        return wire.Events(
            events=[
                wire.Event(
                    id=event.id,
                    at=event.at,
                    endpoint=event.endpoint,
                    kind=event.kind,
                    message=event.message,
                    actor=event.actor,
                    entity=event.entity,
                )
                for event in found
            ]
        )

    return router
