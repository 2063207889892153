"""`lakeport.WorkspaceClient` in place of the SDK's, with both versions of the SDK."""

import json
import pickle
import subprocess
import sys
from typing import Any

import pytest
import requests
from databricks import sdk
from databricks.sdk.errors import BadRequest, NotFound
from databricks.sdk.service.serving import (
    EndpointState,
    EndpointStateConfigUpdate,
    EndpointStateReady,
    EndpointTag,
    ServingEndpoint,
    ServingEndpointDetailed,
)

from lakeport import WorkspaceClient
from lakeport.integrations.databricks_endpoints import endpoint, listed
from tests.contract.chats import CLAUDE
from tests.contract.drop_ins import config
from tests.contract.endpoints import SPLIT
from tests.contract.workspace import ROOT, Workspace
from tests.guide.blocks import blocks

HOST = "https://example.test"


@pytest.fixture(scope="module")
def drop_in(workspace: Workspace) -> WorkspaceClient:
    return WorkspaceClient(config=config(workspace.host, workspace.token))


@pytest.fixture(scope="module")
def chats(chat_workspace: Workspace) -> WorkspaceClient:
    return WorkspaceClient(config=config(chat_workspace.host, chat_workspace.token))


# --- it passes for the SDK's --------------------------------------------------------------------


def test_it_passes_for_the_sdks_client(
    drop_in: WorkspaceClient, client: sdk.WorkspaceClient
) -> None:
    assert isinstance(drop_in, sdk.WorkspaceClient)
    assert drop_in.current_user.me() == client.current_user.me()
    assert drop_in.config.host == client.config.host


@pytest.mark.lakeport  # elsewhere the server may leave out what ours fills in
def test_an_endpoint_still_is_what_the_sdk_shows(
    drop_in: WorkspaceClient, client: sdk.WorkspaceClient, iris: str
) -> None:
    ours = drop_in.serving_endpoints.get(iris)
    theirs = client.serving_endpoints.get(iris)

    assert isinstance(ours, ServingEndpointDetailed)
    assert ours.as_dict() == theirs.as_dict()
    assert isinstance(ours.state, EndpointState)
    assert ours.state == theirs.state
    assert ours.state.ready is EndpointStateReady.READY
    assert ours.state.config_update is EndpointStateConfigUpdate.NOT_UPDATING


def test_an_unknown_endpoint_is_not_found(drop_in: WorkspaceClient) -> None:
    with pytest.raises(NotFound):
        drop_in.serving_endpoints.get("no-such-endpoint")


def test_without_the_sdk_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['databricks.sdk'] = None; from lakeport import query_endpoint"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: lakeport.WorkspaceClient")
    assert "pip install 'lakeport[databricks]'" in done.stderr.splitlines()[-1]


# --- what endpoints answer ----------------------------------------------------------------------


def test_an_endpoint_answers_as_expected(
    drop_in: WorkspaceClient, client: sdk.WorkspaceClient, iris: str
) -> None:
    client.serving_endpoints.patch(iris, add_tags=[EndpointTag(key="team", value="risk")])

    found = drop_in.serving_endpoints.get(iris)

    assert found.state == "READY"
    assert f"{found.state} {found.state!s} {json.dumps(found.state)}" == 'READY READY "READY"'
    assert dict(found.tags) == {"team": "risk"}
    assert [(tag.key, tag.value) for tag in found.tags] == [("team", "risk")]
    assert found.serving_endpoint_url == f"{drop_in.config.host}/serving-endpoints/{iris}"
    assert found.config is not None
    assert [model.name for model in found.config.served_models or []] == ["new", "old"]
    client.serving_endpoints.patch(iris, delete_tags=["team"])


def test_the_url_is_the_base_of_invocations(
    drop_in: WorkspaceClient, workspace: Workspace, iris: str
) -> None:
    url = drop_in.serving_endpoints.get(iris).serving_endpoint_url

    answer = requests.post(
        f"{url}/invocations",
        data=json.dumps(SPLIT),
        headers={
            "Authorization": f"Bearer {workspace.token}",
            "Content-Type": "application/json",
        },
        timeout=30,
    )

    assert answer.json() == {"predictions": [0]}


def test_a_list_answers_too(drop_in: WorkspaceClient, iris: str) -> None:
    (found,) = [item for item in drop_in.serving_endpoints.list() if item.name == iris]

    assert isinstance(found, ServingEndpoint)
    assert found.state == "READY"
    assert found.serving_endpoint_url.endswith(f"/serving-endpoints/{iris}")
    assert found.config is not None
    assert [model.name for model in found.config.served_models or []] == ["new", "old"]
    # Not in a list: fetched.
    routes = found.config.traffic_config.routes
    assert {route.served_model_name: route.traffic_percentage for route in routes} == {
        "old": 100,
        "new": 0,
    }


def test_a_foundation_endpoint_has_models_and_traffic(chats: WorkspaceClient) -> None:
    found = chats.serving_endpoints.get(CLAUDE)

    assert found.config is not None
    (model,) = found.config.served_models or []
    assert found.config.traffic_config is not None
    (route,) = found.config.traffic_config.routes or []
    assert (route.served_model_name, route.traffic_percentage) == (model.name, 100)
    assert model.model_name


