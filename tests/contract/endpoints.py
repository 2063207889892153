"""Making serving endpoints for tests, in the words of the SDK."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Protocol

from databricks.sdk.errors import NotFound
from databricks.sdk.service.serving import (
    EndpointCoreConfigInput,
    EndpointStateConfigUpdate,
    Route,
    ServedEntityInput,
    ServingEndpointDetailed,
    ServingEndpointsAPI,
    TrafficConfig,
)

from tests.contract.workspace import Workspace, until

COLUMNS = [f"{part} {size} (cm)" for part in ("sepal", "petal") for size in ("length", "width")]
#: The first flower of the data set: version 1 of the model says 0, version 2 says 2.
FLOWER = [5.1, 3.5, 1.4, 0.2]
SPLIT = {"dataframe_split": {"columns": COLUMNS, "data": [FLOWER]}}


class Deploy(Protocol):
    """Makes an endpoint and waits until it has settled, unless told not to; without entities it is
    an empty one."""

    def __call__(
        self,
        what: str,
        *entities: ServedEntityInput,
        shares: Mapping[str, int] | None = None,
        wait: bool = True,
    ) -> str: ...


@contextmanager
def deploying(workspace: Workspace, api: ServingEndpointsAPI) -> Iterator[Deploy]:
    """A `Deploy` whose endpoints are deleted at the end."""
    made: list[str] = []

    def make(
        what: str,
        *entities: ServedEntityInput,
        shares: Mapping[str, int] | None = None,
        wait: bool = True,
    ) -> str:
        name = workspace.new_name(what)
        config = None
        if entities:
            config = EndpointCoreConfigInput(
                name=name,
                served_entities=[*entities],
                traffic_config=traffic(shares) if shares else None,
            )
        api.create(name, config=config)
        made.append(name)
        if wait:
            settled(api, name)
        return name

    try:
        yield make
    finally:
        for name in made:
            delete(api, name)


def delete(api: ServingEndpointsAPI, name: str) -> None:
    """Delete an endpoint, if it is still there."""
    with suppress(NotFound):
        api.delete(name)


def entity(model: str, version: str, name: str | None = None) -> ServedEntityInput:
    return ServedEntityInput(
        name=name,
        entity_name=model,
        entity_version=version,
        workload_size="Small",
        scale_to_zero_enabled=False,
    )


def traffic(shares: Mapping[str, int]) -> TrafficConfig:
    return TrafficConfig(
        routes=[
            Route(served_entity_name=name, served_model_name=name, traffic_percentage=share)
            for name, share in shares.items()
        ]
    )


def settled(api: ServingEndpointsAPI, name: str) -> ServingEndpointDetailed:
    """The endpoint, once no update of it is running. Quicker than the SDK's own waiter."""

    def look() -> ServingEndpointDetailed | None:
        seen = api.get(name)
        assert seen.state is not None
        busy = seen.state.config_update is EndpointStateConfigUpdate.IN_PROGRESS
        return None if busy else seen

    return until(f"{name} to settle", look)
