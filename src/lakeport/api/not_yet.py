"""What Databricks has and Lakeport has not yet: refused by name, so that nobody relies on it."""

from fastapi import APIRouter

from lakeport.api.openapi import ERRORS
from lakeport.errors import NotImplementedYet

_ENDPOINTS = "/api/2.0/serving-endpoints"

#: Method, path and what it would be for.
REFUSED = (
    ("PUT", f"{_ENDPOINTS}/{{name}}/rate-limits", "Rate limits"),
    ("PUT", f"{_ENDPOINTS}/{{name}}/ai-gateway", "The AI gateway"),
    ("PATCH", f"{_ENDPOINTS}/{{name}}/telemetry-config", "Telemetry of endpoints"),
    ("POST", "/api/2.0/external-function", "Calling outside functions"),
)


def not_yet() -> APIRouter:
    router = APIRouter(tags=["Not implemented yet"], responses=ERRORS)
    for method, path, feature in REFUSED:
        _refuse(router, method, path, feature)
    return router


def _refuse(router: APIRouter, method: str, path: str, feature: str) -> None:
    @router.api_route(path, methods=[method], name=feature, include_in_schema=False)
    async def refuse() -> None:
        raise NotImplementedYet(f"{feature}: Lakeport does not have this yet.")
