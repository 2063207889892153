"""Chat models and agents from the registry, through clients that know nothing of Lakeport."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from databricks.sdk.errors import BadRequest
from databricks.sdk.service.serving import ChatMessage, ChatMessageRole, ServingEndpointsAPI

from tests.contract.endpoints import Deploy, entity, settled
from tests.contract.workspace import Workspace, until

MODELS = ("chat_model", "chat_counts", "chat_agent", "responses_agent")
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
FAIL: list[Any] = [{"role": "user", "content": "fail"}]
ASKED: dict[str, Any] = {"include_usage": True}
INPUT = {"input": HELLO, "custom_inputs": {"a": 1}}


@pytest.fixture(scope="module")
def models(api: ServingEndpointsAPI, workspace: Workspace, deploy_shared: Deploy) -> dict[str, str]:
    """An endpoint for each of MODELS, by the model's name."""
    if workspace.home is None:
        pytest.skip("the real workspace has none of these models")
    made = {
        model: deploy_shared(model.replace("_", "-"), entity(model, "1", "served"), wait=False)
        for model in MODELS
    }
    for name in made.values():
        settled(api, name)
    return made


@pytest.fixture
def deployments(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = pytest.importorskip("mlflow.deployments")
    monkeypatch.setenv("DATABRICKS_HOST", workspace.host)
    monkeypatch.setenv("DATABRICKS_TOKEN", workspace.token)
    return found.get_deploy_client("databricks")


@pytest.fixture
def openai(workspace: Workspace) -> Iterator[Any]:
    """The openai client, as an application makes it."""
    found = pytest.importorskip("openai")
    base_url = f"{workspace.host}/serving-endpoints"
    with found.OpenAI(api_key=workspace.token, base_url=base_url, max_retries=0) as client:
        yield client


@pytest.fixture
def langchain(workspace: Workspace) -> Any:
    found = pytest.importorskip("langchain_openai")

    def make(model: str) -> Any:
        return found.ChatOpenAI(
            model=model,
            api_key=workspace.token,
            base_url=f"{workspace.host}/serving-endpoints",
            max_retries=0,
        )

    return make


# --- what they are ------------------------------------------------------------------------------


@pytest.mark.operation("get", "list")
@pytest.mark.lakeport
def test_the_task_is_what_the_model_says(
    api: ServingEndpointsAPI, models: dict[str, str], iris: str, chat: str
) -> None:
    tasks = {
        models["chat_model"]: "agent/v1/chat",
        models["chat_counts"]: "agent/v1/chat",
        models["chat_agent"]: "agent/v2/chat",
        models["responses_agent"]: "agent/v1/responses",
        iris: None,
        chat: None,  # it takes messages, and says nothing of it: it has no signature either
    }

    assert {name: api.get(name).task for name in tasks} == tasks
    assert {found.name: found.task for found in api.list() if found.name in tasks} == tasks


# --- databricks-sdk -----------------------------------------------------------------------------


@pytest.mark.operation("query", "query chat models")
@pytest.mark.lakeport
def test_a_query_reads_the_answer_and_its_tokens(
    api: ServingEndpointsAPI, models: dict[str, str]
) -> None:
    asked = [ChatMessage(role=ChatMessageRole.USER, content="hello")]

    own = api.query(models["chat_counts"], messages=asked, max_tokens=50, temperature=0.5)
    estimated = api.query(models["chat_model"], messages=asked)

    assert own.choices is not None
    assert own.choices[0].message is not None
    assert own.choices[0].message.content == "Well counted"
    assert own.usage is not None
    assert (own.usage.prompt_tokens, own.usage.total_tokens) == (5, 7)
    assert (own.model, own.served_model_name) == ("counter", "served")
    assert estimated.usage is not None
    assert (estimated.usage.prompt_tokens, estimated.usage.completion_tokens) == (1, 4)


@pytest.mark.operation("query")
@pytest.mark.lakeport
def test_a_query_that_does_not_fit_says_why(
    api: ServingEndpointsAPI, models: dict[str, str]
) -> None:
    with pytest.raises(BadRequest, match="Model is missing inputs"):
        api.query(models["chat_model"], prompt="hello")


# --- plain HTTP ---------------------------------------------------------------------------------


@pytest.mark.operation("invocations", "query chat models")
@pytest.mark.lakeport
def test_an_estimate_says_that_it_is_one(http: httpx.Client, models: dict[str, str]) -> None:
    path = "/serving-endpoints/{}/invocations"

    own = http.post(path.format(models["chat_counts"]), json={"messages": HELLO}).json()
    estimated = http.post(path.format(models["chat_model"]), json={"messages": HELLO}).json()

    assert "estimated" not in own["usage"]
    assert estimated["usage"]["estimated"] is True


@pytest.mark.operation("invocations", "query agents")
@pytest.mark.lakeport
def test_agents_answer_in_their_own_form(http: httpx.Client, models: dict[str, str]) -> None:
    path = "/serving-endpoints/{}/invocations"
    body = {"messages": HELLO, "context": {"user_id": "ann"}, "custom_inputs": {"a": 1}}

    chat = http.post(path.format(models["chat_agent"]), json=body).json()
    responses = http.post(path.format(models["responses_agent"]), json=INPUT).json()

    assert chat.keys() == {"messages", "finish_reason", "custom_outputs", "usage"}
    assert chat["custom_outputs"] == {"custom_inputs": {"a": 1}, "user": "ann"}
    assert responses.keys() == {"object", "output", "custom_outputs"}


@pytest.mark.operation("invocations", "query agents")
@pytest.mark.lakeport
@pytest.mark.parametrize("route", ["{}/invocations", "{}/chat/completions"])
def test_a_stream_that_fails_ends_with_the_error(
    http: httpx.Client, models: dict[str, str], route: str
) -> None:
    body = {"messages": FAIL, "stream": True}
    path = "/serving-endpoints/" + route.format(models["chat_model"])

    lines = http.post(path, json=body).text.splitlines()

    assert [line[:6] for line in lines if line] == ["data: "] * 2
    assert lines[2].startswith('data: {"error":')
    assert "[DONE]" not in lines[2]


@pytest.mark.operation("query chat models")
@pytest.mark.lakeport
def test_a_caller_that_hangs_up_ends_the_models_stream(
    http: httpx.Client, api: ServingEndpointsAPI, models: dict[str, str]
) -> None:
    body = {"messages": [{"role": "user", "content": "for ever"}], "stream": True}
    path = f"/serving-endpoints/{models['chat_model']}/chat/completions"

    with http.stream("POST", path, json=body) as answer:
        assert next(answer.iter_lines()).startswith("data: ")

    def told() -> bool:
        return "the caller has gone" in api.logs(models["chat_model"], "served").logs

    assert until("the end of the model's generator", told, 2)


# --- mlflow.deployments -------------------------------------------------------------------------


@pytest.mark.operation("deployments.predict", "deployments.predict_stream", "query agents")
@pytest.mark.lakeport
def test_mlflows_client_predicts_and_streams(deployments: Any, models: dict[str, str]) -> None:
    chat, agent = models["chat_model"], models["chat_agent"]
    body = {"messages": HELLO}

    whole = deployments.predict(endpoint=chat, inputs=body)
    chunks = list(deployments.predict_stream(endpoint=chat, inputs=body))
    agents = list(deployments.predict_stream(endpoint=agent, inputs=body))
    events = list(deployments.predict_stream(endpoint=models["responses_agent"], inputs=INPUT))

    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert said == whole["choices"][0]["message"]["content"] == "You said: hello"
    assert all("usage" not in chunk for chunk in chunks)
    assert [chunk.keys() for chunk in agents] == [{"delta"}] * len(agents)
    assert [event["type"] for event in events][-2:] == [
        "response.output_item.done",
        "response.completed",
    ]


# --- openai -------------------------------------------------------------------------------------


@pytest.mark.operation("query chat models")
@pytest.mark.lakeport
def test_openai_reads_a_chat_models_answer(openai: Any, models: dict[str, str]) -> None:
    model = models["chat_model"]

    answer = openai.chat.completions.create(model=model, messages=HELLO, stream=False)
    own = openai.chat.completions.create(model=models["chat_counts"], messages=HELLO)

    assert answer.choices[0].message.content == "You said: hello"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.model, answer.object) == (model, "chat.completion")
    assert answer.usage.total_tokens == 5
    assert answer.usage.estimated is True
    assert (own.id, own.model, own.usage.total_tokens) == ("chat-1", "counter", 7)


