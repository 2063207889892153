"""Configs and access lists as JSON documents, and back.

A document that an older Lakeport wrote lacks newer fields: they get their defaults.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lakeport.auth.callers import AccessList, Level
from lakeport.stores.records import ConfigRecord, EntityRecord, RouteRecord


def config_document(config: ConfigRecord) -> dict[str, Any]:
    return {
        **_shallow(config),
        "entities": [_shallow(entity) for entity in config.entities],
        "routes": [_shallow(route) for route in config.routes],
    }


def config_record(document: Mapping[str, Any]) -> ConfigRecord:
    return ConfigRecord(
        **{
            **document,
            "entities": tuple(EntityRecord(**entity) for entity in document["entities"]),
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


def _shallow(record: EntityRecord | RouteRecord | ConfigRecord) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()
    }
