"""Permissions on serving endpoints in Databricks' words."""

from pydantic import BaseModel, ConfigDict


class AccessControlRequest(BaseModel):
    """Exactly one of the three names, and a level."""

    model_config = ConfigDict(extra="forbid")

    user_name: str | None = None
    group_name: str | None = None
    service_principal_name: str | None = None
    permission_level: str


class PermissionsRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    access_control_list: list[AccessControlRequest] | None = None


class Permission(BaseModel):
    permission_level: str
    inherited: bool
    inherited_from_object: list[str] | None = None


class AccessControl(BaseModel):
    user_name: str | None = None
    group_name: str | None = None
    service_principal_name: str | None = None
    display_name: str
    all_permissions: list[Permission]


class ObjectPermissions(BaseModel):
    object_id: str
    object_type: str
    access_control_list: list[AccessControl]


class LevelDescription(BaseModel):
    permission_level: str
    description: str


class PermissionLevels(BaseModel):
    permission_levels: list[LevelDescription]
