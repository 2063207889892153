"""What may be asked about serving endpoints: the implementation of `control.ports.EndpointsPort`.

Each method checks the caller's right, turns the request into a wish (`validation`, `updates`),
hands it to the reconciler, and shows the outcome (`views`).
"""

import builtins
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lakeport.auth.callers import AccessList, Caller, Level
from lakeport.control import openapi, permissions, updates, validation, views
from lakeport.control.reconciler import Reconciler
from lakeport.control.rollout import deployment_id
from lakeport.control.validation import PER_REPLICA, WishedConfig, WishedEntity
from lakeport.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Internal,
    InvalidParameter,
    InvalidState,
    NotFound,
    QuotaExceeded,
    Unavailable,
)
from lakeport.models.base import (
    ModelNotFound,
    ModelRegistry,
    ModelVersion,
    RegistryUnavailable,
)
from lakeport.runtimes.base import Runtime
from lakeport.stores.base import StaleRecord, Store, StoreError
from lakeport.stores.records import (
    ConfigRecord,
    ConfigUpdate,
    EndpointRecord,
    EntityRecord,
    EventRecord,
    RouteRecord,
)
from lakeport.telemetry.metrics import EntityLoad, Metrics
from lakeport.wire import endpoints as wire
from lakeport.wire import permissions as acl

#: Events that one look into the store may bring.
EVENTS_READ = 1000