@pytest.mark.operation("query chat models")
@pytest.mark.lakeport
@pytest.mark.parametrize("options", [{}, {"stream_options": ASKED}])
def test_openai_reads_a_chat_models_stream(
    openai: Any, models: dict[str, str], options: dict[str, Any]
) -> None:
    model = models["chat_model"]

    stream = openai.chat.completions.create(model=model, messages=HELLO, stream=True, **options)
    chunks = list(stream)

    words = [chunk for chunk in chunks if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in words) == "You said: hello"
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.model for chunk in chunks} == {model}
    counted = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert [usage.total_tokens for usage in counted] == ([5] if options else [])


@pytest.mark.operation("query chat models")
@pytest.mark.lakeport
def test_openais_own_reader_of_streams_puts_the_answer_together(
    openai: Any, models: dict[str, str]
) -> None:
    with openai.chat.completions.stream(model=models["chat_counts"], messages=HELLO) as stream:
        answer = stream.get_final_completion()

    assert answer.choices[0].message.content == "Well counted"
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.operation("query chat models")
@pytest.mark.lakeport
@pytest.mark.parametrize("model", ["chat_model", "chat_agent"])
def test_openai_raises_in_mid_stream(openai: Any, models: dict[str, str], model: str) -> None:
    from openai import APIError

    chunks = []
    with pytest.raises(APIError, match="unexpected error while evaluating the model") as failed:  # noqa: PT012
        stream = openai.chat.completions.create(model=models[model], messages=FAIL, stream=True)
        for chunk in stream:
            chunks.append(chunk)  # noqa: PERF402  those that came before it raised

    assert chunks
    assert (failed.value.type, failed.value.code) == ("bad_request", "BAD_REQUEST")


