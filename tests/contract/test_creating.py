"""Creating and deleting endpoints."""

import re
from datetime import timedelta
from typing import Any

import httpx
import pytest
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
)
from databricks.sdk.service.serving import (
    EndpointCoreConfigInput,
    EndpointStateConfigUpdate,
    EndpointStateReady,
    EndpointTag,
    ServedModelInput,
    ServedModelInputWorkloadType,
    ServingEndpointsAPI,
)

from tests.contract.endpoints import Deploy, delete, entity, settled, traffic
from tests.contract.workspace import PATIENCE, Workspace

ENDPOINTS = "/api/2.0/serving-endpoints"


@pytest.mark.operation("create", "wait_get_serving_endpoint_not_updating")
def test_create_answers_at_once_and_waiting_ends_when_it_serves(
    api: ServingEndpointsAPI, workspace: Workspace
) -> None:
    name = workspace.new_name("create")
    model = entity(workspace.iris.name, workspace.iris.versions[0])
    try:
        wait = api.create(name, config=EndpointCoreConfigInput(name=name, served_entities=[model]))
        at_first = wait.bind()["name"], api.get(name)
        at_last = wait.result(timeout=timedelta(seconds=PATIENCE))

        assert at_first[0] == name
        state = at_first[1].state
        assert state is not None
        assert state.ready is EndpointStateReady.NOT_READY
        assert state.config_update is EndpointStateConfigUpdate.IN_PROGRESS
        assert at_first[1].config is None
        pending = at_first[1].pending_config
        assert pending is not None
        assert (pending.config_version, bool(pending.start_time)) == (1, True)

        assert at_last.state is not None
        assert at_last.state.ready is EndpointStateReady.READY
        assert at_last.config is not None
        assert at_last.config.traffic_config is not None
        (route,) = at_last.config.traffic_config.routes or []
        expected = f"{workspace.iris.name.rpartition('.')[2]}-{workspace.iris.versions[0]}"
        assert route.served_entity_name == route.served_model_name == expected
        assert route.traffic_percentage == 100
    finally:
        delete(api, name)


@pytest.mark.operation("create", "delete")
def test_the_older_words_served_models_are_taken_too(
    api: ServingEndpointsAPI, http: httpx.Client, workspace: Workspace
) -> None:
    name = workspace.new_name("older")
    model = ServedModelInput(
        name="older",
        model_name=workspace.iris.name,
        model_version=workspace.iris.versions[0],
        workload_size="Small",
        workload_type=ServedModelInputWorkloadType.CPU,
        scale_to_zero_enabled=False,
        environment_vars={"COLOUR": "green"},
    )
    try:
        api.create(name, config=EndpointCoreConfigInput(name=name, served_models=[model]))
        pending = http.get(f"{ENDPOINTS}/{name}").json()["pending_config"]

        assert pending["served_entities"][0]["entity_name"] == workspace.iris.name
        assert pending["served_models"][0]["model_name"] == workspace.iris.name
        assert pending["served_entities"][0]["environment_vars"] == {"COLOUR": "green"}
        # Deleted while it starts: that must work at any moment.
        api.delete(name)
        with pytest.raises(ResourceDoesNotExist):
            api.get(name)
    finally:
        delete(api, name)


@pytest.mark.operation("create")
def test_what_is_given_at_create_is_given_back(
    api: ServingEndpointsAPI, http: httpx.Client, workspace: Workspace
) -> None:
    name = workspace.new_name("echo")
    try:
        api.create(
            name,
            description="Tells flowers apart",
            tags=[EndpointTag(key="team", value="plants"), EndpointTag(key="beta")],
        )
        endpoint = http.get(f"{ENDPOINTS}/{name}").json()

        assert re.fullmatch(r"[0-9a-f]{32}", endpoint["id"])
        assert endpoint["description"] == "Tells flowers apart"
        assert [tag["key"] for tag in endpoint["tags"]] == ["beta", "team"]
        assert endpoint["tags"][1] == {"key": "team", "value": "plants"}
    finally:
        delete(api, name)


