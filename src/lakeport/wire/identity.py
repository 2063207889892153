"""Who one is, and what the workspace says of itself, in Databricks' words."""

from pydantic import BaseModel


class Email(BaseModel):
    value: str
    type: str = "work"
    primary: bool = True


class GroupMembership(BaseModel):
    display: str
    value: str
    type: str = "direct"


class Me(BaseModel):
    """A SCIM user."""

    schemas: list[str] = ["urn:ietf:params:scim:schemas:core:2.0:User"]
    id: str
    userName: str  # noqa: N815 - SCIM's word
    displayName: str  # noqa: N815
    active: bool = True
    emails: list[Email]
    groups: list[GroupMembership]


class HostMetadata(BaseModel):
    """`/.well-known/databricks-config`. Without `oidc_endpoint` the SDK knows no OAuth here."""

    workspace_id: str
    oidc_endpoint: str | None = None
