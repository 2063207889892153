"""What happened to endpoints."""

import difflib
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from lakeport.api.context import Asking
from lakeport.api.openapi import ERRORS
from lakeport.api.validation import JsonRoute
from lakeport.control.ports import EndpointsPort
from lakeport.errors import InvalidParameter
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
        *,
        after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        since: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
        kind: Annotated[tuple[str, ...], Query()] = (),
        newest: bool = False,
    ) -> wire.Events:
        """Events with an id above `after`, oldest first; of one endpoint, or of all one may see.

        `since`: milliseconds since the epoch. `kind` may be given several times. `newest`: when
        there are more than `limit`, the last ones instead of the first.
        """
        found = await endpoints.events(
            caller,
            endpoint,
            after=after,
            limit=limit,
            since=since,
            kinds=known_kinds(kind),
            newest=newest,
        )
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


def known_kinds(given: Sequence[str]) -> frozenset[str]:
    """Raises InvalidParameter for a kind that no event is of."""
    for kind in given:
        if kind not in wire.KINDS:
            close = difflib.get_close_matches(kind, wire.KINDS, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise InvalidParameter(
                f"kind: {kind[:80]!r} is unknown; expected one of {', '.join(wire.KINDS)}.{hint}"
            )
    return frozenset(given)
