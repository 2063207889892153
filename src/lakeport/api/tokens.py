"""A caller's own tokens."""

from fastapi import APIRouter

from lakeport.api.context import Asking
from lakeport.api.openapi import ERRORS
from lakeport.api.ports import TokensPort
from lakeport.api.validation import JsonRoute
from lakeport.errors import NotImplementedYet
from lakeport.stores.records import TokenRecord
from lakeport.wire import tokens as wire


def tokens(port: TokensPort) -> APIRouter:
    router = APIRouter(
        prefix="/api/2.0/token", tags=["Tokens"], route_class=JsonRoute, responses=ERRORS
    )

    @router.post("/create")
    async def create(caller: Asking, body: wire.CreateToken) -> wire.CreatedToken:
        if body.scopes:
            raise NotImplementedYet("scopes: Lakeport has no tokens with scopes yet.")
        value, record = await port.create(
            caller, comment=body.comment or "", lifetime_seconds=body.lifetime_seconds
        )
        return wire.CreatedToken(token_value=value, token_info=_info(record))

    @router.get("/list")
    async def list(caller: Asking) -> wire.TokenInfos:
        return wire.TokenInfos(token_infos=[_info(record) for record in await port.list(caller)])

    @router.post("/delete")
    async def delete(caller: Asking, body: wire.DeleteToken) -> dict[str, str]:
        await port.delete(caller, body.token_id)
        return {}

    return router


def _info(record: TokenRecord) -> wire.TokenInfo:
    return wire.TokenInfo(
        token_id=record.id,
        creation_time=record.created_at,
        expiry_time=-1 if record.expires_at is None else record.expires_at,
        comment=record.comment,
    )
