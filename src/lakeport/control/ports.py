"""The control plane as the edges see it: `control/endpoints.py` is the one implementation.

Every method raises `lakeport.errors.ApiError`s and checks the caller's permission itself.
"""

from collections.abc import Collection, Sequence
from typing import Any, Literal, Protocol

from lakeport.auth.callers import Caller
from lakeport.providers.base import Vault
from lakeport.stores.records import EventRecord
from lakeport.wire import endpoints as wire
from lakeport.wire import monitoring
from lakeport.wire import permissions as acl


class SecretsPort(Vault, Protocol):
    """What control needs of secrets (`auth/secrets.py`)."""

    def check(self, caller: Caller, reference: str, at: str) -> None:
        """Whether `caller` may have "{{secrets/SCOPE/KEY}}" used in the field `at`: they must be
        allowed to read it, and it must be there.

        Raises InvalidParameter, NotFound or PermissionDenied, naming the field and the secret.
        """
        ...


class EndpointsPort(Protocol):
    async def create(
        self, caller: Caller, request: wire.CreateEndpoint
    ) -> wire.EndpointDetailed: ...
    async def get(self, caller: Caller, name: str) -> wire.EndpointDetailed: ...
    async def list(self, caller: Caller) -> wire.EndpointList: ...
    async def update_config(
        self, caller: Caller, name: str, request: wire.CoreConfigInput
    ) -> wire.EndpointDetailed: ...
    async def patch_tags(
        self, caller: Caller, name: str, request: wire.PatchTags
    ) -> wire.EndpointTags: ...
    async def update_notifications(
        self, caller: Caller, name: str, request: wire.PatchNotifications
    ) -> wire.EndpointDetailed: ...
    async def delete(self, caller: Caller, name: str) -> None: ...
    async def stop(self, caller: Caller, name: str) -> wire.EndpointDetailed: ...
    async def start(self, caller: Caller, name: str) -> wire.EndpointDetailed: ...
    async def logs(
        self, caller: Caller, name: str, entity: str, config_version: int | None
    ) -> str: ...
    async def build_logs(
        self, caller: Caller, name: str, entity: str, config_version: int | None
    ) -> str: ...
    async def metrics(self, caller: Caller, name: str) -> str:
        """Prometheus text."""
        ...

    async def live(self, caller: Caller) -> monitoring.Live: ...
    async def series(
        self, caller: Caller, name: str, entity: str | None, range: Literal["15m", "24h"]
    ) -> monitoring.Series:
        """`entity` may be None where the endpoint has but one."""
        ...

    async def openapi(self, caller: Caller, name: str, server_url: str) -> dict[str, Any]: ...
    async def permission_levels(self, caller: Caller, id: str) -> acl.PermissionLevels: ...
    async def permissions(self, caller: Caller, id: str) -> acl.ObjectPermissions: ...
    async def set_permissions(
        self, caller: Caller, id: str, request: acl.PermissionsRequest
    ) -> acl.ObjectPermissions: ...
    async def update_permissions(
        self, caller: Caller, id: str, request: acl.PermissionsRequest
    ) -> acl.ObjectPermissions: ...
    async def optimization_info(self, model: str, version: str) -> wire.OptimizationInfo: ...
    async def events(
        self,
        caller: Caller,
        name: str | None,
        *,
        after: int,
        limit: int,
        since: int = 0,
        kinds: Collection[str] = (),
        newest: bool = False,
    ) -> Sequence[EventRecord]:
        """As `stores.base.Store.events`, of what the caller may see."""
        ...
