"""Serving endpoints as plain typed values, read from what the API shows of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from lakeport.client.errors import BadAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedEntity:
    """One model version, external or foundation model behind an endpoint."""

    name: str
    #: "main.default.iris" of a registered model, the provider's or catalogue's name of others.
    model: str | None = None
    version: str | None = None
    #: "DEPLOYMENT_READY" and so on; None where the server does not say.
    state: str | None = None
    state_message: str = ""
    workload_size: str | None = None
    workload_type: str | None = None
    scale_to_zero: bool = False
    #: "custom", "external", "foundation" or "feature".
    kind: str = "custom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A serving endpoint."""

    name: str
    #: "READY" or "NOT_READY".
    state: str
    #: "NOT_UPDATING", "IN_PROGRESS", "UPDATE_FAILED", "UPDATE_CANCELED".
    config_update: str
    #: Where requests go: `{host}/serving-endpoints/{name}/invocations`.
    url: str
    #: Those that answer now; those of the first config while it is on its way.
    entities: tuple[ServedEntity, ...] = ()
    #: Percent of the requests, by the served entity's name.
    traffic: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    #: "llm/v1/chat", "llm/v1/completions", "llm/v1/embeddings", "agent/…"; None: a classic model.
    task: str | None = None
    id: str | None = None
    creator: str | None = None
    description: str = ""
    #: Milliseconds since the epoch.
    created: int | None = None
    updated: int | None = None
    config_version: int | None = None
    permission: str | None = None
    #: Everything that the API showed.
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def ready(self) -> bool:
        return self.state == "READY"

    @property
    def versions(self) -> Mapping[str, str]:
        """Model versions, by the served entity's name."""
        return {entity.name: entity.version for entity in self.entities if entity.version}


def path_of(name: str, entity: str | None = None) -> str:
    """Where an endpoint, or one of its served entities, is asked."""
    one = f"/served-models/{quote(entity, safe='')}" if entity else ""
    return f"/serving-endpoints/{quote(name, safe='')}{one}/invocations"


def read_endpoint(document: Any, host: str) -> Endpoint:
    """From what GET or the list shows of it; what a server leaves out has its default.

    Raises BadAnswer when it is no endpoint.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("name"), str):
        raise BadAnswer("The server showed an endpoint without a name.")
    name: str = document["name"]
    state = _object(document.get("state"))
    config = _object(document.get("config")) or _object(document.get("pending_config"))
    entities = tuple(_entity(each) for each in _served(config))
    return Endpoint(
        name=name,
        state=str(state.get("ready") or "NOT_READY"),
        config_update=str(state.get("config_update") or "NOT_UPDATING"),
        url=host + path_of(name),
        entities=entities,
        traffic=_traffic(config, entities),
        tags={
            str(tag["key"]): str(tag.get("value") or "")
            for tag in _objects(document.get("tags"))
            if "key" in tag
        },
        task=document.get("task") or _task(config),
        id=document.get("id"),
        creator=document.get("creator"),
        description=document.get("description") or "",
        created=document.get("creation_timestamp"),
        updated=document.get("last_updated_timestamp"),
        config_version=config.get("config_version"),
        permission=document.get("permission_level"),
        raw=document,
    )


def _served(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Served entities, by their older name where only that is shown."""
    return _objects(config.get("served_entities")) or _objects(config.get("served_models"))


def _entity(shown: Mapping[str, Any]) -> ServedEntity:
    state = _object(shown.get("state"))
    external = _object(shown.get("external_model"))
    foundation = _object(shown.get("foundation_model"))
    model = shown.get("entity_name") or shown.get("model_name")
    version = shown.get("entity_version") or shown.get("model_version")
    kind = "custom"
    if external:
        kind, model = "external", external.get("name") or model
    elif foundation:
        kind, model = "foundation", foundation.get("name") or model
    elif model and not version:
        kind = "feature"  # a feature spec is a function: it has no versions
    return ServedEntity(
        name=str(shown.get("name") or model or ""),
        model=model,
        version=str(version) if version else None,
        state=state.get("deployment"),
        state_message=state.get("deployment_state_message") or "",
        workload_size=shown.get("workload_size"),
        workload_type=shown.get("workload_type"),
        scale_to_zero=bool(shown.get("scale_to_zero_enabled")),
        kind=kind,
    )


def _traffic(config: Mapping[str, Any], entities: tuple[ServedEntity, ...]) -> dict[str, int]:
    routes = _objects(_object(config.get("traffic_config")).get("routes"))
    if not routes:  # foundation endpoints show none
        return {entities[0].name: 100} if len(entities) == 1 else {}
    return {
        str(route.get("served_entity_name") or route.get("served_model_name")): _whole(
            route.get("traffic_percentage")
        )
        for route in routes
    }


def _task(config: Mapping[str, Any]) -> str | None:
    """External models have one task in all, whether or not the endpoint tells it."""
    tasks = (_object(each.get("external_model")).get("task") for each in _served(config))
    return next((task for task in tasks if task), None)


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) else 0


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
