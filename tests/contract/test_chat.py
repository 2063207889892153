"""Chat, completions and embeddings through the unmodified SDKs: hosted, scripted and outside."""

import json
import struct
import warnings
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, NotFound, PermissionDenied
from databricks.sdk.errors import NotImplemented as NotYet
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.serving import (
    ApiKeyAuth,
    BearerTokenAuth,
    ChatMessage,
    ChatMessageRole,
    CustomProviderConfig,
    DatabricksModelServingConfig,
    EndpointCoreConfigInput,
    EndpointStateReady,
    EndpointTag,
    ExternalModel,
    ExternalModelProvider,
    OpenAiConfig,
    PtEndpointCoreConfig,
    PtServedModel,
    QueryEndpointResponse,
    ServedEntityInput,
    ServingEndpointsAPI,
)

from tests.contract.chats import CHAT_MODEL, CLAUDE, EMBEDDING_MODEL, EMBEDDINGS, SCRIPTED
from tests.contract.endpoints import Deploy, delete, deploying, settled
from tests.contract.workspace import Workspace

ENDPOINTS = "/api/2.0/serving-endpoints"
CUSTOM = ExternalModelProvider.CUSTOM
KEY = "sk-canary-0123456789abcdef"
#: Its answer is longer than any bound that is set here.
STORY = "Tell me a long story about the sea."
#: The guide's own words.
GUIDE = """
def query_chat_endpoint(endpoint_name: str, message: str, max_tokens: int = 150, temperature: float = 0.7):
  try:
    # Import required classes
    from databricks.sdk.service.serving import ChatMessage, ChatMessageRole
    
    # Create proper ChatMessage objects
    messages = [
      ChatMessage(
        role=ChatMessageRole.USER,
        content=message
      )
    ]
    
    # Query the endpoint using the SDK
    response = client.serving_endpoints.query(
      name=endpoint_name,
      messages=messages,
      max_tokens=max_tokens,
      temperature=temperature
    )
    
    # Extract the answer from the response
    if response.choices and len(response.choices) > 0:
      answer = response.choices[0].message.content
      return {
        "answer": answer,
        "usage": {
          "completion_tokens": response.usage.completion_tokens,
          "prompt_tokens": response.usage.prompt_tokens,
          "total_tokens": response.usage.total_tokens
        }
      }
    else:
      return {"error": "No response received"}
    
  except DatabricksError as e:
    print(f"Error querying endpoint: {e}")
    return None

# Example usage
result = query_chat_endpoint("databricks-claude-sonnet-4", "How tall is the eiffel tower?")
print(f"Answer: {result['answer']}")
print(f"Tokens used: {result['usage']['total_tokens']}")
"""  # noqa: E501, W293


@pytest.fixture(scope="module")
def chat_http(chat_workspace: Workspace) -> Iterator[httpx.Client]:
    """Plain HTTP with the admin's token."""
    headers = {"Authorization": f"Bearer {chat_workspace.token}"}
    with httpx.Client(base_url=chat_workspace.host, headers=headers, timeout=60) as plain:
        yield plain


@pytest.fixture
def deploy_chat(chat_workspace: Workspace, chat_api: ServingEndpointsAPI) -> Iterator[Deploy]:
    """Makes endpoints in the workspace of language models; they are gone at the test's end."""
    with deploying(chat_workspace, chat_api) as make:
        yield make


@pytest.fixture
def sdk(chat_client: WorkspaceClient) -> Iterator[openai.OpenAI]:
    """The openai SDK, as the Databricks SDK hands it out."""
    with open_ai(chat_client) as client:
        yield client


def open_ai(client: WorkspaceClient) -> openai.OpenAI:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # and still used
        made: openai.OpenAI = client.serving_endpoints.get_open_ai_client()
    return made.with_options(max_retries=0)