@pytest.mark.operation("create")
def test_a_body_is_json_whatever_its_content_type_says(
    api: ServingEndpointsAPI, http: httpx.Client, workspace: Workspace
) -> None:
    name = workspace.new_name("curl")
    try:
        # As `curl -d` sends it.
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        made = http.post(ENDPOINTS, content=f'{{"name": "{name}"}}', headers=form)

        assert made.status_code == 200
    finally:
        delete(api, name)


@pytest.mark.operation("create")
def test_create_may_be_asked_for_with_a_slash_at_the_end(
    api: ServingEndpointsAPI, http: httpx.Client, workspace: Workspace
) -> None:
    name = workspace.new_name("slash")
    try:
        made = http.post(f"{ENDPOINTS}/", json={"name": name})

        assert made.status_code == 200
        assert made.json()["name"] == name
    finally:
        delete(api, name)


@pytest.mark.operation("create")
def test_sizes_are_filled_in_and_bursts_are_not_shown(
    api: ServingEndpointsAPI, http: httpx.Client, workspace: Workspace
) -> None:
    name = workspace.new_name("sizes")
    model = {
        "entity_name": workspace.iris.name,
        "entity_version": workspace.iris.versions[0],
        "scale_to_zero_enabled": False,
    }
    own = {"min_provisioned_concurrency": 4, "max_provisioned_concurrency": 8}
    try:
        made = http.post(
            ENDPOINTS,
            json={
                "name": name,
                "config": {
                    "served_entities": [
                        model | own | {"name": "range", "burst_scaling_enabled": True},
                        model | {"name": "nothing"},
                    ],
                    "traffic_config": {
                        "routes": [{"served_model_name": "range", "traffic_percentage": 100}]
                    },
                },
            },
        )

        assert made.status_code == 200
        nothing, given = made.json()["pending_config"]["served_entities"]
        assert nothing["workload_size"] == "Small"
        assert "workload_size" not in given
        assert {field: given[field] for field in own} == own
        assert "burst_scaling_enabled" not in given
    finally:
        delete(api, name)


@pytest.mark.operation("delete")
def test_an_endpoint_made_again_has_another_id(
    api: ServingEndpointsAPI, http: httpx.Client, workspace: Workspace
) -> None:
    name = workspace.new_name("again")
    ids = []
    for _ in range(2):
        api.create(name)
        ids.append(api.get(name).id)
        deleted = http.delete(f"{ENDPOINTS}/{name}")
        assert (deleted.status_code, deleted.json()) == (200, {})

    assert ids[0] != ids[1]
    assert name not in ids
    with pytest.raises(ResourceDoesNotExist):
        api.delete(name)


@pytest.mark.operation("create")
def test_a_name_can_be_taken_once(api: ServingEndpointsAPI, deploy: Deploy) -> None:
    name = deploy("taken")

    with pytest.raises(ResourceAlreadyExists, match=f"Serving endpoint with name {name} already"):
        api.create(name)


def _config(**more: Any) -> dict[str, Any]:
    return {"served_entities": [{"entity_name": "MODEL", "entity_version": "1", **more}]}


BAD = {
    "a name with a blank": ({"name": "a b"}, "name"),
    "a reserved name": ({"name": "databricks-x"}, "name"),
    "an unknown field": ({"config": {"served_entitys": []}}, "config.served_entitys"),
    "a workload size": ({"config": _config(workload_size="Tiny")}, "workload_size"),
    "concurrency not in fours": (
        {"config": _config(min_provisioned_concurrency=3, max_provisioned_concurrency=5)},
        "min_provisioned_concurrency",
    ),
    "a version that is no number": (
        {"config": {"served_entities": [{"entity_name": "MODEL", "entity_version": "latest"}]}},
        "entity_version",
    ),
    "two entities with one name": (
        {"config": {"served_entities": _config(name="x")["served_entities"] * 2}},
        "config.served_entities[1].name",
    ),
    "no traffic for two entities": (
        {
            "config": {
                "served_entities": [
                    *_config(name="x")["served_entities"],
                    *_config(name="y")["served_entities"],
                ]
            }
        },
        "config.traffic_config",
    ),
    "traffic that is not 100": (
        {
            "config": _config(name="x")
            | {"traffic_config": {"routes": [{"served_entity_name": "x", "traffic_percentage": 9}]}}
        },
        "sum to 9",
    ),
    "traffic to nobody": (
        {
            "config": _config(name="x")
            | {
                "traffic_config": {
                    "routes": [{"served_model_name": "y", "traffic_percentage": 100}]
                }
            }
        },
        "config.traffic_config.routes[0]",
    ),
    "the same tag twice": ({"tags": [{"key": "k"}, {"key": "k"}]}, "tags[1].key"),
}


