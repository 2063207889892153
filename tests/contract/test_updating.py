"""Updating what an endpoint serves: no gap, one update at a time, and what follows an alias."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    OperationFailed,
    ResourceConflict,
    ResourceDoesNotExist,
)
from databricks.sdk.service.serving import (
    DataframeSplitInput,
    EndpointCoreConfigOutput,
    EndpointPendingConfig,
    EndpointStateConfigUpdate,
    EndpointStateReady,
    EndpointTag,
    ServedEntityInput,
    ServingEndpointsAPI,
)

from tests.contract.endpoints import (
    COLUMNS,
    FLOWER,
    SPLIT,
    Deploy,
    entity,
    settled,
    traffic,
)
from tests.contract.workspace import PATIENCE, Workspace, until

ENDPOINTS = "/api/2.0/serving-endpoints"


Serve = Callable[..., str]


@pytest.fixture(scope="module")
def serve(api: ServingEndpointsAPI, workspace: Workspace, deploy_shared: Deploy) -> Serve:
    """`serve("old", "new")`: the name of this module's endpoint, once it serves these.

    Tests share it, since most find it as they need it; all traffic goes to the first.
    """
    name = deploy_shared("moving", _entity(workspace, "old"))

    def serve(*wanted: str) -> str:
        config = api.get(name).config
        shares = {entity: 100 if entity == wanted[0] else 0 for entity in wanted}
        if _names(config) != sorted(wanted) or _shares(config) != shares:
            api.update_config(
                name,
                served_entities=[_entity(workspace, entity) for entity in wanted],
                traffic_config=traffic(shares),
            )
            settled(api, name)
        return name

    return serve


def _entity(workspace: Workspace, name: str) -> ServedEntityInput:
    """`old` or `new`: version 1 or 2 of the model."""
    return entity(workspace.iris.name, workspace.iris.versions[name == "new"], name)


def _asked(api: ServingEndpointsAPI, name: str) -> tuple[str | None, list[Any] | None]:
    answer = api.query(name, dataframe_split=DataframeSplitInput(columns=COLUMNS, data=[FLOWER]))
    return answer.served_model_name, answer.predictions


@pytest.mark.operation("update_config", "wait_get_serving_endpoint_not_updating")
def test_the_old_config_answers_until_the_new_one_does(
    api: ServingEndpointsAPI, workspace: Workspace, serve: Serve
) -> None:
    name = serve("old")
    before = api.get(name).config

    wait = api.update_config(name, served_entities=[_entity(workspace, "new")])
    seen = []
    during = api.get(name)
    while api.get(name).pending_config is not None:
        seen.append(_asked(api, name))
    after = wait.result(timeout=timedelta(seconds=PATIENCE))

    assert during.state is not None
    assert during.state.ready is EndpointStateReady.READY
    assert during.state.config_update is EndpointStateConfigUpdate.IN_PROGRESS
    assert _names(during.config) == ["old"]
    assert _names(during.pending_config) == ["new"]
    assert all(answer in (("old", [0]), ("new", [2])) for answer in seen)
    assert _names(after.config) == ["new"]
    assert _version(after.config) == _version(before) + 1
    assert _asked(api, name) == ("new", [2])


@pytest.mark.operation("update_config")
def test_update_config_and_wait_returns_when_the_new_config_answers(
    api: ServingEndpointsAPI, workspace: Workspace, serve: Serve
) -> None:
    name = serve("new")

    endpoint = api.update_config_and_wait(
        name,
        served_entities=[_entity(workspace, "old"), _entity(workspace, "new")],
        traffic_config=traffic({"old": 50, "new": 50}),
        timeout=timedelta(seconds=PATIENCE),
    )

    assert _names(endpoint.config) == ["new", "old"]
    # Neither is missed by chance: 2 in 2**60.
    answers = {str(_asked(api, name)) for _ in range(60)}
    assert answers == {str(("old", [0])), str(("new", [2]))}


@pytest.mark.operation("update_config")
@pytest.mark.lakeport  # Databricks has no such events
def test_a_change_of_traffic_alone_starts_nothing(
    api: ServingEndpointsAPI, http: httpx.Client, serve: Serve
) -> None:
    name = serve("old", "new")
    before = _kinds(http, name)

    serve("new", "old")
    answers = {_asked(api, name)[0] for _ in range(10)}

    assert answers == {"new"}
    after = _kinds(http, name)
    assert after["ready"] == before["ready"]
    assert after["update_succeeded"] == before["update_succeeded"] + 1


@pytest.mark.operation("update_config", "patch")
def test_an_update_during_an_update_is_a_conflict_and_tags_are_not(
    api: ServingEndpointsAPI, workspace: Workspace, serve: Serve
) -> None:
    name = serve("old")
    api.update_config(name, served_entities=[_entity(workspace, "new")])
    try:
        with pytest.raises(ResourceConflict) as refused:
            api.update_config(name, served_entities=[_entity(workspace, "old")])
        tagged = api.patch(name, add_tags=[EndpointTag(key="during")])
    finally:
        settled(api, name)

    assert refused.value.error_code == "RESOURCE_CONFLICT"
    assert [tag.key for tag in tagged.tags or []] == ["during"]


@pytest.mark.operation("update_config", "wait_get_serving_endpoint_not_updating")
def test_a_failed_update_leaves_the_old_config_serving(
    api: ServingEndpointsAPI, workspace: Workspace, serve: Serve
) -> None:
    if workspace.home is None:
        pytest.skip("the real workspace has no model that cannot be loaded")
    name = serve("new")

    with pytest.raises(OperationFailed, match="UPDATE_FAILED"):
        api.update_config_and_wait(
            name,
            served_entities=[entity("load_raises", "1", "broken")],
            timeout=timedelta(seconds=PATIENCE),
        )

    endpoint = api.get(name)
    assert endpoint.state is not None
    assert endpoint.state.ready is EndpointStateReady.READY
    assert _names(endpoint.config) == ["new"]
    assert endpoint.pending_config is not None
    (failed,) = endpoint.pending_config.served_entities or []
    assert failed.state is not None
    assert "the weights are not what they were" in (failed.state.deployment_state_message or "")
    assert _asked(api, name) == ("new", [2])


@pytest.mark.operation("update_config")
def test_an_update_is_refused_like_a_create(
    api: ServingEndpointsAPI, workspace: Workspace, iris: str
) -> None:
    known = _entity(workspace, "old")

    with pytest.raises(InvalidParameterValue, match="100"):
        api.update_config(iris, served_entities=[known], traffic_config=traffic({"old": 99}))
    with pytest.raises((ResourceDoesNotExist, BadRequest), match="77"):
        api.update_config(iris, served_entities=[entity(workspace.iris.name, "77")])
    with pytest.raises(ResourceDoesNotExist):
        api.update_config(workspace.new_name("unknown"), served_entities=[known])

    assert _version(api.get(iris).config) == 1


@pytest.mark.operation("alias")
@pytest.mark.lakeport  # Databricks takes numbers only
def test_an_alias_is_followed_when_it_moves(
    api: ServingEndpointsAPI, http: httpx.Client, deploy: Deploy
) -> None:
    name = deploy("alias", entity("iris", "@champion", "best"))
    assert _asked(api, name) == ("best", [0])

    moved = http.post(
        "/api/2.0/mlflow/registered-models/alias",
        json={"name": "iris", "alias": "champion", "version": "2"},
    )
    try:
        assert moved.status_code == 200
        until("the alias to be followed", lambda: _asked(api, name) == ("best", [2]))
        settled(api, name)

        events = http.get("/api/2.0/lakeport/events", params={"endpoint": name}).json()["events"]
        (event,) = (event for event in events if event["kind"] == "alias_moved")
        assert "iris@champion is version 2 now (was 1)" in event["message"]
        (shown,) = http.get(f"{ENDPOINTS}/{name}").json()["config"]["served_entities"]
        assert shown["entity_version"] == "@champion"
    finally:
        http.post(
            "/api/2.0/mlflow/registered-models/alias",
            json={"name": "iris", "alias": "champion", "version": "1"},
        )


@pytest.mark.operation("config:stop", "config:start")
def test_a_stopped_endpoint_refuses_until_it_is_started(
    api: ServingEndpointsAPI, http: httpx.Client, workspace: Workspace, serve: Serve
) -> None:
    name = serve("new")
    version = _version(api.get(name).config)

    stopped = http.post(f"{ENDPOINTS}/{name}/config:stop")
    refused = http.post(f"/serving-endpoints/{name}/invocations", json=SPLIT)
    updated = http.put(
        f"{ENDPOINTS}/{name}/config",
        json={"served_entities": [_entity(workspace, "old").as_dict()]},
    )
    started = http.post(f"{ENDPOINTS}/{name}/config:start")

    assert stopped.status_code == 200
    assert stopped.json()["name"] == name
    assert stopped.json()["state"] == {"ready": "NOT_READY", "config_update": "NOT_UPDATING"}
    for answer in (refused, updated):
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_STATE")
    assert started.status_code == 200
    assert started.json()["state"]["config_update"] == "IN_PROGRESS"
    assert _version(settled(api, name).config) > version
    assert _asked(api, name) == ("new", [2])


@pytest.mark.operation("config:start")
def test_only_what_is_stopped_can_be_started(http: httpx.Client, iris: str) -> None:
    refused = http.post(f"{ENDPOINTS}/{iris}/config:start")

    assert (refused.status_code, refused.json()["error_code"]) == (400, "INVALID_STATE")


def _names(config: EndpointCoreConfigOutput | EndpointPendingConfig | None) -> list[str | None]:
    assert config is not None
    return [served.name for served in config.served_entities or []]


def _shares(config: EndpointCoreConfigOutput | None) -> dict[str | None, int]:
    assert config is not None
    assert config.traffic_config is not None
    return {r.served_entity_name: r.traffic_percentage for r in config.traffic_config.routes or []}


def _version(config: EndpointCoreConfigOutput | None) -> int:
    assert config is not None
    assert config.config_version is not None
    return config.config_version


def _kinds(http: httpx.Client, name: str) -> Counter[str]:
    """How often each kind of event happened to an endpoint."""
    events = http.get("/api/2.0/lakeport/events", params={"endpoint": name}).json()["events"]
    return Counter(event["kind"] for event in events)