def ask(api: ServingEndpointsAPI, name: str, text: str, **more: Any) -> QueryEndpointResponse:
    return api.query(name, messages=[ChatMessage(role=ChatMessageRole.USER, content=text)], **more)


def said(answer: QueryEndpointResponse) -> str:
    assert answer.choices is not None
    (choice,) = answer.choices
    assert choice.message is not None
    assert choice.message.role is ChatMessageRole.ASSISTANT
    return choice.message.content or ""


# --- the Databricks SDK's query -------------------------------------------------------------------


@pytest.mark.operation("query", "foundation endpoints")
def test_the_guides_chat_gets_its_answer_and_its_tokens(
    chat_client: WorkspaceClient, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"client": chat_client, "DatabricksError": DatabricksError}

    exec(GUIDE, names)

    printed = capsys.readouterr().out
    answer, usage = names["result"]["answer"], names["result"]["usage"]
    assert answer
    assert 0 < usage["completion_tokens"] <= 150
    assert usage["prompt_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert printed == f"Answer: {answer}\nTokens used: {usage['total_tokens']}\n"


@pytest.mark.operation("query")
@pytest.mark.lakeport
def test_a_chat_is_a_whole_completion(chat_api: ServingEndpointsAPI) -> None:
    answer = ask(chat_api, SCRIPTED, "say two words", max_tokens=20, temperature=0.0, stop=["x"])

    assert said(answer) == "one two"
    assert answer.object is not None
    assert (answer.object.value, answer.model) == ("chat.completion", SCRIPTED)
    assert answer.served_model_name == SCRIPTED
    assert answer.id
    assert (answer.created or 0) > 1_600_000_000
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 2)
    assert answer.usage.total_tokens == 9


@pytest.mark.operation("query")
def test_an_answer_is_no_longer_than_asked_for(chat_api: ServingEndpointsAPI) -> None:
    answer = ask(chat_api, CLAUDE, STORY, max_tokens=5, temperature=0.0)

    assert said(answer)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


@pytest.mark.operation("query")
@pytest.mark.lakeport  # a real foundation model completes no prompts
def test_a_prompt_is_completed(chat_api: ServingEndpointsAPI) -> None:
    answer = chat_api.query(CLAUDE, prompt="Once upon a time", max_tokens=4)

    assert answer.choices is not None
    (choice,) = answer.choices
    assert choice.text
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


@pytest.mark.operation("query")
@pytest.mark.lakeport  # its endpoint is named here
def test_texts_are_embedded_in_their_order(chat_api: ServingEndpointsAPI) -> None:
    texts = ["a red ship", "a blue ship", "tax law"]

    answer = chat_api.query(EMBEDDINGS, input=texts)

    assert answer.data is not None
    assert [item.index for item in answer.data] == [0, 1, 2]
    red, blue, law = (item.embedding or [] for item in answer.data)
    assert len(red) == len(blue) == len(law) == 384
    assert dot(red, red) == pytest.approx(1, abs=1e-3)
    assert dot(red, blue) > dot(red, law)
    assert answer.usage is not None
    assert (answer.usage.total_tokens or 0) > 0


def dot(one: list[float], other: list[float]) -> float:
    return sum(x * y for x, y in zip(one, other, strict=True))


