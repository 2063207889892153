"""Serving endpoints of the SDK that also answer what people expect of them.

endpoint.serving_endpoint_url         the base to which `/invocations` is added
endpoint.state == "READY"             and `endpoint.state.ready`, as before
dict(endpoint.tags)                   and a list of EndpointTag, as before
endpoint.config.served_models         also where the server sends served entities only
endpoint.config.traffic_config        also where the server leaves it out
"""

from collections.abc import Callable, Iterator
from typing import Any, SupportsIndex, overload

from databricks.sdk.service.serving import (
    EndpointCoreConfigOutput,
    EndpointCoreConfigSummary,
    EndpointState,
    EndpointStateConfigUpdate,
    EndpointStateReady,
    EndpointTag,
    Route,
    ServedEntityOutput,
    ServedEntitySpec,
    ServedModelOutput,
    ServedModelSpec,
    ServingEndpoint,
    ServingEndpointDetailed,
    TrafficConfig,
)

#: What a served entity and a served model have in common.
_SHARED = (
    "name",
    "creator",
    "creation_timestamp",
    "environment_vars",
    "instance_profile_arn",
    "max_provisioned_concurrency",
    "min_provisioned_concurrency",
    "scale_to_zero_enabled",
    "state",
    "workload_size",
    "workload_type",
)
#: Parts of a config that a list leaves out.
_DETAILS = frozenset({"auto_capture_config", "config_version", "traffic_config"})


class State(str):
    """An EndpointState that is also its `ready`, as text: "READY" or "NOT_READY"."""

    __slots__ = ("_state",)
    _state: EndpointState

    def __new__(cls, state: EndpointState) -> "State":
        self = super().__new__(cls, state.ready.value if state.ready else "NOT_READY")
        self._state = state
        return self

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """Code that asks `isinstance(endpoint.state, EndpointState)` is right, too."""
        return EndpointState

    def __reduce__(self) -> tuple[Any, ...]:
        return State, (self._state,)

    @property
    def ready(self) -> EndpointStateReady | None:
        return self._state.ready

    @property
    def config_update(self) -> EndpointStateConfigUpdate | None:
        return self._state.config_update

    def __getattr__(self, name: str) -> Any:
        """`as_dict` and whatever else an EndpointState has."""
        return getattr(self._state, name)


class Tags(list[EndpointTag]):
    """Tags as the SDK has them, which `dict` turns into key and value."""

    def keys(self) -> Iterator[str]:
        return (tag.key for tag in self)

    @overload
    def __getitem__(self, at: SupportsIndex) -> EndpointTag: ...
    @overload
    def __getitem__(self, at: slice) -> list[EndpointTag]: ...
    @overload
    def __getitem__(self, at: str) -> str | None: ...
    def __getitem__(self, at: Any) -> Any:
        if not isinstance(at, str):
            return super().__getitem__(at)
        for tag in self:
            if tag.key == at:
                return tag.value
        raise KeyError(at)


class Endpoint(ServingEndpointDetailed):
    """One endpoint, with all its details."""

    serving_endpoint_url: str
    state: State  # type: ignore[assignment]
    tags: Tags


class ListedEndpoint(ServingEndpoint):
    """One of a list."""

    serving_endpoint_url: str
    state: State  # type: ignore[assignment]
    tags: Tags
    config: "ListedConfig | None"


class ListedConfig(EndpointCoreConfigSummary):
    """The config in a list: what the list leaves out is fetched when it is asked for."""

    _details: Callable[[], EndpointCoreConfigOutput | None] = staticmethod(lambda: None)

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process has what the list said."""
        return {name: value for name, value in vars(self).items() if name != "_details"}

    def __getattr__(self, name: str) -> Any:
        if name not in _DETAILS:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        return getattr(self._details(), name, None)


def endpoint(shown: ServingEndpointDetailed, host: str) -> Endpoint:
    """The endpoint as GET shows it. `host` has no slash at the end."""
    found = Endpoint(**vars(shown))
    _answer(found, _url(found.name, found.endpoint_url, host))
    if found.config is not None:
        _complete(found.config)
    return found


def listed(
    shown: ServingEndpoint, host: str, details: Callable[[str], ServingEndpointDetailed]
) -> ListedEndpoint:
    """One item of a list. `details` fetches an endpoint by its name."""
    found = ListedEndpoint(**vars(shown))
    _answer(found, _url(found.name, None, host))
    if found.config is not None:
        entities = found.config.served_entities or []
        models = found.config.served_models or [_listed_model(entity) for entity in entities]
        found.config = config = ListedConfig(served_entities=entities, served_models=models)
        name = found.name or ""
        config._details = lambda: details(name).config
    return found


def _answer(found: Endpoint | ListedEndpoint, url: str) -> None:
    found.serving_endpoint_url = url
    shown: Any = found  # still with the SDK's state and tags
    found.tags = Tags(shown.tags or [])
    found.state = State(shown.state or EndpointState())


def _url(name: str | None, own: str | None, host: str) -> str:
    """`own`: where a route-optimised endpoint is asked, with `/invocations` at its end."""
    return own.removesuffix("/invocations") if own else f"{host}/serving-endpoints/{name}"


def _complete(config: EndpointCoreConfigOutput) -> None:
    entities = config.served_entities or []
    if not config.served_models:
        config.served_models = [_model(entity) for entity in entities]
    if config.traffic_config is None:
        # Left out for foundation models. How several would share it cannot be known.
        whole = [Route(traffic_percentage=100, served_model_name=entities[0].name)]
        config.traffic_config = TrafficConfig(routes=whole if len(entities) == 1 else [])
    for route in config.traffic_config.routes or []:
        name = route.served_model_name or route.served_entity_name
        route.served_model_name = route.served_entity_name = name


def _model(entity: ServedEntityOutput) -> ServedModelOutput:
    shared = {name: getattr(entity, name) for name in _SHARED}
    return ServedModelOutput(
        model_name=_model_name(entity),
        model_version=entity.entity_version,
        **shared,
    )


def _listed_model(entity: ServedEntitySpec) -> ServedModelSpec:
    return ServedModelSpec(
        name=entity.name, model_name=_model_name(entity), model_version=entity.entity_version
    )


def _model_name(entity: ServedEntityOutput | ServedEntitySpec) -> str | None:
    for named in (entity.foundation_model, entity.external_model):
        if entity.entity_name is None and named is not None:
            return named.name
    return entity.entity_name
