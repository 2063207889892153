"""Records and what runs for them, in Databricks' words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lakeport.auth.callers import Caller
from lakeport.runtimes.base import Kind
from lakeport.stores.records import ConfigRecord, ConfigUpdate, EndpointRecord, EntityRecord
from lakeport.wire import endpoints as wire
from lakeport.wire.external_models import PLAINTEXT


@dataclass(frozen=True, slots=True)
class Running:
    """What is seen of one served entity's deployment."""

    live: int
    #: No replica is needed: the next request starts one, or has done so.
    at_zero: bool
    was_ready: bool
    message: str
    #: What the model says of its task; None where it says nothing.
    task: str | None = None


AT_ZERO = "Scaled to zero: the next request starts a replica."
#: Looks up what runs for an entity of an endpoint; None when nothing does.
Look = Callable[[EntityRecord], Running | None]


def detailed(record: EndpointRecord, caller: Caller, look: Look) -> wire.EndpointDetailed:
    """The whole endpoint, as GET shows it."""
    level = record.access.level_of(caller)
    config = pending = None
    if record.active is not None:
        config = _config(record.active, lambda e: _active_state(record, e, look(e)))
    if record.pending is not None:
        shown = _config(record.pending, lambda e: _pending_state(record, e, look(e)))
        pending = wire.PendingConfig(**dict(shown), start_time=record.pending.created_at)
    return wire.EndpointDetailed(
        id=None if record.fixed else record.id,
        name=record.name,
        creator=record.creator,
        creation_timestamp=record.created_at,
        last_updated_timestamp=record.updated_at,
        description=record.description,
        task=_task(record, look),
        route_optimized=False,
        permission_level=level.name if level else "",
        state=state(record, look),
        config=config,
        pending_config=pending,
        tags=tags(record),
        email_notifications=(
            wire.EmailNotifications.model_validate(record.notifications)
            if record.notifications
            else None
        ),
        budget_policy_id=record.budget_policy_id,
    )


def summary(record: EndpointRecord, look: Look) -> wire.EndpointSummary:
    """The endpoint in a list: no sizes, no traffic."""
    config = None
    shown = record.active or record.pending
    if shown is not None:
        entities = _sorted(shown)
        config = wire.ConfigSummary(
            served_entities=[
                wire.EntitySummary.model_validate({"name": e.name} | _model(e)) for e in entities
            ],
            served_models=[
                wire.ModelSummary(
                    name=e.name, model_name=e.entity_name, model_version=e.entity_version
                )
                for e in entities
                if _is_hosted(e)
            ],
        )
    return wire.EndpointSummary(
        id=None if record.fixed else record.id,
        name=record.name,
        creator=record.creator,
        creation_timestamp=record.created_at,
        last_updated_timestamp=record.updated_at,
        description=record.description,
        task=_task(record, look),
        state=state(record, look),
        config=config,
        tags=tags(record),
        budget_policy_id=record.budget_policy_id,
    )


def state(record: EndpointRecord, look: Look) -> wire.EndpointState:
    """Ready means: every served entity that has traffic has a replica that answers, or needs none
    until it is asked."""
    ready = record.active is not None and not record.stopped
    if ready and record.active is not None:
        shares = {route.entity: route.percentage for route in record.active.routes}
        for entity in record.active.entities:
            running = look(entity)
            if shares.get(entity.name) and not _answers(running):
                ready = False
    return wire.EndpointState(
        ready=wire.Ready.READY if ready else wire.Ready.NOT_READY,
        config_update=record.update.value,
    )


def tags(record: EndpointRecord) -> list[wire.EndpointTag]:
    return [wire.EndpointTag(key=key, value=value) for key, value in sorted(record.tags.items())]


def _task(record: EndpointRecord, look: Look) -> str | None:
    """The one task of all served entities, as far as it is known."""
    shown = record.active or record.pending
    for entity in shown.entities if shown else ():
        if entity.chat is not None:
            return entity.chat.task
        running = look(entity)
        if running is not None and running.task is not None:
            return running.task
    return None


def _is_hosted(entity: EntityRecord) -> bool:
    """Whether it is shown with the fields of hosted models, and in the older `served_models`."""
    return entity.kind not in (Kind.EXTERNAL, Kind.SCRIPTED) and entity.foundation is None