#: What Databricks shows of an endpoint that is paid per token: entities only, no traffic, no id.
PAY_PER_TOKEN = {
    "name": "databricks-llama",
    "state": {"ready": "READY", "config_update": "NOT_UPDATING"},
    "config": {
        "served_entities": [
            {
                "name": "databricks-llama",
                "foundation_model": {"name": "system.ai.llama", "display_name": "Llama"},
            }
        ]
    },
    "task": "llm/v1/chat",
}


def test_what_databricks_leaves_out_is_filled_in() -> None:
    found = endpoint(ServingEndpointDetailed.from_dict(PAY_PER_TOKEN), HOST)

    assert found.config is not None
    (model,) = found.config.served_models or []
    assert (model.name, model.model_name, model.model_version) == (
        "databricks-llama",
        "system.ai.llama",
        None,
    )
    assert found.config.traffic_config is not None
    assert [route.as_dict() for route in found.config.traffic_config.routes or []] == [
        {
            "served_entity_name": "databricks-llama",
            "served_model_name": "databricks-llama",
            "traffic_percentage": 100,
        }
    ]
    assert dict(found.tags) == {}


def test_the_sdk_itself_answers_otherwise(client: sdk.WorkspaceClient, iris: str) -> None:
    """What docs/guide/original-guide.md says of it."""
    shown: Any = ServingEndpointDetailed.from_dict(
        PAY_PER_TOKEN | {"tags": [{"key": "team", "value": "risk"}]}
    )
    split = {"dataframe_split": SPLIT["dataframe_split"]}
    message: Any = {"role": "user", "content": "Hello"}

    assert not hasattr(shown, "serving_endpoint_url")
    assert shown.state != "READY"
    with pytest.raises(TypeError):
        json.dumps(shown.state)
    with pytest.raises(TypeError):
        dict(shown.tags)
    assert shown.config.traffic_config is None
    assert shown.config.served_models == []
    with pytest.raises(BadRequest):
        client.serving_endpoints.query(iris, inputs=split)
    with pytest.raises(AttributeError):
        client.serving_endpoints.query(iris, messages=[message])


def test_in_a_list_too() -> None:
    whole = endpoint(ServingEndpointDetailed.from_dict(PAY_PER_TOKEN), HOST)
    asked: list[str] = []

    def details(name: str) -> ServingEndpointDetailed:
        asked.append(name)
        return whole

    found = listed(ServingEndpoint.from_dict(PAY_PER_TOKEN), HOST, details)

    assert found.config is not None
    assert [model.model_name for model in found.config.served_models or []] == ["system.ai.llama"]
    assert asked == []
    assert found.config.traffic_config is (whole.config and whole.config.traffic_config)
    assert asked == ["databricks-llama"]
    copied = pickle.loads(pickle.dumps(found))
    assert copied == found
    assert copied.config.traffic_config is None
    with pytest.raises(AttributeError, match="no_such_part"):
        found.config.no_such_part  # noqa: B018


def test_an_external_models_name_is_its_providers() -> None:
    shown = {
        "name": "gpt",
        "config": {
            "served_entities": [
                {
                    "name": "gpt-5",
                    "external_model": {
                        "name": "gpt-5",
                        "provider": "openai",
                        "task": "llm/v1/chat",
                    },
                }
            ],
            "traffic_config": {
                "routes": [{"served_model_name": "gpt-5", "traffic_percentage": 100}]
            },
        },
    }

    found = endpoint(ServingEndpointDetailed.from_dict(shown), HOST)

    assert found.config is not None
    assert [model.model_name for model in found.config.served_models or []] == ["gpt-5"]
    assert found.state == "NOT_READY"


def test_a_route_optimised_endpoint_is_asked_at_its_own_address() -> None:
    own = "https://abc.serving.example.test/1/serving-endpoints/quick"
    shown = {"name": "quick", "route_optimized": True, "endpoint_url": f"{own}/invocations"}

    found = endpoint(ServingEndpointDetailed.from_dict(shown), HOST)

    assert found.serving_endpoint_url == own


def test_a_tag_is_found_by_its_key_and_by_its_place() -> None:
    shown = {"name": "a", "tags": [{"key": "x", "value": "1"}, {"key": "y"}]}

    tags: Any = endpoint(ServingEndpointDetailed.from_dict(shown), HOST).tags

    assert dict(tags) == {"x": "1", "y": None}
    assert (tags["x"], tags[1].key, tags[:1]) == ("1", "y", [EndpointTag("x", "1")])
    with pytest.raises(KeyError):
        tags["z"]


def test_the_guides_code_runs(chat_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", chat_workspace.host)
    monkeypatch.setenv("DATABRICKS_TOKEN", chat_workspace.token)
    names: dict[str, Any] = {"__name__": "guide"}
    code = blocks()
    for heading in (
        "Setup",
        "List Serving Endpoints",
        "Get Serving Endpoint Details",
        "Chat Models (Claude, GPT, etc.)",
    ):
        exec(code[heading].replace("my-model-endpoint", CLAUDE), names)

    assert names["endpoint_details"].name == CLAUDE
    assert names["result"]["answer"]
