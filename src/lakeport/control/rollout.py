"""What to do next for one endpoint: docs/internals/rollout.md as a pure function."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from lakeport.serving.routes import Condition, EndpointRoute, Share
from lakeport.stores.records import ConfigRecord, ConfigUpdate, EndpointRecord, EntityRecord


class Phase(Enum):
    """Where a deployment is."""

    STARTING = "starting"
    #: Every replica that was asked for has answered, and one of them does now.
    READY = "ready"
    #: It was ready before; none of its replicas answers now.
    RECOVERING = "recovering"
    #: It was never ready, and a start has failed.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Observed:
    phase: Phase
    #: Why the last start failed, or the last replica ended; "" if none did.
    message: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One look's decisions, to be done in the order of the fields."""

    start: tuple[EntityRecord, ...] = ()
    promote: bool = False
    #: Served entity name to reason; not empty: the update has failed.
    failures: Mapping[str, str] = field(default_factory=dict)
    retire: tuple[str, ...] = ()


def deployment_id(record_id: str, entity: EntityRecord) -> str:
    """Names a deployment for the life of the workspace."""
    return deployment_name(record_id, entity.name, entity.since_version)


def deployment_name(record_id: str, entity: str, since_version: int) -> str:
    """The same, of an entity that may be gone."""
    return f"{record_id}.{entity}.v{since_version}"


def wanted(record: EndpointRecord) -> dict[str, EntityRecord]:
    """The deployments that should run, by id.

    One of both configs is the active one's until the other is promoted: only its size may differ.
    """
    configs: list[ConfigRecord] = []
    if record.active is not None and not record.stopped:
        configs.append(record.active)
    if record.pending is not None and record.update is ConfigUpdate.IN_PROGRESS:
        configs.append(record.pending)
    wish: dict[str, EntityRecord] = {}
    for config in configs:
        for entity in config.entities:
            wish.setdefault(deployment_id(record.id, entity), entity)
    return wish


def decide(record: EndpointRecord, observed: Mapping[str, Observed]) -> Step:
    """What to do, given what is stored and what runs.

    `retire` names only what the record as given does not want; after a promotion or a failure the
    caller looks again.
    """
    wish = wanted(record)
    start = tuple(entity for id, entity in wish.items() if id not in observed)
    retire = tuple(id for id in observed if id not in wish)
    promote, failures = False, {}
    if record.update is ConfigUpdate.IN_PROGRESS and record.pending is not None:
        phases = {
            entity.name: observed.get(deployment_id(record.id, entity))
            for entity in record.pending.entities
        }
        serving = record.active.entities if record.active and not record.stopped else ()
        ids = {deployment_id(record.id, entity) for entity in serving}
        kept = {e.name for e in record.pending.entities if deployment_id(record.id, e) in ids}
        failures = {
            name: state.message
            for name, state in phases.items()
            if state is not None and state.phase is Phase.FAILED and name not in kept
        }
        # A deployment that the active config has too is not what this update changes, but for its
        # size: it may be recovering, and must not hold up the change of its neighbours.
        promote = not failures and all(
            name in kept or (state is not None and state.phase is Phase.READY)
            for name, state in phases.items()
        )
    return Step(start=start, promote=promote, failures=failures, retire=retire)


def news(before: Mapping[str, Observed], now: Mapping[str, Observed]) -> list[tuple[str, str, str]]:
    """Deployments that no longer answer or do so again: id, kind of event, message."""
    found = []
    for id, observed in now.items():
        match before[id].phase if id in before else None, observed.phase:
            case Phase.READY, Phase.RECOVERING:
                kind, message = "unavailable", "No replica of it answers."
            case Phase.RECOVERING, Phase.READY:
                kind, message = "recovered", "A replica of it answers again."
            case _:
                continue
        found.append((id, kind, message))
    return found


def route(record: EndpointRecord) -> EndpointRoute:
    """What the front should know of an endpoint."""
    if record.active is not None and not record.stopped:
        shares = {entry.entity: entry.percentage for entry in record.active.routes}
        return EndpointRoute(
            record.name,
            Condition.SERVING,
            record.access,
            tuple(
                Share(
                    entity.name,
                    deployment_id(record.id, entity),
                    shares.get(entity.name, 0),
                    entity.chat,
                )
                for entity in record.active.entities
            ),
        )
    if record.update is ConfigUpdate.IN_PROGRESS:
        return EndpointRoute(record.name, Condition.STARTING, record.access)
    if record.update is ConfigUpdate.UPDATE_FAILED:
        reason = "; ".join(f"{name}: {why}" for name, why in record.failures.items())
        return EndpointRoute(record.name, Condition.FAILED, record.access, reason=reason)
    nothing = Condition.STOPPED if record.stopped else Condition.EMPTY
    return EndpointRoute(record.name, nothing, record.access)
