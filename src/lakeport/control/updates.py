"""The moves of an endpoint's record (docs/internals/rollout.md), as pure functions.

Each takes a record and returns the one to store. A move that is not allowed raises.
"""

from collections.abc import Mapping
from dataclasses import replace

from lakeport.errors import Conflict, InvalidState
from lakeport.stores.records import (
    ConfigRecord,
    ConfigUpdate,
    EndpointRecord,
    EntityRecord,
    RouteRecord,
)


def begin(
    record: EndpointRecord,
    entities: tuple[EntityRecord, ...],
    routes: tuple[RouteRecord, ...],
    *,
    now: int,
    actor: str,
) -> EndpointRecord:
    """Wish for a new config. Raises Conflict during an update, InvalidState when stopped."""
    if record.update is ConfigUpdate.IN_PROGRESS:
        raise Conflict(
            f"The serving endpoint '{record.name}' is being updated. Wait until the update has "
            "ended before starting another."
        )
    if record.stopped:
        raise InvalidState(
            f"The serving endpoint '{record.name}' is stopped. Start it before updating its config."
        )
    version = record.last_version + 1
    config = ConfigRecord(
        version=version,
        entities=tuple(_carried(record.active, entity, version, now, actor) for entity in entities),
        routes=routes,
        created_at=now,
        created_by=actor,
    )
    return replace(
        record,
        pending=config,
        failures={},
        update=ConfigUpdate.IN_PROGRESS,
        last_version=version,
        updated_at=now,
    )


def supersede(
    record: EndpointRecord,
    entities: tuple[EntityRecord, ...],
    routes: tuple[RouteRecord, ...],
    *,
    now: int,
    actor: str,
) -> EndpointRecord:
    """Wish for a new config in place of whatever is under way. A stopped endpoint starts with it,
    as `start` would have it do with its last one."""
    idle = replace(record, update=ConfigUpdate.NOT_UPDATING, stopped=False)
    begun = begin(idle, entities, routes, now=now, actor=actor)
    return replace(begun, stopped=record.stopped)


#: What an update changes of a deployment that runs: how many replicas it may have.
_SIZE = ("workload_size", "min_concurrency", "max_concurrency", "scale_to_zero")


def _carried(
    active: ConfigRecord | None, entity: EntityRecord, version: int, now: int, actor: str
) -> EntityRecord:
    """`entity` with the identity of the active one that it equals but for its size, so that its
    replicas stay."""
    for old in active.entities if active else ():
        same = replace(
            entity,
            since_version=old.since_version,
            created_at=old.created_at,
            creator=old.creator,
        )
        size = {field: getattr(same, field) for field in _SIZE}
        if replace(old, **size) == same:
            return same
    return replace(entity, since_version=version, created_at=now, creator=actor)


def promote(record: EndpointRecord, *, now: int) -> EndpointRecord:
    """The pending config answers from now on."""
    if record.update is not ConfigUpdate.IN_PROGRESS or record.pending is None:
        raise ValueError("nothing to promote")
    return replace(
        record,
        active=record.pending,
        pending=None,
        failures={},
        update=ConfigUpdate.NOT_UPDATING,
        stopped=False,
        updated_at=now,
    )


def fail(record: EndpointRecord, failures: Mapping[str, str], *, now: int) -> EndpointRecord:
    """The pending config cannot serve; it stays to be read, with why."""
    if record.update is not ConfigUpdate.IN_PROGRESS or record.pending is None:
        raise ValueError("nothing to fail")
    return replace(
        record, failures=dict(failures), update=ConfigUpdate.UPDATE_FAILED, updated_at=now
    )


def stop(record: EndpointRecord, *, now: int) -> EndpointRecord:
    """Answer nothing until it is started again."""
    if record.update is ConfigUpdate.IN_PROGRESS:
        raise Conflict(
            f"The serving endpoint '{record.name}' is being updated. Wait until the update has "
            "ended before stopping it."
        )
    if record.active is None:
        raise InvalidState(
            f"The serving endpoint '{record.name}' has no config that serves; there is nothing to "
            "stop."
        )
    if record.stopped:
        raise InvalidState(f"The serving endpoint '{record.name}' is stopped already.")
    return replace(
        record,
        stopped=True,
        pending=None,
        failures={},
        update=ConfigUpdate.NOT_UPDATING,
        updated_at=now,
    )


def start(record: EndpointRecord, *, now: int, actor: str) -> EndpointRecord:
    """Serve the last config again, as a new version of it."""
    if record.active is None or not record.stopped or record.update is ConfigUpdate.IN_PROGRESS:
        raise InvalidState(
            f"The serving endpoint '{record.name}' is not stopped; there is nothing to start."
        )
    version = record.last_version + 1
    config = replace(
        record.active,
        version=version,
        entities=tuple(replace(e, since_version=version) for e in record.active.entities),
        created_at=now,
        created_by=actor,
    )
    return replace(
        record,
        pending=config,
        failures={},
        update=ConfigUpdate.IN_PROGRESS,
        last_version=version,
        updated_at=now,
    )
