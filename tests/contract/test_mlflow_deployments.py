"""MLflow's own client of serving endpoints: `mlflow.deployments`, target `databricks`."""

import warnings
from typing import Any

import pytest
from databricks.sdk.service.serving import ServingEndpointsAPI

from tests.contract.chats import CLAUDE, EMBEDDINGS, SCRIPTED
from tests.contract.endpoints import SPLIT, delete, settled
from tests.contract.workspace import Workspace

pytest.importorskip("mlflow")

from mlflow.deployments import get_deploy_client
from mlflow.deployments.databricks import DatabricksDeploymentClient
from requests import HTTPError

ENTITY = {"name": "m", "workload_size": "Small", "scale_to_zero_enabled": False}


@pytest.fixture
def deployments(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> DatabricksDeploymentClient:
    return client_of(workspace, monkeypatch)


@pytest.fixture
def chats(chat_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> DatabricksDeploymentClient:
    """The client of the workspace of language models."""
    return client_of(chat_workspace, monkeypatch)


def client_of(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> DatabricksDeploymentClient:
    monkeypatch.setenv("DATABRICKS_HOST", workspace.host)
    monkeypatch.setenv("DATABRICKS_TOKEN", workspace.token)
    client = get_deploy_client("databricks")
    assert isinstance(client, DatabricksDeploymentClient)
    return client


@pytest.mark.operation("deployments.list_endpoints", "deployments.get_endpoint")
def test_endpoints_are_listed_and_found(deployments: DatabricksDeploymentClient, iris: str) -> None:
    listed = [endpoint["name"] for endpoint in deployments.list_endpoints()]
    found = deployments.get_endpoint(iris)

    assert iris in listed
    assert found.name == iris
    assert found.state["ready"] == "READY"


@pytest.mark.operation("deployments.predict")
def test_predict_answers(deployments: DatabricksDeploymentClient, iris: str) -> None:
    assert deployments.predict(endpoint=iris, inputs=SPLIT) == {"predictions": [0]}


@pytest.mark.operation("deployments.predict")
def test_predict_raises_what_the_endpoint_says(
    deployments: DatabricksDeploymentClient, iris: str
) -> None:
    with pytest.raises(HTTPError, match="exactly one of the input fields"):
        deployments.predict(endpoint=iris, inputs={})


@pytest.mark.operation("deployments.predict_stream")
def test_predict_stream_yields_each_chunk(
    deployments: DatabricksDeploymentClient, streams: str
) -> None:
    chunks = list(deployments.predict_stream(endpoint=streams, inputs={"inputs": {"count": 3}}))

    assert [chunk["number"] for chunk in chunks] == [0, 1, 2]
    assert chunks[0]["text"] == "line\u2028end\u0085"


# --- chat and embeddings --------------------------------------------------------------------------


def asking(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


@pytest.mark.operation("deployments.list_endpoints", "deployments.get_endpoint")
@pytest.mark.lakeport
def test_what_a_flag_made_is_listed_and_found(chats: DatabricksDeploymentClient) -> None:
    listed = {endpoint["name"]: endpoint for endpoint in chats.list_endpoints()}
    found = chats.get_endpoint(CLAUDE)

    assert listed[CLAUDE]["task"] == found.task == "llm/v1/chat"
    assert found.state["ready"] == "READY"


@pytest.mark.operation("deployments.predict")
def test_predict_chats(chats: DatabricksDeploymentClient) -> None:
    answer = chats.predict(endpoint=CLAUDE, inputs=asking("Tell me a story.", max_tokens=3))

    assert answer.object == "chat.completion"
    assert answer.choices[0]["message"]["role"] == "assistant"
    assert 0 < answer.usage["completion_tokens"] <= 3


@pytest.mark.operation("deployments.predict")
@pytest.mark.lakeport
def test_predict_embeds(chats: DatabricksDeploymentClient) -> None:
    answer = chats.predict(endpoint=EMBEDDINGS, inputs={"input": ["a", "b"]})

    assert [len(item["embedding"]) for item in answer.data] == [384, 384]


@pytest.mark.operation("deployments.predict_stream")
@pytest.mark.lakeport
def test_predict_stream_yields_a_chat_whose_lines_are_its_own(
    chats: DatabricksDeploymentClient,
) -> None:
    # MLflow breaks lines at U+2028 and U+0085 too, and stops at what is no data line.
    chunks = list(chats.predict_stream(endpoint=SCRIPTED, inputs=asking("lines")))

    deltas = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(deltas) == "a\u2028b\u0085c : d"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.operation("deployments.predict_stream")
def test_predict_stream_of_a_model_ends_with_its_reason(chats: DatabricksDeploymentClient) -> None:
    inputs = asking("Tell me a story.", max_tokens=3, stream_options={"include_usage": True})

    *chunks, last = chats.predict_stream(endpoint=CLAUDE, inputs=inputs)

    assert chunks[-1]["choices"][0]["finish_reason"] in ("length", "stop")
    assert 0 < last["usage"]["completion_tokens"] <= 3


@pytest.mark.operation("deployments.predict_stream")
@pytest.mark.lakeport
def test_embeddings_do_not_stream(chats: DatabricksDeploymentClient) -> None:
    with pytest.raises(HTTPError, match='"stream" must be false'):
        list(chats.predict_stream(endpoint=EMBEDDINGS, inputs={"input": "a"}))


# --- an endpoint's life ---------------------------------------------------------------------------


@pytest.mark.operation(
    "deployments.create_endpoint",
    "deployments.update_endpoint",
    "deployments.update_endpoint_config",
    "deployments.update_endpoint_tags",
    "deployments.delete_endpoint",
)
@pytest.mark.lakeport  # its models are named here
def test_an_endpoints_life(
    deployments: DatabricksDeploymentClient, api: ServingEndpointsAPI, workspace: Workspace
) -> None:
    name = workspace.new_name("deployments")

    def entities(version: str) -> dict[str, Any]:
        return {"served_entities": [ENTITY | {"entity_name": "iris", "entity_version": version}]}

    try:
        made = deployments.create_endpoint(config={"name": name, "config": entities("1")})
        settled(api, name)
        first = deployments.predict(endpoint=name, inputs=SPLIT)
        deployments.update_endpoint_config(endpoint=name, config=entities("2"))
        settled(api, name)
        second = deployments.predict(endpoint=name, inputs=SPLIT)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated, and still used
            deployments.update_endpoint(endpoint=name, config=entities("2"))
        settled(api, name)
        deployments.update_endpoint_tags(
            endpoint=name, config={"add_tags": [{"key": "team", "value": "plants"}]}
        )
        tags = deployments.get_endpoint(name).tags
        deployments.delete_endpoint(name)

        assert made.name == name
        assert (first, second) == ({"predictions": [0]}, {"predictions": [2]})
        assert tags == [{"key": "team", "value": "plants"}]
        with pytest.raises(HTTPError, match="404"):
            deployments.get_endpoint(name)
    finally:
        delete(api, name)


@pytest.mark.operation(
    "deployments.update_endpoint_rate_limits", "deployments.update_endpoint_ai_gateway"
)
@pytest.mark.lakeport
def test_limits_and_the_gateway_are_refused(
    deployments: DatabricksDeploymentClient, iris: str
) -> None:
    with pytest.raises(HTTPError, match="501"):
        deployments.update_endpoint_rate_limits(endpoint=iris, config={"rate_limits": []})
    with pytest.raises(HTTPError, match="501"):
        deployments.update_endpoint_ai_gateway(endpoint=iris, config={})