def _model(entity: EntityRecord) -> dict[str, Any]:
    """What is served, in the fields of its kind."""
    shown: dict[str, Any] = {}
    if entity.foundation is not None:
        shown["foundation_model"] = dict(entity.foundation)
    if entity.kind is Kind.EXTERNAL and entity.external is not None and entity.foundation is None:
        shown["external_model"] = external_model(entity.external)
    if entity.entity_name:
        shown["entity_name"] = entity.entity_name
    if entity.entity_version:
        shown["entity_version"] = entity.entity_version
    return shown


def external_model(stored: Mapping[str, Any]) -> dict[str, Any]:
    """`external_model` to show: what was given in plain text is never shown again."""
    return {
        name: external_model(value) if isinstance(value, Mapping) else value
        for name, value in stored.items()
        if not name.endswith(PLAINTEXT)
    }


def _sorted(config: ConfigRecord) -> list[EntityRecord]:
    return sorted(config.entities, key=lambda entity: entity.name)


def _config(
    config: ConfigRecord, state_of: Callable[[EntityRecord], wire.EntityState]
) -> wire.CoreConfig:
    entities, models = [], []
    for entity in _sorted(config):
        common: dict[str, Any] = {
            "name": entity.name,
            "creator": entity.creator,
            "creation_timestamp": entity.created_at,
            "state": state_of(entity),
        }
        if _is_hosted(entity):
            common |= {
                "workload_type": entity.workload_type,
                "workload_size": entity.workload_size,
                "scale_to_zero_enabled": entity.scale_to_zero,
                "min_provisioned_concurrency": entity.min_concurrency,
                "max_provisioned_concurrency": entity.max_concurrency,
                "environment_vars": dict(entity.environment) or None,
            }
        entities.append(
            wire.ServedEntity.model_validate(common | _model(entity) | dict(entity.provisioned))
        )
        if _is_hosted(entity):
            models.append(
                wire.ServedModel.model_validate(
                    common
                    | {"model_name": entity.entity_name, "model_version": entity.entity_version}
                )
            )
    return wire.CoreConfig(
        config_version=config.version,
        served_entities=entities,
        served_models=models,
        traffic_config=wire.Traffic(
            routes=[
                wire.TrafficRoute(
                    served_entity_name=route.entity,
                    served_model_name=route.entity,
                    traffic_percentage=route.percentage,
                )
                for route in config.routes
            ]
        ),
    )


def _active_state(
    record: EndpointRecord, entity: EntityRecord, running: Running | None
) -> wire.EntityState:
    if record.stopped:
        return wire.EntityState(
            deployment=wire.Deployment.ABORTED, deployment_state_message="Stopped."
        )
    if running is not None and _answers(running):
        message = AT_ZERO if running.at_zero else _followed(entity)
        return wire.EntityState(deployment=wire.Deployment.READY, deployment_state_message=message)
    return wire.EntityState(
        deployment=wire.Deployment.RECOVERING,
        deployment_state_message=running.message
        if running and running.message
        else "Starting again.",
    )


def _pending_state(
    record: EndpointRecord, entity: EntityRecord, running: Running | None
) -> wire.EntityState:
    if record.update is ConfigUpdate.UPDATE_FAILED:
        reason = record.failures.get(entity.name)
        if reason is not None:
            return wire.EntityState(
                deployment=wire.Deployment.FAILED, deployment_state_message=reason
            )
        if record.active is not None and entity in record.active.entities:
            return _active_state(record, entity, running)
        return wire.EntityState(
            deployment=wire.Deployment.ABORTED,
            deployment_state_message="Another served entity of this config failed.",
        )
    if running is not None and running.was_ready and _answers(running):
        return wire.EntityState(deployment=wire.Deployment.READY, deployment_state_message="")
    return wire.EntityState(
        deployment=wire.Deployment.CREATING,
        deployment_state_message=running.message if running and running.message else "Starting.",
    )


def _answers(running: Running | None) -> bool:
    return running is not None and (running.live > 0 or running.at_zero)


def _followed(entity: EntityRecord) -> str:
    """Which version an alias means now: `entity_version` shows the alias, as it was asked for."""
    if not entity.entity_version.startswith("@"):
        return ""
    return f"Serving version {entity.resolved_version}, which {entity.entity_version} names."
