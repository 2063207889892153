"""Who one is here, and what clients may know of the workspace before they say who they are."""

from fastapi import APIRouter, Response

from lakeport.api.context import Asking
from lakeport.api.openapi import ERRORS
from lakeport.wire import identity as wire


def identity(workspace_id: str) -> APIRouter:
    router = APIRouter(tags=["Identity"], responses=ERRORS)

    @router.get("/api/2.0/preview/scim/v2/Me")
    async def me(caller: Asking) -> wire.Me:
        return wire.Me(
            id=caller.id,
            userName=caller.name,
            displayName=caller.name,
            emails=[wire.Email(value=caller.name)],
            groups=[
                wire.GroupMembership(display=group, value=group) for group in sorted(caller.groups)
            ],
        )

    # Every client of the SDK reads this first, MLflow's before each call.
    @router.get("/.well-known/databricks-config", response_model_exclude_none=True)
    async def databricks_config(response: Response) -> wire.HostMetadata:
        response.headers["cache-control"] = "public, max-age=300"
        return wire.HostMetadata(workspace_id=workspace_id)

    return router