@pytest.mark.operation("query chat models")
@pytest.mark.lakeport
def test_openai_raises_what_comes_before_a_stream(openai: Any, models: dict[str, str]) -> None:
    from openai import BadRequestError

    first = [{"role": "user", "content": "fail first"}]
    with pytest.raises(BadRequestError, match="unexpected error while evaluating the model"):
        openai.chat.completions.create(model=models["chat_model"], messages=first, stream=True)
    with pytest.raises(BadRequestError, match="Model is missing inputs"):
        openai.chat.completions.create(model=models["responses_agent"], messages=HELLO)


@pytest.mark.operation("query agents")
@pytest.mark.lakeport
def test_openai_reads_an_agent(openai: Any, models: dict[str, str]) -> None:
    agent = models["chat_agent"]
    more = {"custom_inputs": {"a": 1}, "databricks_options": {"return_trace": True}}

    answer = openai.chat.completions.create(model=agent, messages=HELLO, extra_body=more)
    chunks = list(openai.chat.completions.create(model=agent, messages=HELLO, stream=True))

    assert answer.choices[0].message.content == "It is 330 m high."
    assert [message["role"] for message in answer.messages] == ["assistant", "tool", "assistant"]
    assert answer.custom_outputs["custom_inputs"] == {"a": 1}
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == "It is 330 m high."
    assert "".join(c.delta["content"] for c in chunks if c.delta["role"] == "assistant") == said
    assert chunks[-1].choices[0].finish_reason == "stop"


# --- langchain-openai ---------------------------------------------------------------------------


@pytest.mark.operation("query chat models", "query agents")
@pytest.mark.lakeport
def test_langchain_chats_with_them(langchain: Any, models: dict[str, str]) -> None:
    chat, agent = langchain(models["chat_counts"]), langchain(models["chat_agent"])

    answer, aside = chat.invoke("hello"), agent.invoke("hello")
    streamed = list(chat.stream("hello", stream_usage=True))
    pieces = list(agent.stream("hello"))

    assert (answer.content, answer.usage_metadata["total_tokens"]) == ("Well counted", 7)
    assert (aside.content, aside.tool_calls) == ("It is 330 m high.", [])
    assert "".join(chunk.content for chunk in streamed) == "Well counted"
    counted = [chunk.usage_metadata for chunk in streamed if chunk.usage_metadata]
    assert [usage["total_tokens"] for usage in counted] == [7]
    assert "".join(chunk.content for chunk in pieces) == "It is 330 m high."


@pytest.mark.operation("query chat models")
@pytest.mark.lakeport
def test_langchain_takes_a_chat_models_calls_of_tools(
    langchain: Any, models: dict[str, str]
) -> None:
    function = {
        "name": "height",
        "description": "How high it is.",
        "parameters": {
            "type": "object",
            "properties": {"of": {"type": "string"}},
            "required": ["of"],
        },
    }
    tools = [{"type": "function", "function": function}]

    answer = langchain(models["chat_counts"]).bind_tools(tools).invoke("How high is the tower?")

    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("height", {"of": "tower"})
