"""Replies about serving endpoints as tables and lines, for people and pipes."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lakeport.cli.output import Output

Document = Mapping[str, Any]


def endpoints(out: Output, reply: Document) -> None:
    """The list of endpoints: one a line."""
    out.table(
        ("name", "ready", "update", "task", "serves"),
        [
            (
                found.get("name"),
                _state(found, "ready"),
                _state(found, "config_update"),
                found.get("task"),
                ", ".join(_model(entity) for entity in entities(found)),
            )
            for found in reply.get("endpoints", [])
        ],
    )


def endpoint(out: Output, found: Document) -> None:
    """One endpoint: its fields, then its served entities."""
    tags = ", ".join(_tag(tag) for tag in found.get("tags", []))
    out.fields(
        [
            ("name", found.get("name")),
            ("id", found.get("id")),
            ("ready", _state(found, "ready")),
            ("update", _state(found, "config_update")),
            ("task", found.get("task")),
            ("description", found.get("description")),
            ("creator", found.get("creator")),
            ("created", _time(found.get("creation_timestamp"))),
            ("updated", _time(found.get("last_updated_timestamp"))),
            ("url", found.get("endpoint_url")),
            ("tags", tags),
            ("permission", found.get("permission_level")),
        ]
    )
    rows = [*_rows("serves", found.get("config")), *_rows("pending", found.get("pending_config"))]
    if rows:
        out.gap()
        out.table(("config", "entity", "model", "traffic", "state", "message"), rows)


def permissions(out: Output, reply: Document) -> None:
    """Who may do what: one grant a line."""
    rows = [
        (
            entry.get("user_name")
            or entry.get("group_name")
            or entry.get("service_principal_name"),
            "group" if "group_name" in entry else "user" if "user_name" in entry else "principal",
            grant.get("permission_level"),
            "inherited" if grant.get("inherited") else "",
        )
        for entry in reply.get("access_control_list", [])
        for grant in entry.get("all_permissions", [])
    ]
    out.table(("principal", "kind", "level", "inherited"), rows)


def permission_levels(out: Output, reply: Document) -> None:
    levels = reply.get("permission_levels", [])
    out.table(
        ("level", "description"),
        [(level.get("permission_level"), level.get("description")) for level in levels],
    )


def tags(out: Output, reply: Document | Sequence[Document]) -> None:
    """Tags: `{"tags": [...]}` here, a bare list on some workspaces."""
    found = reply.get("tags", []) if isinstance(reply, Mapping) else reply
    out.table(("key", "value"), [(tag.get("key"), tag.get("value")) for tag in found])


def logs(out: Output, reply: Document) -> None:
    if text := str(reply.get("logs") or ""):
        out.text(text)


def nothing(out: Output, reply: Document) -> None:
    """For what is done without a word."""


def entities(found: Document) -> list[Document]:
    """The served entities that answer; those on their way where none does yet."""
    return of_config(found.get("config")) or of_config(found.get("pending_config"))


def of_config(config: Document | None) -> list[Document]:
    """The served entities of a config, whichever of its two names it has them under."""
    config = config or {}
    found: list[Document] = config.get("served_entities") or config.get("served_models") or []
    return found


def _rows(which: str, config: Document | None) -> Iterator[tuple[object, ...]]:
    routes = ((config or {}).get("traffic_config") or {}).get("routes") or []
    traffic = {
        route.get("served_entity_name") or route.get("served_model_name"): route for route in routes
    }
    for entity in of_config(config):
        percent = traffic.get(entity.get("name"), {}).get("traffic_percentage")
        yield (
            which,
            entity.get("name"),
            _model(entity),
            "" if percent is None else f"{percent}%",
            _state(entity, "deployment"),
            _state(entity, "deployment_state_message"),
        )


def _model(entity: Document) -> str:
    """What an entity serves: "iris 3", a provider's model, a foundation model."""
    outside, known = entity.get("external_model"), entity.get("foundation_model")
    if outside:
        return f"{outside.get('provider')}:{outside.get('name')}"
    name = entity.get("entity_name") or entity.get("model_name")
    if not name and known:
        return str(known.get("name") or known.get("display_name"))
    version = entity.get("entity_version") or entity.get("model_version")
    return f"{name} {version}" if version else str(name or entity.get("name"))


def _state(found: Document, field: str) -> str:
    return str((found.get("state") or {}).get(field) or "")


def _tag(tag: Document) -> str:
    return f"{tag.get('key')}={tag['value']}" if tag.get("value") else str(tag.get("key"))


def _time(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(" ", "seconds")
