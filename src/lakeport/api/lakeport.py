"""Faults on demand, endpoints for tests, records of calls: only with the setting `faults`."""

from dataclasses import asdict
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Response

from lakeport.api.context import Asking
from lakeport.api.openapi import ERRORS
from lakeport.api.validation import JsonRoute
from lakeport.control.workbench import Workbench
from lakeport.serving.calls import Recorded
from lakeport.serving.faults import Fault, Standing
from lakeport.wire import endpoints as endpoint_wire
from lakeport.wire import workbench as wire

Endpoint = Annotated[str | None, Query(min_length=1, max_length=255)]


def lakeport(bench: Workbench) -> APIRouter:
    router = APIRouter(
        prefix="/api/2.0/lakeport", tags=["Tests"], route_class=JsonRoute, responses=ERRORS
    )

    @router.get("/workspace")
    async def get_workspace(caller: Asking) -> wire.Place:
        return bench.place(caller)

    @router.post("/faults")
    async def add_fault(caller: Asking, body: wire.FaultInput) -> wire.Fault:
        return _fault(bench.add_fault(caller, Fault(**body.model_dump())))

    @router.get("/faults")
    async def list_faults(caller: Asking, endpoint: Endpoint = None) -> wire.Faults:
        found = [_fault(each) for each in bench.faults(caller)]
        return wire.Faults(faults=[f for f in found if endpoint in (None, f.endpoint)])

    @router.delete("/faults")
    async def clear_faults(caller: Asking, endpoint: Endpoint = None) -> dict[str, str]:
        bench.clear_faults(caller, endpoint)
        return {}

    @router.delete("/faults/{id}")
    async def remove_fault(caller: Asking, id: str) -> dict[str, str]:
        bench.remove_fault(caller, id)
        return {}

    @router.post("/endpoints", response_model_exclude_none=True)
    async def put_endpoint(
        caller: Asking, body: wire.EndpointInput
    ) -> endpoint_wire.EndpointDetailed:
        return await bench.put(caller, body)

    @router.delete("/endpoints/{name}")
    async def retire_endpoint(caller: Asking, name: str) -> dict[str, str]:
        await bench.retire(caller, name)
        return {}

    @router.get("/calls", response_model=wire.Calls)
    async def list_calls(caller: Asking, endpoint: Endpoint = None) -> Response:
        found = bench.calls(caller, endpoint)
        # Not through the model: bodies may be many megabytes.
        document = orjson.dumps({"calls": [_call(each) for each in found]})
        return Response(document, media_type="application/json")

    @router.delete("/calls")
    async def forget_calls(caller: Asking, endpoint: Endpoint = None) -> dict[str, str]:
        bench.forget_calls(caller, endpoint)
        return {}

    return router


def _fault(standing: Standing) -> wire.Fault:
    return wire.Fault(
        id=standing.id, left=standing.left, hits=standing.hits, **asdict(standing.fault)
    )


def _call(call: Recorded) -> dict[str, Any]:
    """As `wire.Call`, with a body that is JSON in the very bytes in which it came."""
    is_json = call.is_json
    return {
        "endpoint": call.endpoint,
        "served_entity": call.served_entity,
        "caller": call.caller,
        "time": call.time,
        "seconds": call.seconds,
        "status": call.status,
        "content_type": call.content_type,
        "request": orjson.Fragment(call.body or b"null") if is_json else None,
        "body": None if is_json else call.text,
        "fault": call.fault,
        "stream": call.stream,
    }
