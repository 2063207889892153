"""Listing and getting endpoints: what is always there, and in which order."""

import httpx
import pytest
from databricks.sdk.errors import ResourceDoesNotExist
from databricks.sdk.service.serving import (
    EndpointStateConfigUpdate,
    EndpointStateReady,
    ServingEndpointDetailedPermissionLevel,
    ServingEndpointsAPI,
)

from tests.contract.endpoints import Deploy
from tests.contract.workspace import Workspace

ENDPOINTS = "/api/2.0/serving-endpoints"


@pytest.mark.operation("get")
def test_a_ready_endpoint_says_so(api: ServingEndpointsAPI, iris: str) -> None:
    endpoint = api.get(iris)

    assert endpoint.state is not None
    assert endpoint.state.ready is EndpointStateReady.READY
    assert endpoint.state.config_update is EndpointStateConfigUpdate.NOT_UPDATING
    assert endpoint.permission_level is ServingEndpointDetailedPermissionLevel.CAN_MANAGE
    assert endpoint.pending_config is None
    assert endpoint.creator
    assert endpoint.creation_timestamp is not None
    assert endpoint.last_updated_timestamp is not None
    assert endpoint.last_updated_timestamp >= endpoint.creation_timestamp > 1_600_000_000_000


@pytest.mark.operation("get")
def test_entities_are_shown_in_both_words_and_sorted(
    http: httpx.Client, workspace: Workspace, iris: str
) -> None:
    config = http.get(f"{ENDPOINTS}/{iris}").json()["config"]

    assert config["config_version"] == 1
    assert [e["name"] for e in config["served_entities"]] == ["new", "old"]
    for entity, model in zip(config["served_entities"], config["served_models"], strict=True):
        assert entity["name"] == model["name"]
        assert entity["entity_name"] == model["model_name"] == workspace.iris.name
        assert entity["entity_version"] == model["model_version"]
        assert entity["workload_size"] == model["workload_size"] == "Small"
        assert entity["workload_type"] == model["workload_type"] == "CPU"
        assert entity["scale_to_zero_enabled"] is model["scale_to_zero_enabled"] is False
        assert entity["state"]["deployment"] == "DEPLOYMENT_READY"
        assert entity["creator"]
        assert entity["creation_timestamp"] > 0


@pytest.mark.operation("get")
def test_routes_name_their_entity_in_both_words(http: httpx.Client, iris: str) -> None:
    routes = http.get(f"{ENDPOINTS}/{iris}").json()["config"]["traffic_config"]["routes"]

    assert sorted(routes, key=lambda route: str(route["served_model_name"])) == [
        {"served_entity_name": "new", "served_model_name": "new", "traffic_percentage": 0},
        {"served_entity_name": "old", "served_model_name": "old", "traffic_percentage": 100},
    ]


@pytest.mark.operation("get")
def test_what_was_never_given_is_still_shown(http: httpx.Client, deploy: Deploy) -> None:
    endpoint = http.get(f"{ENDPOINTS}/{deploy('empty')}").json()

    assert endpoint["description"] == ""
    assert endpoint["route_optimized"] is False
    assert endpoint["permission_level"] == "CAN_MANAGE"
    assert endpoint["tags"] == []
    assert endpoint["state"] == {"ready": "NOT_READY", "config_update": "NOT_UPDATING"}
    assert "config" not in endpoint


@pytest.mark.operation("list")
def test_a_list_shows_models_but_no_sizes_and_no_traffic(
    http: httpx.Client, api: ServingEndpointsAPI, workspace: Workspace, iris: str
) -> None:
    (listed,) = (endpoint for endpoint in api.list() if endpoint.name == iris)
    (plain,) = (e for e in http.get(ENDPOINTS).json()["endpoints"] if e["name"] == iris)

    assert listed.id == api.get(iris).id
    assert listed.config is not None
    assert listed.config.served_entities is not None
    assert [e.entity_name for e in listed.config.served_entities] == [workspace.iris.name] * 2
    assert plain["state"]["ready"] == "READY"
    assert "traffic_config" not in plain["config"]
    assert "workload_size" not in plain["config"]["served_entities"][0]


@pytest.mark.operation("list")
def test_a_list_may_be_asked_for_with_a_slash_at_the_end(http: httpx.Client, iris: str) -> None:
    listed = http.get(f"{ENDPOINTS}/")

    assert listed.status_code == 200
    assert iris in [endpoint["name"] for endpoint in listed.json()["endpoints"]]


@pytest.mark.operation("get")
def test_an_unknown_endpoint_does_not_exist(api: ServingEndpointsAPI, workspace: Workspace) -> None:
    name = workspace.new_name("unknown")

    with pytest.raises(ResourceDoesNotExist, match=name):
        api.get(name)
