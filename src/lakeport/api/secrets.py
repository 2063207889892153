"""Scopes of secrets, what is in them, and who may use them."""

import base64
import binascii

from fastapi import APIRouter

from lakeport.api.context import Asking
from lakeport.api.openapi import ERRORS
from lakeport.api.ports import SecretsPort
from lakeport.api.validation import JsonRoute
from lakeport.auth.callers import USERS, ScopePermission
from lakeport.errors import InvalidParameter, NotImplementedYet
from lakeport.wire import secrets as wire

BACKEND = "DATABRICKS"


def secrets(port: SecretsPort) -> APIRouter:
    router = APIRouter(
        prefix="/api/2.0/secrets", tags=["Secrets"], route_class=JsonRoute, responses=ERRORS
    )

    @router.post("/scopes/create")
    async def create_scope(caller: Asking, body: wire.CreateScope) -> dict[str, str]:
        _require_own_backend(body)
        if body.initial_manage_principal not in (None, "", USERS):
            raise InvalidParameter(
                f"initial_manage_principal: expected '{USERS}', or nothing for the caller alone."
            )
        await port.create_scope(caller, body.scope, for_all=body.initial_manage_principal == USERS)
        return {}

    @router.post("/scopes/delete")
    async def delete_scope(caller: Asking, body: wire.DeleteScope) -> dict[str, str]:
        await port.delete_scope(caller, body.scope)
        return {}

    @router.get("/scopes/list")
    async def list_scopes(caller: Asking) -> wire.Scopes:
        found = await port.scopes(caller)
        return wire.Scopes(scopes=[wire.Scope(name=record.name) for record in found])

    @router.post("/put")
    async def put_secret(caller: Asking, body: wire.PutSecret) -> dict[str, str]:
        await port.put(caller, body.scope, body.key, _value(body))
        return {}

    @router.post("/delete")
    async def delete_secret(caller: Asking, body: wire.DeleteSecret) -> dict[str, str]:
        await port.delete(caller, body.scope, body.key)
        return {}

    @router.get("/get")
    async def get_secret(caller: Asking, scope: str, key: str) -> wire.Secret:
        name, value = await port.get(caller, scope, key)
        return wire.Secret(key=name, value=base64.b64encode(value).decode("ascii"))

    @router.get("/list")
    async def list_secrets(caller: Asking, scope: str) -> wire.Secrets:
        return wire.Secrets(
            secrets=[
                wire.SecretMetadata(key=record.key, last_updated_timestamp=record.updated_at)
                for record in await port.list(caller, scope)
            ]
        )

    @router.post("/acls/put")
    async def put_acl(caller: Asking, body: wire.PutAcl) -> dict[str, str]:
        if body.permission not in ScopePermission.__members__:
            raise InvalidParameter(
                f"permission: {body.permission[:80]!r} is unknown; expected one of "
                f"{', '.join(ScopePermission.__members__)}."
            )
        permission = ScopePermission[body.permission]
        await port.put_acl(caller, body.scope, body.principal, permission)
        return {}

    @router.post("/acls/delete")
    async def delete_acl(caller: Asking, body: wire.DeleteAcl) -> dict[str, str]:
        await port.delete_acl(caller, body.scope, body.principal)
        return {}

    @router.get("/acls/get")
    async def get_acl(caller: Asking, scope: str, principal: str) -> wire.Acl:
        permission = await port.acl(caller, scope, principal)
        return wire.Acl(principal=principal, permission=permission.name)

    @router.get("/acls/list")
    async def list_acls(caller: Asking, scope: str) -> wire.Acls:
        return wire.Acls(
            items=[
                wire.Acl(principal=principal, permission=permission.name)
                for principal, permission in await port.acls(caller, scope)
            ]
        )

    return router


def _require_own_backend(body: wire.CreateScope) -> None:
    asked = (body.scope_backend_type or BACKEND).upper()
    if asked == "AZURE_KEYVAULT":
        raise NotImplementedYet(
            "scope_backend_type: AZURE_KEYVAULT is not supported by Lakeport; use DATABRICKS."
        )
    if asked != BACKEND:
        raise InvalidParameter(
            f"scope_backend_type: {asked[:80]!r} is unknown; expected '{BACKEND}'."
        )
    if body.backend_azure_keyvault is not None:
        raise NotImplementedYet(
            "backend_azure_keyvault: Azure Key Vault is not supported by Lakeport; leave it out."
        )


def _value(body: wire.PutSecret) -> bytes:
    if (body.string_value is None) == (body.bytes_value is None):
        raise InvalidParameter("Expected exactly one of string_value and bytes_value.")
    if body.string_value is not None:
        return body.string_value.encode()
    try:
        return base64.b64decode(body.bytes_value or "", validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: not even ASCII
        raise InvalidParameter("bytes_value: expected base64.") from error