@pytest.mark.operation("query")
@pytest.mark.lakeport
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"messages": []}, '"messages" must be a list of at least one message'),
        ({"messages": [ChatMessage(role=ChatMessageRole.USER)]}, r'"messages\[0\].content" must'),
        ({"max_tokens": -1}, '"max_tokens" must be'),
        ({"temperature": 3.0}, '"temperature" must be'),
        ({"n": 2}, '"n": this model gives one answer a request'),
        ({"stop": [1]}, r'"stop\[0\]" must be a string'),
        ({"extra_params": {"top_p": "2"}}, '"top_p" must be'),
        ({"extra_params": {"colour": "green"}}, 'unknown field "colour"'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_in_a_chat_is_named(
    chat_api: ServingEndpointsAPI, asked: dict[str, Any], words: str
) -> None:
    hi = [ChatMessage(role=ChatMessageRole.USER, content="hi")]
    with pytest.raises(BadRequest, match=words):
        chat_api.query(CLAUDE, **{"messages": hi, **asked})


@pytest.mark.operation("query")
@pytest.mark.lakeport
def test_another_form_is_told_what_the_endpoint_takes(chat_api: ServingEndpointsAPI) -> None:
    with pytest.raises(BadRequest, match=r'unknown field "inputs".*takes "messages"'):
        chat_api.query(CLAUDE, inputs=[[1.0]])
    with pytest.raises(BadRequest, match=r'unknown field "messages".*takes "input"'):
        ask(chat_api, EMBEDDINGS, "hi")


@pytest.mark.operation("query")
@pytest.mark.lakeport
def test_who_calls_and_for_whom_goes_no_further(chat_http: httpx.Client) -> None:
    body = {
        "messages": [{"role": "user", "content": "two words"}],
        "client_request_id": "mine",
        "usage_context": {"project": "plants"},
    }

    answer = chat_http.post(f"/serving-endpoints/{SCRIPTED}/invocations", json=body)

    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "one two"


@pytest.mark.operation("invocations")
@pytest.mark.lakeport
def test_a_chat_stream_is_data_lines_alone(chat_http: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": "lines"}], "stream": True}

    answer = chat_http.post(f"/serving-endpoints/{SCRIPTED}/invocations", json=body)

    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["served-model-name"] == SCRIPTED
    # Lines as httpx and requests break them: also at U+0085, U+2028 and U+2029.
    events = [line for line in answer.text.splitlines() if line]
    assert all(event.startswith("data: ") for event in events)
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    deltas = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(deltas) == "a\u2028b\u0085c : d"
    assert not any("usage" in chunk for chunk in chunks)


# --- fixed endpoints ------------------------------------------------------------------------------


@pytest.mark.operation("foundation endpoints", "list")
@pytest.mark.lakeport
def test_what_a_flag_made_is_listed_as_foundation_models_are(
    chat_api: ServingEndpointsAPI,
) -> None:
    found = {endpoint.name: endpoint for endpoint in chat_api.list()}

    claude = found[CLAUDE]
    assert claude.id is None
    assert (claude.task, claude.creator) == ("llm/v1/chat", "system")
    assert claude.state is not None
    assert claude.state.ready is EndpointStateReady.READY
    assert claude.config is not None
    assert claude.config.served_entities is not None
    (entity,) = claude.config.served_entities
    assert entity.foundation_model is not None
    assert entity.foundation_model.name == CHAT_MODEL
    assert entity.foundation_model.display_name == "SmolLM2 135M Instruct"
    assert entity.foundation_model.description
    assert found[EMBEDDINGS].task == "llm/v1/embeddings"


@pytest.mark.operation("foundation endpoints", "get")
@pytest.mark.lakeport
def test_what_is_scripted_says_so_wherever_it_is_shown(chat_api: ServingEndpointsAPI) -> None:
    shown = chat_api.get(SCRIPTED)

    assert shown.id is None
    assert shown.config is not None
    assert shown.config.served_entities is not None
    (entity,) = shown.config.served_entities
    assert entity.foundation_model is not None
    assert entity.foundation_model.name == "scripted"
    assert "Scripted" in (entity.foundation_model.display_name or "")
    assert entity.state is not None
    listed = next(endpoint for endpoint in chat_api.list() if endpoint.name == SCRIPTED)
    assert "Scripted" in (listed.description or "")


UNITS = PtEndpointCoreConfig(
    served_entities=[PtServedModel(entity_name=CHAT_MODEL, provisioned_model_units=50)]
)
CHANGES: dict[str, Callable[[ServingEndpointsAPI], object]] = {
    "delete": lambda api: api.delete(CLAUDE),
    "update_config": lambda api: api.update_config(
        CLAUDE, served_entities=[ServedEntityInput(entity_name=CHAT_MODEL)]
    ),
    "patch": lambda api: api.patch(CLAUDE, add_tags=[EndpointTag(key="team")]),
    "update_provisioned_throughput_endpoint_config": lambda api: (
        api.update_provisioned_throughput_endpoint_config(CLAUDE, UNITS)
    ),
}


@pytest.mark.operation(
    "foundation endpoints",
    "delete",
    "update_config",
    "patch",
    "update_provisioned_throughput_endpoint_config",
)
@pytest.mark.lakeport
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_a_flag_made_cannot_be_changed(
    chat_api: ServingEndpointsAPI, change: Callable[[ServingEndpointsAPI], object]
) -> None:
    with pytest.raises(InvalidParameterValue, match=r"made by a setting of the server \(--chat"):
        change(chat_api)


@pytest.mark.operation("foundation endpoints", "create")
@pytest.mark.lakeport
def test_databricks_own_names_cannot_be_made(chat_api: ServingEndpointsAPI) -> None:
    with pytest.raises(InvalidParameterValue, match="is reserved"):
        chat_api.create("databricks-gpt-x")


@pytest.mark.operation("foundation endpoints", "query")
@pytest.mark.lakeport
def test_who_has_a_token_may_query_what_a_flag_made(chat_caller: WorkspaceClient) -> None:
    api = chat_caller.serving_endpoints

    assert said(ask(api, SCRIPTED, "two words")) == "one two"
    assert {CLAUDE, EMBEDDINGS, SCRIPTED} <= {endpoint.name for endpoint in api.list()}
    with pytest.raises(PermissionDenied):
        api.delete(CLAUDE)


@pytest.mark.operation("get_open_api")
@pytest.mark.lakeport
def test_the_schema_names_what_the_model_takes(chat_api: ServingEndpointsAPI) -> None:
    forms = {name: schema_of(chat_api, name) for name in (CLAUDE, EMBEDDINGS)}

    chat, completion = forms[CLAUDE]["oneOf"]
    assert chat["required"] == ["messages"]
    assert {"temperature", "max_tokens", "stream", "response_format"} <= set(chat["properties"])
    assert "tools" not in chat["properties"]
    assert completion["required"] == ["prompt"]
    assert forms[EMBEDDINGS]["required"] == ["input"]


def schema_of(api: ServingEndpointsAPI, name: str) -> dict[str, Any]:
    contents = api.get_open_api(name).contents
    assert contents is not None
    with contents as stream:
        document = json.loads(stream.read())
    operation = document["paths"][f"/served-models/{name}/invocations"]["post"]
    schema: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["schema"]
    return schema


# --- provisioned throughput -----------------------------------------------------------------------


@pytest.mark.operation("get-model-optimization-info")
@pytest.mark.lakeport
@pytest.mark.parametrize(
    ("model", "version", "said"),
    [
        (CHAT_MODEL, "1", {"optimizable": True, "model_type": "llm/v1/chat"}),
        ("main.default.iris", "3", {"optimizable": False}),
        (CHAT_MODEL, "2", {"error_code": "RESOURCE_DOES_NOT_EXIST"}),
        ("system.ai.nobody", "1", {"error_code": "RESOURCE_DOES_NOT_EXIST"}),
    ],
)
def test_what_can_be_provisioned_is_told(
    chat_workspace: Workspace, model: str, version: str, said: dict[str, object]
) -> None:
    path = f"/api/2.0/serving-endpoints/get-model-optimization-info/{model}/{version}"

    answer = httpx.get(
        f"{chat_workspace.host}{path}",
        headers={"Authorization": f"Bearer {chat_workspace.token}"},
    ).json()

    assert said.items() <= answer.items()


@pytest.mark.operation(
    "create_provisioned_throughput_endpoint", "update_provisioned_throughput_endpoint_config"
)
@pytest.mark.lakeport  # its model is named here
def test_a_model_of_the_catalogue_is_provisioned(
    chat_api: ServingEndpointsAPI, chat_workspace: Workspace
) -> None:
    name = chat_workspace.new_name("provisioned")
    model = PtServedModel(
        entity_name=EMBEDDING_MODEL, entity_version="1", name="m", provisioned_model_units=50
    )
    try:
        chat_api.create_provisioned_throughput_endpoint(
            name, PtEndpointCoreConfig(served_entities=[model]), tags=[EndpointTag(key="team")]
        )
        settled(chat_api, name)
        answer = chat_api.query(name, input="a ship")
        model.provisioned_model_units = 100
        chat_api.update_provisioned_throughput_endpoint_config(
            name, PtEndpointCoreConfig(served_entities=[model])
        )
        shown = settled(chat_api, name)

        assert answer.data is not None
        assert len(answer.data[0].embedding or []) == 384
        assert shown.task == "llm/v1/embeddings"
        assert shown.id
        assert shown.tags == [EndpointTag(key="team")]
        assert shown.config is not None
        assert shown.config.served_entities is not None
        (entity,) = shown.config.served_entities
        assert (entity.name, entity.entity_name) == ("m", EMBEDDING_MODEL)
        assert (entity.entity_version, entity.provisioned_model_units) == ("1", 100)
    finally:
        delete(chat_api, name)


@pytest.mark.operation("create_provisioned_throughput_endpoint")
@pytest.mark.lakeport
def test_what_cannot_be_provisioned_is_named(
    chat_api: ServingEndpointsAPI, chat_workspace: Workspace
) -> None:
    name = chat_workspace.new_name("provisioned")

    def create(model: str, units: int = 50) -> object:
        entity = PtServedModel(entity_name=model, provisioned_model_units=units)
        config = PtEndpointCoreConfig(served_entities=[entity])
        return chat_api.create_provisioned_throughput_endpoint(name, config)

    with pytest.raises(NotFound, match=rf"no model 'system\.ai\.x'.*{CHAT_MODEL}"):
        create("system.ai.x")
    with pytest.raises(NotYet, match=r"config\.served_entities\[0\]\.provisioned_model_units"):
        create("iris")
    with pytest.raises(InvalidParameterValue, match="provisioned_model_units"):
        create(CHAT_MODEL, -1)


# --- external models ------------------------------------------------------------------------------


def external(model: ExternalModel, name: str = "outside") -> ServedEntityInput:
    return ServedEntityInput(name=name, external_model=model)


def workspace_model(workspace: Workspace, model: str, task: str, token: str) -> ExternalModel:
    """A model of a workspace, as another workspace serves it."""
    return ExternalModel(
        provider=ExternalModelProvider.DATABRICKS_MODEL_SERVING,
        name=model,
        task=task,
        databricks_model_serving_config=DatabricksModelServingConfig(
            databricks_workspace_url=workspace.host, databricks_api_token_plaintext=token
        ),
    )


@pytest.mark.operation("create", "query")
@pytest.mark.lakeport  # its models are named here
def test_another_workspaces_models_are_served(
    chat_api: ServingEndpointsAPI, chat_workspace: Workspace, deploy_chat: Deploy
) -> None:
    here = chat_workspace
    chat = workspace_model(here, SCRIPTED, "llm/v1/chat", here.token)
    embeddings = workspace_model(here, EMBEDDINGS, "llm/v1/embeddings", here.token)

    chats = deploy_chat("outside", external(chat))
    vectors = deploy_chat("vectors", external(embeddings))

    answer = ask(chat_api, chats, "two words")
    assert said(answer) == "one two"
    assert (answer.served_model_name, answer.model) == ("outside", SCRIPTED)
    assert answer.usage is not None
    assert answer.usage.total_tokens == 9
    found = chat_api.query(vectors, input=["a", "b"]).data or []
    assert [len(item.embedding or []) for item in found] == [384, 384]


@pytest.mark.operation("create", "query")
@pytest.mark.lakeport
def test_an_outside_servers_refusal_keeps_its_status(
    chat_api: ServingEndpointsAPI,
    chat_http: httpx.Client,
    chat_workspace: Workspace,
    deploy_chat: Deploy,
) -> None:
    here = chat_workspace
    name = deploy_chat(
        "outside", external(workspace_model(here, SCRIPTED, "llm/v1/chat", here.token))
    )
    wrong = deploy_chat("wrong", external(workspace_model(here, SCRIPTED, "llm/v1/chat", KEY)))

    with pytest.raises(DatabricksError, match=r"That is not for me\."):
        ask(chat_api, name, "unfit")
    body = {"messages": [{"role": "user", "content": "busy"}]}
    refused = chat_http.post(f"/serving-endpoints/{name}/invocations", json=body)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    assert refused.json()["error"]["message"] == "Come back later."
    with pytest.raises(DatabricksError) as failed:  # the caller's own token is good
        ask(chat_api, wrong, "two words")
    assert failed.value.error_code == "BAD_GATEWAY"
    assert KEY not in str(failed.value)


EXTERNAL = {
    "openai": ExternalModel(
        provider=ExternalModelProvider.OPENAI,
        name="gpt-x",
        task="llm/v1/chat",
        openai_config=OpenAiConfig(
            openai_api_key_plaintext=KEY, openai_api_base="https://api.example.com/v1"
        ),
    ),
    "azure": ExternalModel(
        provider=ExternalModelProvider.OPENAI,
        name="gpt-x",
        task="llm/v1/completions",
        openai_config=OpenAiConfig(
            openai_api_key_plaintext=KEY,
            openai_api_base="https://x.openai.azure.com",
            openai_api_type="azure",
            openai_api_version="2024-10-21",
            openai_deployment_name="d",
        ),
    ),
    "bearer": ExternalModel(
        provider=CUSTOM,
        name="llama",
        task="llm/v1/chat",
        custom_provider_config=CustomProviderConfig(
            custom_provider_url="https://llm.example.com/v1",
            bearer_token_auth=BearerTokenAuth(token_plaintext=KEY),
        ),
    ),
    "header": ExternalModel(
        provider=CUSTOM,
        name="llama",
        task="llm/v1/embeddings",
        custom_provider_config=CustomProviderConfig(
            custom_provider_url="https://llm.example.com/v1",
            api_key_auth=ApiKeyAuth(key="x-api-key", value_plaintext=KEY),
        ),
    ),
}


@pytest.mark.operation("create", "get", "list")
@pytest.mark.lakeport
@pytest.mark.parametrize("model", EXTERNAL.values(), ids=EXTERNAL)
def test_an_external_model_is_shown_without_its_key(
    chat_api: ServingEndpointsAPI,
    chat_http: httpx.Client,
    chat_workspace: Workspace,
    model: ExternalModel,
) -> None:
    name = chat_workspace.new_name("external")
    config = EndpointCoreConfigInput(name=name, served_entities=[external(model)])
    try:
        chat_api.create(name, config=config)
        shown = settled(chat_api, name)
        texts = [chat_http.get(path).text for path in (ENDPOINTS, f"{ENDPOINTS}/{name}")]
    finally:
        delete(chat_api, name)

    assert shown.task == model.task
    assert shown.config is not None
    assert shown.config.served_entities is not None
    (entity,) = shown.config.served_entities
    assert entity.external_model is not None
    assert without_keys(model.as_dict()) == entity.external_model.as_dict()
    for text in texts:
        assert f'"{model.name}"' in text
        assert "plaintext" not in text
        assert KEY not in text


def without_keys(given: dict[str, Any]) -> dict[str, Any]:
    return {
        name: without_keys(value) if isinstance(value, dict) else value
        for name, value in given.items()
        if not name.endswith("_plaintext")
    }


@pytest.mark.operation("create")
@pytest.mark.lakeport
def test_what_is_wrong_with_an_external_model_is_named(
    chat_api: ServingEndpointsAPI, chat_workspace: Workspace
) -> None:
    name = chat_workspace.new_name("external")

    def create(**changes: Any) -> object:
        given = {
            "provider": ExternalModelProvider.OPENAI,
            "name": "gpt-x",
            "task": "llm/v1/chat",
            "openai_config": OpenAiConfig(openai_api_key_plaintext=KEY),
            **changes,
        }
        config = EndpointCoreConfigInput(
            name=name, served_entities=[external(ExternalModel(**given))]
        )
        return chat_api.create(name, config=config)

    at = r"config\.served_entities\[0\]\.external_model\."
    cases: list[tuple[type[DatabricksError], str, dict[str, Any]]] = [
        (NotYet, "provider: 'anthropic'", {"provider": ExternalModelProvider.ANTHROPIC}),
        (InvalidParameterValue, "task", {"task": "llm/v1/poems"}),
        (InvalidParameterValue, "openai_config.openai_api_key", {"openai_config": OpenAiConfig()}),
        (InvalidParameterValue, "openai_config: expected only custom_pr", {"provider": CUSTOM}),
    ]
    for kind, field, changes in cases:
        with pytest.raises(kind, match=at + field) as refused:
            create(**changes)
        assert KEY not in str(refused.value)


@pytest.mark.operation("create")
@pytest.mark.lakeport
@pytest.mark.parametrize("url", ["https://169.254.169.254/v1", "http://1.1.1.1/v1"])
def test_where_no_key_may_go_is_refused(
    chat_api: ServingEndpointsAPI, chat_workspace: Workspace, url: str
) -> None:
    name = chat_workspace.new_name("external")
    model = ExternalModel(
        provider=ExternalModelProvider.OPENAI,
        name="gpt-x",
        task="llm/v1/chat",
        openai_config=OpenAiConfig(openai_api_key_plaintext=KEY, openai_api_base=url),
    )
    config = EndpointCoreConfigInput(name=name, served_entities=[external(model)])

    with pytest.raises(InvalidParameterValue, match=r"openai_api_base: the URL is not allowed"):
        chat_api.create(name, config=config)


# --- the openai SDK, as the Databricks SDK hands it out -------------------------------------------


@pytest.mark.operation("get_open_ai_client", "openai chat")
def test_the_openai_client_chats(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(
        model=CLAUDE, messages=[{"role": "user", "content": STORY}], max_tokens=5, temperature=0
    )

    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


@pytest.mark.operation("openai chat")
@pytest.mark.parametrize("told", [False, True])
def test_the_openai_client_streams(sdk: openai.OpenAI, told: bool) -> None:
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if told else {}

    with sdk.chat.completions.create(
        model=CLAUDE,
        messages=[{"role": "user", "content": STORY}],
        max_tokens=6,
        temperature=0,
        stream=True,
        **more,
    ) as stream:
        chunks = list(stream)

    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text
    ends = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert [end for end in ends if end] == ["length"]
    usages = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert usages == ([6] if told else [])


@pytest.mark.operation("openai completions")
@pytest.mark.lakeport
def test_the_openai_client_completes_a_prompt(sdk: openai.OpenAI) -> None:
    answer = sdk.completions.create(model=CLAUDE, prompt="Once upon a time", max_tokens=4)

    assert answer.choices[0].text
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


@pytest.mark.operation("openai embeddings")
@pytest.mark.lakeport
def test_the_openai_client_embeds(sdk: openai.OpenAI, chat_http: httpx.Client) -> None:
    texts = ["a red ship", "tax law"]

    floats = sdk.embeddings.create(model=EMBEDDINGS, input=texts, encoding_format="float")
    packed = sdk.embeddings.create(model=EMBEDDINGS, input=texts)  # as base64, by itself

    for one, other in zip(floats.data, packed.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    body = {"model": EMBEDDINGS, "input": "a red ship", "encoding_format": "base64"}
    raw = chat_http.post("/serving-endpoints/embeddings", json=body).json()["data"][0]["embedding"]
    assert struct.unpack("<384f", b64decode(raw)) == pytest.approx(floats.data[0].embedding)


@pytest.mark.operation("openai models")
@pytest.mark.lakeport
def test_the_openai_client_finds_what_it_may_query(
    sdk: openai.OpenAI, chat_caller: WorkspaceClient, deploy_chat: Deploy
) -> None:
    hidden = deploy_chat("hidden")

    names = [model.id for model in sdk.models.list()]
    found = sdk.models.retrieve(CLAUDE)

    assert {CLAUDE, EMBEDDINGS, SCRIPTED, hidden} <= set(names)
    assert (found.id, found.object, found.owned_by) == (CLAUDE, "model", "system")
    with open_ai(chat_caller) as other:
        assert hidden not in [model.id for model in other.models.list()]
        with pytest.raises(openai.NotFoundError):
            other.models.retrieve(hidden)


@pytest.mark.operation("openai path")
@pytest.mark.lakeport
def test_the_path_may_name_the_endpoint(chat_workspace: Workspace) -> None:
    url = f"{chat_workspace.host}/serving-endpoints/{SCRIPTED}"
    with openai.OpenAI(base_url=url, api_key=chat_workspace.token) as client:
        answer = client.chat.completions.create(
            model="whatever", messages=[{"role": "user", "content": "two words"}]
        )

    assert answer.choices[0].message.content == "one two"
    assert answer.model == SCRIPTED


@pytest.mark.operation("openai chat")
@pytest.mark.lakeport
def test_an_agents_loop_runs_to_its_end(sdk: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "how high is the tower?"}]
    height: Any = {
        "type": "function",
        "function": {
            "name": "height",
            "parameters": {"type": "object", "properties": {"of": {"type": "string"}}},
        },
    }
    first = sdk.chat.completions.create(model=SCRIPTED, messages=messages, tools=[height])
    (call,) = first.choices[0].message.tool_calls or []
    assert first.choices[0].finish_reason == "tool_calls"
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("height", {"of": "tower"})

    messages += [
        first.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "330"},
    ]
    last = sdk.chat.completions.create(model=SCRIPTED, messages=messages, tools=[height])

    assert last.choices[0].message.content == "The tower is 330 metres high."
    assert last.choices[0].finish_reason == "stop"


@pytest.mark.operation("openai chat")
@pytest.mark.lakeport
def test_the_openai_client_is_told_what_is_wrong(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="this model cannot call tools"):
        sdk.chat.completions.create(
            model=CLAUDE,
            messages=[{"role": "user", "content": "hi"}],
            tools=[{"type": "function", "function": {"name": "f"}}],
        )
    with pytest.raises(openai.NotFoundError, match="The given endpoint does not exist"):
        sdk.chat.completions.create(model="none", messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(openai.RateLimitError, match=r"Come back later\.") as busy:
        sdk.chat.completions.create(model=SCRIPTED, messages=[{"role": "user", "content": "busy"}])
    assert busy.value.response.headers["retry-after"] == "2"


@pytest.mark.operation("get_langchain_chat_open_ai_client")
@pytest.mark.filterwarnings("ignore:get_langchain_chat_open_ai_client")
def test_langchains_client_chats(chat_client: WorkspaceClient) -> None:
    pytest.importorskip("langchain_openai")

    model = chat_client.serving_endpoints.get_langchain_chat_open_ai_client(CLAUDE)
    answer = model.invoke(STORY, max_tokens=5, temperature=0)

    assert answer.content
    assert answer.usage_metadata["output_tokens"] == 5
