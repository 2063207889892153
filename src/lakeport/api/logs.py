"""What models printed, line by line."""

from typing import Annotated

from fastapi import APIRouter, Query

from lakeport.api.context import Asking
from lakeport.api.openapi import ERRORS
from lakeport.api.validation import JsonRoute
from lakeport.control.log_pages import LogPages
from lakeport.wire import logs as wire


def logs(pages: LogPages) -> APIRouter:
    router = APIRouter(
        prefix="/api/2.0/lakeport/logs",
        tags=["Lakeport"],
        route_class=JsonRoute,
        responses=ERRORS,
    )

    @router.get("/{endpoint}/{served_entity}", response_model_exclude_none=True)
    async def page(
        caller: Asking,
        endpoint: str,
        served_entity: str,
        *,
        after: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
        build: bool = False,
    ) -> wire.LogPage:
        """The newest lines of a served entity's replicas, or of its build; those after `after`,
        which is the `next` of an earlier answer. Bounded in bytes too: `more` says whether to ask
        again at once."""
        found = pages.page(caller, endpoint, served_entity, after=after, limit=limit, build=build)
        # Thousands of lines: `asdict` for each would hold up the loop for tens of milliseconds.
        return wire.LogPage.model_validate(found, from_attributes=True)

    return router