class Endpoints:
    """The control plane of serving endpoints."""

    def __init__(
        self,
        *,
        reconciler: Reconciler,
        store: Store,
        runtime: Runtime,
        registry: ModelRegistry | None,
        metrics: Metrics,
        now_ms: Callable[[], int],
        max_entities: int,
        max_endpoints: int,
    ) -> None:
        self._reconciler = reconciler
        self._store = store
        self._runtime = runtime
        self._registry = registry
        self._metrics = metrics
        self._now_ms = now_ms
        self._max_entities = max_entities
        self._max_endpoints = max_endpoints

    # --- reading ----------------------------------------------------------------------------

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
        return self._metrics.exposition(self._loads(record), name).decode()

    def all_metrics(self) -> bytes:
        """Prometheus text of every endpoint, for the server's own `/metrics`."""
        records = [self._reconciler.record(name) for name in self._reconciler.names()]
        loads = [load for record in records if record for load in self._loads(record)]
        return self._metrics.exposition(loads)

    async def openapi(self, caller: Caller, name: str, server_url: str) -> dict[str, Any]:
        record = self._find(name)
        permissions.require(record, caller, Level.CAN_VIEW, "read its schema")
        if record.active is None or record.stopped:
            raise InvalidState(
                f"The serving endpoint '{name}' is not ready; its schema can be had once it is."
            )
        interfaces, unknown = [], False
        for entity in record.active.entities:
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
        self, caller: Caller, name: str | None, *, after: int, limit: int
    ) -> Sequence[EventRecord]:
        if name is not None:
            permissions.require(self._find(name), caller, Level.CAN_VIEW, "see its events")
        if caller.admin:
            return [*await self._store.events(name, after=after, limit=limit)]

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
        while len(seen) < limit:
            found = await self._store.events(name, after=after, limit=EVENTS_READ)
            seen += filter(visible, found)
            if len(found) < EVENTS_READ:
                break
            after = found[-1].id
        return seen[:limit]

    # --- changing ---------------------------------------------------------------------------

    async def create(self, caller: Caller, request: wire.CreateEndpoint) -> wire.EndpointDetailed:
        wish = validation.create(request, max_entities=self._max_entities)
        if self._reconciler.record(request.name) is not None:
            raise AlreadyExists(f"Serving endpoint with name {request.name} already exists.")
        if len(self._reconciler.names()) >= self._max_endpoints:
            raise QuotaExceeded(
                f"The workspace has {self._max_endpoints} serving endpoints, as many as it may "
                "have. Delete one, or raise LAKEPORT_MAX_ENDPOINTS.",
                retry_after=60,
            )
        now = self._now_ms()
        record = EndpointRecord(
            id=uuid.uuid4().hex,
            name=request.name,
            creator=caller.name,
            created_at=now,
            updated_at=now,
            description=request.description or "",
            tags=validation.tags(request.tags or []),
            notifications=_notifications(request.email_notifications),
            budget_policy_id=request.budget_policy_id,
            access=AccessList(users={caller.name: Level.CAN_MANAGE}),
        )
        if wish is not None:
            entities = await self._resolved(wish, "config.", None)
            record = updates.begin(record, entities, wish.routes, now=now, actor=caller.name)
        return self._shown(await self._create(record, caller.name), caller)

    async def update_config(
        self, caller: Caller, name: str, request: wire.CoreConfigInput
    ) -> wire.EndpointDetailed:
        record = self._managed(caller, name, "update its config")
        if request.name is not None and request.name != name:
            raise InvalidParameter(f"name: '{request.name}' differs from the name in the path.")
        wish = validation.config(request, max_entities=self._max_entities)
        # Refuse at once what the move would refuse, before asking the registry.
        updates.begin(record, (), (), now=0, actor="")
        entities = await self._resolved(wish, "", record.active)
        return await self._update(caller, record, entities, wish.routes)

    async def patch_tags(
        self, caller: Caller, name: str, request: wire.PatchTags
    ) -> wire.EndpointTags:
        found = self._managed(caller, name, "change its tags")
        added = validation.tags(request.add_tags or [], "add_tags")

        def change(record: EndpointRecord) -> EndpointRecord:
            tags = {**record.tags, **added}
            for key in request.delete_tags or []:
                if key not in added:
                    tags.pop(key, None)
            if len(tags) > validation.MAX_TAGS:
                raise InvalidParameter(
                    f"add_tags: the endpoint would have {len(tags)} tags; expected at most "
                    f"{validation.MAX_TAGS}."
                )
            return replace(record, tags=tags, updated_at=self._now_ms())

        return wire.EndpointTags(tags=views.tags(await self._move(caller, found, change)))

    async def update_notifications(
        self, caller: Caller, name: str, request: wire.PatchNotifications
    ) -> wire.EndpointDetailed:
        found = self._managed(caller, name, "change its notifications")
        notifications = _notifications(request.email_notifications)
        record = await self._move(
            caller,
            found,
            lambda r: replace(r, notifications=notifications, updated_at=self._now_ms()),
        )
        return self._shown(record, caller)

    async def delete(self, caller: Caller, name: str) -> None:
        self._managed(caller, name, "delete it")
        event = EventRecord(self._now_ms(), name, "deleted", "Deleted.", actor=caller.name)
        try:
            deleted = await self._reconciler.delete(name, event)
        except StoreError as problem:
            raise _not_stored() from problem
        if not deleted:
            raise _unknown(name)
        self._metrics.forget(name)

    async def stop(self, caller: Caller, name: str) -> wire.EndpointDetailed:
        found = self._managed(caller, name, "stop it")
        record = await self._move(
            caller,
            found,
            lambda r: updates.stop(r, now=self._now_ms()),
            EventRecord(self._now_ms(), name, "stopped", "Stopped.", actor=caller.name),
        )
        return self._shown(record, caller)

    async def start(self, caller: Caller, name: str) -> wire.EndpointDetailed:
        found = self._managed(caller, name, "start it")
        record = await self._move(
            caller,
            found,
            lambda r: updates.start(r, now=self._now_ms(), actor=caller.name),
            EventRecord(self._now_ms(), name, "started", "Started.", actor=caller.name),
        )
        return self._shown(record, caller)

    # --- permissions ------------------------------------------------------------------------

    async def permission_levels(self, caller: Caller, id: str) -> acl.PermissionLevels:
        permissions.require(self._find_id(id), caller, Level.CAN_VIEW, "see its permission levels")
        return permissions.LEVELS

    async def permissions(self, caller: Caller, id: str) -> acl.ObjectPermissions:
        record = self._find_id(id)
        permissions.require(record, caller, Level.CAN_MANAGE, "see its permissions")
        return permissions.shown(record)

    async def set_permissions(
        self, caller: Caller, id: str, request: acl.PermissionsRequest
    ) -> acl.ObjectPermissions:
        return await self._grant(caller, id, request, lambda old, new: new)

    async def update_permissions(
        self, caller: Caller, id: str, request: acl.PermissionsRequest
    ) -> acl.ObjectPermissions:
        return await self._grant(caller, id, request, permissions.merged)

    async def _grant(
        self,
        caller: Caller,
        id: str,
        request: acl.PermissionsRequest,
        combine: Callable[[AccessList, AccessList], AccessList],
    ) -> acl.ObjectPermissions:
        record = self._find_id(id)
        permissions.require(record, caller, Level.CAN_MANAGE, "change its permissions")
        access = permissions.parse(request.access_control_list or [])
        record = await self._move(
            caller,
            record,
            lambda r: replace(r, access=combine(r.access, access)),
            EventRecord(
                self._now_ms(),
                record.name,
                "permissions",
                "Permissions changed.",
                actor=caller.name,
            ),
        )
        return permissions.shown(record)

    # --- for the server itself --------------------------------------------------------------

    async def ensure(
        self, caller: Caller, *, name: str, wish: WishedEntity, path: str | None
    ) -> None:
        """An endpoint that its operator asked for at start: made, updated, or left as it is.

        What it was doing is given up for what is asked now: nobody can reach the server yet to
        start the endpoint first, or to wait. A config that failed is tried again. Raises ApiError
        when the name belongs to an endpoint made through the API, or the model is not to be had.
        """
        validation.endpoint_name(name)
        config = WishedConfig((wish,), (RouteRecord(wish.name, 100),))
        if path is None:
            entities = await self._resolved(config, "", None)
        else:
            entities = (_entity(wish, "1", "path", path),)
        record = self._reconciler.record(name)
        now = self._now_ms()
        if record is None:
            fresh = EndpointRecord(
                id=uuid.uuid4().hex,
                name=name,
                creator=caller.name,
                created_at=now,
                updated_at=now,
                access=AccessList(users={caller.name: Level.CAN_MANAGE}),
                from_flag=True,
            )
            await self._create(
                updates.begin(fresh, entities, config.routes, now=now, actor=caller.name),
                caller.name,
            )
            return
        if not record.from_flag:
            raise Conflict(
                f"the serving endpoint '{name}' exists already and was not made by this flag. "
                "Choose another name, or delete that endpoint."
            )
        latest = record.pending or record.active
        failed = record.update is ConfigUpdate.UPDATE_FAILED
        if latest is not None and not failed and _same_models(latest, entities):
            return
        await self._move(
            caller,
            record,
            lambda r: updates.supersede(r, entities, config.routes, now=now, actor=caller.name),
            EventRecord(now, name, "update_started", "Config update started.", actor=caller.name),
        )

    async def follow(self, record: EndpointRecord) -> bool:
        """Roll out what the aliases of an endpoint mean now; False when there is nothing to do.

        A version that failed to roll out is not tried again until the alias moves on. Raises
        ModelNotFound, RegistryUnavailable.
        """
        config = record.active or record.pending
        if config is None or self._registry is None:
            return False
        failed = record.pending.entities if record.pending else ()
        tried = {(e.name, e.entity_name, e.entity_version): e for e in failed}
        moved: builtins.list[str] = []
        entities: builtins.list[EntityRecord] = []
        for entity in config.entities:
            followed = entity
            if entity.entity_version.startswith("@"):
                found = await self._registry.resolve(entity.entity_name, entity.entity_version)
                # Back to what serves is a move too, and ends the failure of what was tried since.
                last = tried.get((entity.name, entity.entity_name, entity.entity_version), entity)
                if found.key != last.model_key:
                    moved.append(
                        f"{entity.entity_name}{entity.entity_version} is version {found.version} "
                        f"now (was {last.resolved_version})"
                    )
                    followed = replace(entity, resolved_version=found.version, model_key=found.key)
            entities.append(followed)
        if not moved:
            return False
        now = self._now_ms()

        def change(current: EndpointRecord) -> EndpointRecord:
            if (current.active, current.pending) != (record.active, record.pending):
                # What was looked at is not what serves now, and must not come back.
                raise Conflict(f"The config of '{record.name}' was changed meanwhile.")
            return updates.begin(current, tuple(entities), config.routes, now=now, actor="system")

        await self._move(
            None,
            record,
            change,
            EventRecord(now, record.name, "alias_moved", "; ".join(moved) + "."),
        )
        return True

    # --- inside -----------------------------------------------------------------------------

    def _find(self, name: str) -> EndpointRecord:
        record = self._reconciler.record(name)
        if record is None:
            raise _unknown(name)
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

    async def _create(self, record: EndpointRecord, actor: str) -> EndpointRecord:
        event = EventRecord(record.created_at, record.name, "created", "Created.", actor=actor)
        try:
            return await self._reconciler.create(record, event)
        except StoreError as problem:
            raise _not_stored() from problem

    async def _update(
        self,
        caller: Caller,
        found: EndpointRecord,
        entities: tuple[EntityRecord, ...],
        routes: tuple[RouteRecord, ...],
    ) -> wire.EndpointDetailed:
        now = self._now_ms()
        record = await self._move(
            caller,
            found,
            lambda r: updates.begin(r, entities, routes, now=now, actor=caller.name),
            EventRecord(
                now, found.name, "update_started", "Config update started.", actor=caller.name
            ),
        )
        configs = [config for config in (record.active, record.pending) if config is not None]
        self._metrics.keep(record.name, {e.name for config in configs for e in config.entities})
        return self._shown(record, caller)

    async def _move(
        self,
        caller: Caller | None,
        found: EndpointRecord,
        change: Callable[[EndpointRecord], EndpointRecord],
        *events: EventRecord,
    ) -> EndpointRecord:
        """Change the endpoint that was found, and not another that has its name by now.

        The caller must hold CAN_MANAGE still; None is the server itself.
        """
        name = found.name

        def checked(record: EndpointRecord) -> EndpointRecord:
            if record.id != found.id:
                raise _unknown(name)
            if caller is not None:
                permissions.require(record, caller, Level.CAN_MANAGE, "change it")
            return change(record)

        try:
            record = await self._reconciler.move(name, checked, *events)
        except StaleRecord as problem:
            raise Conflict(
                f"The serving endpoint '{name}' was changed meanwhile. Try again."
            ) from problem
        except StoreError as problem:
            raise _not_stored() from problem
        if record is None:
            raise _unknown(name)
        return record

    async def _resolved(
        self, wish: WishedConfig, at: str, active: ConfigRecord | None
    ) -> tuple[EntityRecord, ...]:
        """Look every model version up. Raises NotFound naming the one that does not exist.

        Without a registry, or while it cannot be reached, what `active` serves is known all the
        same: traffic can be shifted and sizes changed.
        """
        found = []
        for entity in wish.entities:
            try:
                version = await self._resolve(entity, at)
            except (InvalidParameter, Unavailable):
                known = _same_version(active, entity)
                if known is None:
                    raise
                version = known
            found.append(_entity(entity, version.version, version.key, None))
        return tuple(found)

    async def _resolve(self, entity: WishedEntity, at: str) -> ModelVersion:
        if self._registry is None:
            raise InvalidParameter(
                f"{at}served_entities: this server has no model registry (LAKEPORT_REGISTRY=off), "
                "so it can serve only the models that it serves already."
            )
        try:
            return await self._registry.resolve(entity.entity_name, entity.entity_version)
        except ModelNotFound as problem:
            where = f"{entity.at}: " if entity.at else ""
            raise NotFound(f"{where}{problem}") from problem
        except RegistryUnavailable as problem:
            raise Unavailable(str(problem), retry_after=5) from problem

    def _look(self, record: EndpointRecord) -> views.Look:
        def look(entity: EntityRecord) -> views.Running | None:
            group = self._reconciler.replica_set(record, entity)
            if group is None:
                return None
            return views.Running(
                live=len(group.live),
                was_ready=group.was_ready,
                message=group.observed.message,
            )

        return look

    def _shown(self, record: EndpointRecord, caller: Caller) -> wire.EndpointDetailed:
        return views.detailed(record, caller, self._look(record))

    def _loads(self, record: EndpointRecord) -> Sequence[EntityLoad]:
        loads = []
        for entity in record.active.entities if record.active else ():
            group = self._reconciler.replica_set(record, entity)
            if group is None:
                continue
            usages = [usage for r in group.live.values() if (usage := r.usage()) is not None]
            limit = sum(usage.memory_limit_bytes for usage in usages)
            loads.append(
                EntityLoad(
                    endpoint=record.name,
                    entity=entity.name,
                    cpu_percent=sum(usage.cpu_percent for usage in usages),
                    memory_percent=(
                        100 * sum(usage.memory_bytes for usage in usages) / limit if limit else 0.0
                    ),
                    provisioned_concurrency=len(group.live) * PER_REPLICA,
                    replicas=len(group.live),
                )
            )
        return loads

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
        raise NotFound(
            f"The serving endpoint '{name}' has no served entity '{entity[:80]}'{where}."
        )


