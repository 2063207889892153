"""What may be asked about serving endpoints: the implementation of `control.ports.EndpointsPort`.

Each method checks the caller's right, turns the request into a wish (`validation`, `updates`),
hands it to the reconciler, and shows the outcome (`views`). `reading` is the half that changes
nothing.
"""

import builtins
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lakeport.auth.callers import USERS, AccessList, Caller, Level
from lakeport.control import (
    chat_entities,
    event_words,
    permissions,
    references,
    updates,
    validation,
    views,
)
from lakeport.control.chat_entities import CATALOGUE_PREFIX, FixedTarget, Known, fixed_entity
from lakeport.control.ports import SecretsPort
from lakeport.control.reading import Reading, unknown
from lakeport.control.reconciler import Reconciler
from lakeport.control.resolution import Resolver, entity_record
from lakeport.control.validation import WishedConfig, WishedEntity
from lakeport.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Internal,
    InvalidParameter,
    QuotaExceeded,
)
from lakeport.models.base import ModelRegistry
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
from lakeport.telemetry.metrics import Metrics
from lakeport.wire import endpoints as wire
from lakeport.wire import permissions as acl


class Endpoints(Reading):
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
        known: Known,
        vault: SecretsPort,
    ) -> None:
        super().__init__(reconciler=reconciler, store=store, runtime=runtime, metrics=metrics)
        self._resolver = Resolver(registry, vault)
        self._now_ms = now_ms
        self._max_entities = max_entities
        self._max_endpoints = max_endpoints
        self._known = known
        self._vault = vault

    # --- changing ---------------------------------------------------------------------------

    async def create(self, caller: Caller, request: wire.CreateEndpoint) -> wire.EndpointDetailed:
        wish = validation.create(request, max_entities=self._max_entities, known=self._known)
        if self._reconciler.record(request.name) is not None:
            raise AlreadyExists(f"Serving endpoint with name {request.name} already exists.")
        self._require_room()
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
            references.require(self._vault, caller, wish)
            entities = await self._resolver.resolved(wish, None)
            record = updates.begin(record, entities, wish.routes, now=now, actor=caller.name)
        return self._shown(await self._create(record, caller.name), caller)

    async def update_config(
        self, caller: Caller, name: str, request: wire.CoreConfigInput
    ) -> wire.EndpointDetailed:
        record = self._changeable(caller, name, "update its config")
        if request.name is not None and request.name != name:
            raise InvalidParameter(f"name: '{request.name}' differs from the name in the path.")
        wish = validation.config(request, max_entities=self._max_entities, known=self._known)
        references.require(self._vault, caller, wish)
        # Refuse at once what the move would refuse, before asking the registry.
        updates.begin(record, (), (), now=0, actor="")
        entities = await self._resolver.resolved(wish, record.active)
        return await self._update(caller, record, entities, wish.routes)

    async def optimization_info(self, model: str, version: str) -> wire.OptimizationInfo:
        """What provisioned throughput a model can have: those of the catalogue any, others none.

        Raises NotFound for a catalogue model, or a version of one, that does not exist.
        """
        if not model.startswith(CATALOGUE_PREFIX):
            return wire.OptimizationInfo(optimizable=False)
        found = chat_entities.find(self._known.catalogue, model, "model")
        chat_entities.catalogue_version(version, model, "version")
        return wire.OptimizationInfo(
            optimizable=True, model_type=found.task, throughput_chunk_size=1
        )

    async def patch_tags(
        self, caller: Caller, name: str, request: wire.PatchTags
    ) -> wire.EndpointTags:
        found = self._changeable(caller, name, "change its tags")
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

        event = EventRecord(self._now_ms(), name, "tags", "Tags changed.", actor=caller.name)
        return wire.EndpointTags(tags=views.tags(await self._move(caller, found, change, event)))

    async def update_notifications(
        self, caller: Caller, name: str, request: wire.PatchNotifications
    ) -> wire.EndpointDetailed:
        found = self._changeable(caller, name, "change its notifications")
        notifications = _notifications(request.email_notifications)
        record = await self._move(
            caller,
            found,
            lambda r: replace(r, notifications=notifications, updated_at=self._now_ms()),
            EventRecord(
                self._now_ms(), name, "notifications", "Notifications changed.", actor=caller.name
            ),
        )
        return self._shown(record, caller)

    async def delete(self, caller: Caller, name: str) -> None:
        self._changeable(caller, name, "delete it")
        event = EventRecord(self._now_ms(), name, "deleted", "Deleted.", actor=caller.name)
        try:
            deleted = await self._reconciler.delete(name, event)
        except StoreError as problem:
            raise _not_stored() from problem
        if not deleted:
            raise unknown(name)
        self._metrics.forget(name)

    async def stop(self, caller: Caller, name: str) -> wire.EndpointDetailed:
        found = self._changeable(caller, name, "stop it")
        record = await self._move(
            caller,
            found,
            lambda r: updates.stop(r, now=self._now_ms()),
            EventRecord(self._now_ms(), name, "stopped", "Stopped.", actor=caller.name),
        )
        return self._shown(record, caller)

    async def start(self, caller: Caller, name: str) -> wire.EndpointDetailed:
        found = self._changeable(caller, name, "start it")
        record = await self._move(
            caller,
            found,
            lambda r: updates.start(r, now=self._now_ms(), actor=caller.name),
            EventRecord(self._now_ms(), name, "started", "Started.", actor=caller.name),
        )
        return self._shown(record, caller)

    # --- permissions ------------------------------------------------------------------------

    async def set_permissions(
        self, caller: Caller, id: str, request: acl.PermissionsRequest
    ) -> acl.ObjectPermissions:
        return await self._grant(caller, id, request, "Permissions set.", lambda old, new: new)

    async def update_permissions(
        self, caller: Caller, id: str, request: acl.PermissionsRequest
    ) -> acl.ObjectPermissions:
        return await self._grant(caller, id, request, "Permissions granted.", permissions.merged)

    async def _grant(
        self,
        caller: Caller,
        id: str,
        request: acl.PermissionsRequest,
        what: str,
        combine: Callable[[AccessList, AccessList], AccessList],
    ) -> acl.ObjectPermissions:
        record = self._find_id(id)
        permissions.require(record, caller, Level.CAN_MANAGE, "change its permissions")
        _refuse_fixed(record)
        access = permissions.parse(request.access_control_list or [])
        record = await self._move(
            caller,
            record,
            lambda r: replace(r, access=combine(r.access, access)),
            EventRecord(
                self._now_ms(),
                record.name,
                "permissions",
                what,  # not to whom: only who manages it may see that
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
            entities = await self._resolver.resolved(config, None)
        else:
            entities = (entity_record(wish, "1", "path", path),)
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
        told = event_words.update(entities, config.routes)
        await self._move(
            caller,
            record,
            lambda r: updates.supersede(r, entities, config.routes, now=now, actor=caller.name),
            EventRecord(now, name, "update_started", told, actor=caller.name),
        )

    async def pin(self, target: FixedTarget) -> None:
        """An endpoint that its operator named with `--chat` or `--embeddings`: it is not stored.

        Raises ApiError when the name is taken, or no such model is known.
        """
        validation.fixed_name(target.name)
        if self._reconciler.record(target.name) is not None:
            raise AlreadyExists(f"Serving endpoint with name {target.name} already exists.")
        access = AccessList(groups={USERS: Level.CAN_QUERY})
        record = self._of_one(fixed_entity(target, self._known), "system", access)
        self._reconciler.pin(replace(record, id=f"fixed-{target.name}", fixed=True))

    async def follow(self, record: EndpointRecord) -> bool:
        """Roll out what the aliases of an endpoint mean now; False when there is nothing to do.

        A version that failed to roll out is not tried again until the alias moves on. Raises
        ModelNotFound, RegistryUnavailable.
        """
        config = record.active or record.pending
        if config is None or self._resolver.registry is None:
            return False
        failed = record.pending.entities if record.pending else ()
        tried = {(e.name, e.entity_name, e.entity_version): e for e in failed}
        moved: builtins.list[str] = []
        entities: builtins.list[EntityRecord] = []
        for entity in config.entities:
            followed = entity
            if entity.entity_version.startswith("@"):
                found = await self._resolver.registry.resolve(
                    entity.entity_name, entity.entity_version
                )
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

    def _require_room(self) -> None:
        """Raises QuotaExceeded."""
        if len(self._reconciler.names()) >= self._max_endpoints:
            raise QuotaExceeded(
                f"The workspace has {self._max_endpoints} serving endpoints, as many as it may "
                "have. Delete one, or raise LAKEPORT_MAX_ENDPOINTS.",
                retry_after=60,
            )

    def _of_one(self, entity: EntityRecord, creator: str, access: AccessList) -> EndpointRecord:
        """A new endpoint named after its one entity, which is about to start."""
        now = self._now_ms()
        record = EndpointRecord(
            id=uuid.uuid4().hex,
            name=entity.name,
            creator=creator,
            created_at=now,
            updated_at=now,
            description=(entity.foundation or {}).get("description", ""),
            access=access,
        )
        routes = (RouteRecord(entity.name, 100),)
        return updates.begin(record, (entity,), routes, now=now, actor=creator)

    def _changeable(self, caller: Caller, name: str, action: str) -> EndpointRecord:
        record = self._managed(caller, name, action)
        _refuse_fixed(record)
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
        told = event_words.update(entities, routes)
        record = await self._move(
            caller,
            found,
            lambda r: updates.begin(r, entities, routes, now=now, actor=caller.name),
            EventRecord(now, found.name, "update_started", told, actor=caller.name),
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
                raise unknown(name)
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
            raise unknown(name)
        return record


def _refuse_fixed(record: EndpointRecord) -> None:
    if record.fixed:
        raise InvalidParameter(
            f"The serving endpoint '{record.name}' was made by a setting of the server (--chat or "
            "--embeddings) and lives as long as that; it cannot be changed through the API."
        )


def _same_models(config: ConfigRecord, entities: tuple[EntityRecord, ...]) -> bool:
    return [(e.model_key, e.path) for e in config.entities] == [
        (e.model_key, e.path) for e in entities
    ]


def _notifications(given: wire.EmailNotifications | None) -> dict[str, Any] | None:
    return given.model_dump(exclude_none=True) if given else None


def _not_stored() -> ApiError:
    return Internal(
        "The change could not be stored; nothing was changed. The server's log says why."
    )
