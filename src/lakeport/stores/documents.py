"""Configs and access lists as JSON documents, and back.

A document that an older Lakeport wrote lacks newer fields: they get their defaults.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from lakeport.auth.callers import AccessList, Level
from lakeport.runtimes.base import Kind
from lakeport.stores.records import ConfigRecord, EntityRecord, RouteRecord
from lakeport.wire.chat import Capabilities, ChatTarget, Operation, Task


def config_document(config: ConfigRecord) -> dict[str, Any]:
    return {
        **_shallow(config),
        "entities": [_entity_document(entity) for entity in config.entities],
        "routes": [_shallow(route) for route in config.routes],
    }


def config_record(document: Mapping[str, Any]) -> ConfigRecord:
    return ConfigRecord(
        **{
            **document,
            "entities": tuple(_entity_record(entity) for entity in document["entities"]),
            "routes": tuple(RouteRecord(**route) for route in document["routes"]),
        }
    )


def access_document(access: AccessList) -> dict[str, Any]:
    return {
        "users": {name: level.name for name, level in access.users.items()},
        "groups": {name: level.name for name, level in access.groups.items()},
    }


def access_list(document: Mapping[str, Mapping[str, str]]) -> AccessList:
    return AccessList(
        users={name: Level[level] for name, level in document["users"].items()},
        groups={name: Level[level] for name, level in document["groups"].items()},
    )


def _entity_document(entity: EntityRecord) -> dict[str, Any]:
    return {
        **_shallow(entity),
        "chat": asdict(entity.chat, dict_factory=_plain) if entity.chat else None,
    }


def _entity_record(document: Mapping[str, Any]) -> EntityRecord:
    return EntityRecord(
        **{
            **document,
            "kind": Kind(document.get("kind", Kind.MODEL)),
            "chat": _chat_target(document.get("chat")),
        }
    )


def _plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in pairs}


def _chat_target(document: Mapping[str, Any] | None) -> ChatTarget | None:
    if document is None:
        return None
    can = document.get("can")
    return ChatTarget(
        **{
            **document,
            "task": Task(document["task"]),
            "operations": frozenset(Operation(name) for name in document["operations"]),
            "can": Capabilities(**can) if can is not None else None,
        }
    )


def _shallow(record: EntityRecord | RouteRecord | ConfigRecord) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()
    }
