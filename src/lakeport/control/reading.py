"""What may be read of serving endpoints: each method checks the caller's right and shows it."""

import builtins
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Literal

from lakeport.auth.callers import Caller, Level
from lakeport.control import openapi, permissions, views
from lakeport.control.monitoring import Monitor, shown_entities
from lakeport.control.reconciler import Reconciler
from lakeport.control.rollout import deployment_id
from lakeport.errors import ApiError, InvalidParameter, InvalidState, NotFound, Unavailable
from lakeport.runtimes.base import DeploymentSpec, Kind, ModelInterface, Runtime
from lakeport.stores.base import Store
from lakeport.stores.records import EndpointRecord, EntityRecord, EventRecord
from lakeport.telemetry.metrics import Metrics
from lakeport.wire import endpoints as wire
from lakeport.wire import monitoring
from lakeport.wire import permissions as acl
from lakeport.wire.chat import ChatTarget

#: Events that one look into the store may bring.
EVENTS_READ = 1000


class Reading:
    """The half of the control plane that changes nothing."""

    def __init__(
        self, *, reconciler: Reconciler, store: Store, runtime: Runtime, metrics: Metrics
    ) -> None:
        self._reconciler = reconciler
        self._store = store
        self._runtime = runtime
        self._metrics = metrics
        self.monitor = Monitor(reconciler, metrics)

    async def list(self, caller: Caller) -> wire.EndpointList:
        records = [self._reconciler.record(name) for name in self._reconciler.names()]
        return wire.EndpointList(
            endpoints=[
                views.summary(record, self._look(record))
                for record in records
                if record is not None and record.access.allows(caller, Level.CAN_VIEW)
            ]
        )

    async def get(self, caller: Caller, name: str) -> wire.EndpointDetailed:
        record = self._find(name)
        permissions.require(record, caller, Level.CAN_VIEW, "see it")
        return self._shown(record, caller)

    async def logs(self, caller: Caller, name: str, entity: str, config_version: int | None) -> str:
        return self._runtime.logs(await self._deployment(caller, name, entity, config_version))

    async def build_logs(
        self, caller: Caller, name: str, entity: str, config_version: int | None
    ) -> str:
        return self._runtime.build_logs(
            await self._deployment(caller, name, entity, config_version)
        )

    async def metrics(self, caller: Caller, name: str) -> str:
        record = self._find(name)
        permissions.require(record, caller, Level.CAN_VIEW, "read its metrics")
        return self.monitor.endpoint_text(record).decode()

    def all_metrics(self) -> bytes:
        """Prometheus text of every endpoint, for the server's own `/metrics`."""
        return self.monitor.server_text()

    async def live(self, caller: Caller) -> monitoring.Live:
        records = [self._reconciler.record(name) for name in self._reconciler.names()]
        return self.monitor.live(
            [
                (record, views.state(record, self._look(record)).ready)
                for record in records
                if record is not None and record.access.allows(caller, Level.CAN_VIEW)
            ]
        )

    async def series(
        self, caller: Caller, name: str, entity: str | None, range: Literal["15m", "24h"]
    ) -> monitoring.Series:
        record = self._find(name)
        permissions.require(record, caller, Level.CAN_VIEW, "read its metrics")
        known = [each.name for each in shown_entities(record)]
        if entity is None:
            if len(known) != 1:
                raise InvalidParameter(
                    f"served_entity: missing; expected one of those of '{name}': "
                    f"{', '.join(known) or 'it has none yet'}."
                )
            entity = known[0]
        elif entity not in known:
            raise unknown_entity(name, entity)
        return self.monitor.series(name, entity, range)

    async def openapi(self, caller: Caller, name: str, server_url: str) -> dict[str, Any]:
        record = self._find(name)
        permissions.require(record, caller, Level.CAN_VIEW, "read its schema")
        if record.active is None or record.stopped:
            raise InvalidState(
                f"The serving endpoint '{name}' is not ready; its schema can be had once it is."
            )
        interfaces: builtins.list[tuple[str, ModelInterface | ChatTarget]] = []
        unknown = False
        for entity in record.active.entities:
            if entity.chat is not None:
                interfaces.append((entity.name, entity.chat))
                continue
            group = self._reconciler.replica_set(record, entity)
            interface = self._runtime.signature(group.spec) if group else None
            if interface is None:  # after a restart, until its model is looked at again
                unknown = True
            elif interface.inputs is not None:
                interfaces.append((entity.name, interface))
        if not interfaces and unknown:
            raise Unavailable(
                f"The serving endpoint '{name}' is starting again; its schema can be had in a "
                "moment."
            )
        if not interfaces:
            raise NotFound(
                f"No served entity of '{name}' was logged with a signature, so there is no schema "
                "to show. Log the model with `signature=` or `input_example=`."
            )
        return openapi.document(name, record.active.version, server_url, interfaces)

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
        if name is not None:
            await self._require_events(caller, name)
        read = partial(self._store.events, name, since=since, kinds=kinds, newest=newest)
        if caller.admin:
            return [*await read(after=after, limit=limit)]

        def visible(event: EventRecord) -> bool:
            record = self._reconciler.record(event.endpoint)
            # Not those of an earlier endpoint of that name.
            return (
                record is not None
                and event.at >= record.created_at
                and record.access.allows(caller, Level.CAN_VIEW)
            )

        # Read on past what this caller may not see: an empty page means that there is no more.
        seen: builtins.list[EventRecord] = []
        before: int | None = None
        while len(seen) < limit:
            found = await read(after=after, before=before, limit=EVENTS_READ)
            shown = [event for event in found if visible(event)]
            seen = [*shown, *seen] if newest else [*seen, *shown]
            if len(found) < EVENTS_READ:
                break
            if newest:
                before = found[0].id
            else:
                after = found[-1].id
        return seen[-limit:] if newest else seen[:limit]

    async def _require_events(self, caller: Caller, name: str) -> None:
        """Admins may also read of an endpoint that is gone: who deleted it, say."""
        record = self._reconciler.record(name)
        if record is not None:
            permissions.require(record, caller, Level.CAN_VIEW, "see its events")
        elif not caller.admin or not await self._store.events(name, limit=1):
            raise unknown(name)

    async def permission_levels(self, caller: Caller, id: str) -> acl.PermissionLevels:
        permissions.require(self._find_id(id), caller, Level.CAN_VIEW, "see its permission levels")
        return permissions.LEVELS

    async def permissions(self, caller: Caller, id: str) -> acl.ObjectPermissions:
        record = self._find_id(id)
        permissions.require(record, caller, Level.CAN_MANAGE, "see its permissions")
        return permissions.shown(record)

    # --- inside -----------------------------------------------------------------------------

    def _find(self, name: str) -> EndpointRecord:
        record = self._reconciler.record(name)
        if record is None:
            raise unknown(name)
        return record

    def _find_id(self, id: str) -> EndpointRecord:
        record = self._reconciler.by_id(id)
        if record is None:
            raise NotFound(f"Serving endpoint with id {id[:80]!r} does not exist.")
        return record

    def _managed(self, caller: Caller, name: str, action: str) -> EndpointRecord:
        record = self._find(name)
        permissions.require(record, caller, Level.CAN_MANAGE, action)
        return record

    def _look(self, record: EndpointRecord) -> views.Look:
        def look(entity: EntityRecord) -> views.Running | None:
            group = self._reconciler.replica_set(record, entity)
            if group is None:
                return None
            return views.Running(
                live=len(group.live),
                at_zero=group.at_zero,
                was_ready=group.was_ready,
                message=group.observed.message,
                task=self._task(group.spec),
            )

        return look

    def _task(self, spec: DeploymentSpec) -> str | None:
        if spec.kind not in (Kind.MODEL, Kind.JOINED):
            return None
        interface = self._runtime.signature(spec)
        return interface.task if interface else None

    def _shown(self, record: EndpointRecord, caller: Caller) -> wire.EndpointDetailed:
        return views.detailed(record, caller, self._look(record))

    async def _deployment(
        self, caller: Caller, name: str, entity: str, config_version: int | None
    ) -> str:
        """The deployment that a served entity's logs belong to: the newest, or a version's."""
        record = self._managed(caller, name, "read its logs")
        configs = [config for config in (record.pending, record.active) if config is not None]
        if config_version is not None:
            configs = [config for config in configs if config.version == config_version]
            if not configs and (old := await self._store.config(record.id, config_version)):
                configs = [old]
        for config in configs:
            for candidate in config.entities:
                if candidate.name == entity:
                    return deployment_id(record.id, candidate)
        where = f" in config version {config_version}" if config_version is not None else ""
        raise unknown_entity(name, entity, where)


def unknown_entity(name: str, entity: str, where: str = "") -> ApiError:
    return NotFound(f"The serving endpoint '{name}' has no served entity '{entity[:80]}'{where}.")


def unknown(name: str) -> ApiError:
    return NotFound(f"Serving endpoint with name {name[:80]!r} does not exist.")