def _entity(wish: WishedEntity, version: str, key: str, path: str | None) -> EntityRecord:
    return EntityRecord(
        name=wish.name,
        entity_name=wish.entity_name,
        entity_version=wish.entity_version,
        resolved_version=version,
        model_key=key,
        path=path,
        workload_type=wish.workload_type,
        workload_size=wish.workload_size,
        min_concurrency=wish.min_concurrency,
        max_concurrency=wish.max_concurrency,
        scale_to_zero=wish.scale_to_zero,
        environment=wish.environment,
    )


def _same_version(active: ConfigRecord | None, wish: WishedEntity) -> ModelVersion | None:
    for entity in active.entities if active else ():
        asked = (entity.entity_name, entity.entity_version)
        if entity.path is None and asked == (wish.entity_name, wish.entity_version):
            return ModelVersion(entity.entity_name, entity.resolved_version, entity.model_key)
    return None


def _same_models(config: ConfigRecord, entities: tuple[EntityRecord, ...]) -> bool:
    return [(e.model_key, e.path) for e in config.entities] == [
        (e.model_key, e.path) for e in entities
    ]


def _notifications(given: wire.EmailNotifications | None) -> dict[str, Any] | None:
    return given.model_dump(exclude_none=True) if given else None


def _unknown(name: str) -> ApiError:
    return NotFound(f"Serving endpoint with name {name[:80]!r} does not exist.")


def _not_stored() -> ApiError:
    return Internal(
        "The change could not be stored; nothing was changed. The server's log says why."
    )
