"""Permissions on serving endpoints, addressed by the endpoint's id, not by its name."""

from fastapi import APIRouter

from lakeport.api.context import Asking
from lakeport.api.openapi import ERRORS
from lakeport.api.validation import JsonRoute
from lakeport.control.ports import EndpointsPort
from lakeport.wire import permissions as wire


def permissions(endpoints: EndpointsPort) -> APIRouter:
    router = APIRouter(
        prefix="/api/2.0/permissions/serving-endpoints",
        tags=["Permissions"],
        route_class=JsonRoute,
        responses=ERRORS,
    )

    @router.get("/{id}/permissionLevels")
    async def get_permission_levels(caller: Asking, id: str) -> wire.PermissionLevels:
        return await endpoints.permission_levels(caller, id)

    @router.get("/{id}", response_model_exclude_none=True)
    async def get_permissions(caller: Asking, id: str) -> wire.ObjectPermissions:
        return await endpoints.permissions(caller, id)

    @router.put("/{id}", response_model_exclude_none=True)
    async def set_permissions(
        caller: Asking, id: str, body: wire.PermissionsRequest
    ) -> wire.ObjectPermissions:
        return await endpoints.set_permissions(caller, id, body)

    @router.patch("/{id}", response_model_exclude_none=True)
    async def update_permissions(
        caller: Asking, id: str, body: wire.PermissionsRequest
    ) -> wire.ObjectPermissions:
        return await endpoints.update_permissions(caller, id, body)

    return router