@pytest.mark.operation("create")
@pytest.mark.lakeport  # the wording; the class is tested below
@pytest.mark.parametrize("asked", BAD.values(), ids=BAD)
def test_a_refusal_names_the_field(
    http: httpx.Client, workspace: Workspace, asked: tuple[dict[str, Any], str]
) -> None:
    body, field = asked

    refused = http.post(ENDPOINTS, json={"name": workspace.new_name("bad")} | body)

    assert refused.status_code == 400
    assert refused.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert field in refused.json()["message"]


@pytest.mark.operation("create")
def test_bad_traffic_is_an_invalid_parameter(
    api: ServingEndpointsAPI, workspace: Workspace
) -> None:
    name = workspace.new_name("bad")
    model = entity(workspace.iris.name, workspace.iris.versions[0], "x")

    with pytest.raises(InvalidParameterValue, match="100"):
        api.create(
            name,
            config=EndpointCoreConfigInput(
                name=name, served_entities=[model], traffic_config=traffic({"x": 90})
            ),
        )


@pytest.mark.operation("create")
@pytest.mark.parametrize("body", [b"{", b"[1]", b"", b'{"name": NaN}'])
def test_a_malformed_body_is_a_bad_request(http: httpx.Client, body: bytes) -> None:
    refused = http.post(ENDPOINTS, content=body, headers={"Content-Type": "application/json"})

    assert refused.status_code == 400
    assert refused.json()["error_code"] in {"MALFORMED_REQUEST", "INVALID_PARAMETER_VALUE"}


@pytest.mark.operation("create")
@pytest.mark.parametrize(
    ("model", "version", "told"),
    [("nobody", "1", "nobody"), (None, "77", "77"), (None, "@nobody", "nobody")],
    ids=["model", "version", "alias"],
)
def test_a_model_that_does_not_exist_is_named(
    api: ServingEndpointsAPI, workspace: Workspace, model: str | None, version: str, told: str
) -> None:
    name = workspace.new_name("nothing")
    wanted = entity(model or workspace.iris.name, version)

    with pytest.raises((ResourceDoesNotExist, BadRequest), match=told):
        api.create(name, config=EndpointCoreConfigInput(name=name, served_entities=[wanted]))

    with pytest.raises(ResourceDoesNotExist):
        api.get(name)


@pytest.mark.operation("create", "query")
def test_a_first_config_that_fails_says_why(
    api: ServingEndpointsAPI, workspace: Workspace, deploy: Deploy
) -> None:
    if workspace.home is None:
        pytest.skip("the real workspace has no model that cannot be loaded")
    name = deploy("failed", entity("load_raises", "1"))

    endpoint = settled(api, name)

    assert endpoint.state is not None
    assert endpoint.state.ready is EndpointStateReady.NOT_READY
    assert endpoint.state.config_update is EndpointStateConfigUpdate.UPDATE_FAILED
    assert endpoint.config is None
    assert endpoint.pending_config is not None
    (failed,) = endpoint.pending_config.served_entities or []
    assert failed.state is not None
    assert failed.state.deployment is not None
    assert failed.state.deployment.value == "DEPLOYMENT_FAILED"
    assert "the weights are not what they were" in (failed.state.deployment_state_message or "")
    with pytest.raises(BadRequest, match="the weights are not what they were") as refused:
        api.query(name, inputs=[1])
    assert refused.value.error_code == "INVALID_STATE"
