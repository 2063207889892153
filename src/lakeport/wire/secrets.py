"""Secrets in Databricks' words. Times are milliseconds since the epoch."""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict

_NAME = r"[A-Za-z0-9@._-]{1,128}"
#: Of scopes and of keys: up to 128 letters, digits, `-`, `_`, `@` and `.` (Databricks'
#: documentation; the SDK's leaves `@` out).
NAME = re.compile(_NAME)
#: What stands for a secret where a key or a variable's value is expected: exactly this.
REFERENCE = re.compile(rf"\{{\{{secrets/(?P<scope>{_NAME})/(?P<key>{_NAME})\}}\}}")
#: What was probably meant as one.
_NEAR = re.compile(r"\{\{\s*secrets\s*/")


def parse_reference(text: str) -> tuple[str, str] | None:
    """Scope and key of "{{secrets/SCOPE/KEY}}"; None for any other text."""
    found = REFERENCE.fullmatch(text)
    return (found["scope"], found["key"]) if found else None


def resembles_reference(text: str) -> bool:
    """Whether `text`, no reference itself, holds something like one."""
    return parse_reference(text) is None and _NEAR.search(text) is not None


class CreateScope(BaseModel):
    model_config = ConfigDict(extra="forbid")

    scope: str
    #: "users", or the caller alone.
    initial_manage_principal: str | None = None
    #: "DATABRICKS"; "AZURE_KEYVAULT" is refused by name.
    scope_backend_type: str | None = None
    #: Known to Databricks, refused here by name.
    backend_azure_keyvault: dict[str, Any] | None = None


class DeleteScope(BaseModel):
    model_config = ConfigDict(extra="forbid")

    scope: str


class Scope(BaseModel):
    name: str
    backend_type: str = "DATABRICKS"


class Scopes(BaseModel):
    scopes: list[Scope]


class PutSecret(BaseModel):
    """Exactly one of the values."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    scope: str
    key: str
    string_value: str | None = None
    #: Base64.
    bytes_value: str | None = None


class DeleteSecret(BaseModel):
    model_config = ConfigDict(extra="forbid")

    scope: str
    key: str


class Secret(BaseModel):
    key: str
    #: Base64, whichever way it was put.
    value: str


class SecretMetadata(BaseModel):
    key: str
    last_updated_timestamp: int


class Secrets(BaseModel):
    secrets: list[SecretMetadata]


class PutAcl(BaseModel):
    model_config = ConfigDict(extra="forbid")

    scope: str
    #: A user's or a group's name.
    principal: str
    #: READ, WRITE or MANAGE.
    permission: str


class DeleteAcl(BaseModel):
    model_config = ConfigDict(extra="forbid")

    scope: str
    principal: str


class Acl(BaseModel):
    principal: str
    permission: str


class Acls(BaseModel):
    items: list[Acl]
