"""Both clients against a real Lakeport: models behind endpoints, scripted chats, what fails."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lakeport import (
    AsyncClient,
    BadRequest,
    Chat,
    Client,
    InvalidInput,
    NotFound,
    Prediction,
    RateLimited,
    Retry,
    Unauthenticated,
    Usage,
)
from tests.integration.server import ServerProcess, closing
from tests.models.fixtures import SavedModel

COLUMNS = [f"{part} {size} (cm)" for part in ("sepal", "petal") for size in ("length", "width")]
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0]]
SCRIPT = """
rules:
  - match: "busy"
    status: 429
    retry_after: 1
  - match: "wrong"
    status: 400
    message: "I will not."
  - match: "weather in (\\\\w+)"
    tool_calls: [{name: weather, arguments: {place: Rome}}]
  - match: "hello"
    reply: "Hello to you."
    usage: {prompt_tokens: 3, completion_tokens: 4}
default: "I have no words for that."
"""


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, saved_model: SavedModel
) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("client")
    script = folder / "script.yml"
    script.write_text(SCRIPT)
    made = ServerProcess(
        folder / "home",
        registry="off",
        env_manager="local",
        models={"iris": saved_model("iris"), "plain": saved_model("no_signature")},
        chat=f"bot=scripted:{script}",
    )
    with closing(made):
        made.start()
        for name in ("iris", "plain"):
            made.updated(name)
        yield made


@pytest.fixture(scope="module")
def host(server: ServerProcess) -> str:
    return str(server.client.base_url).rstrip("/")


@pytest.fixture(scope="module")
def client(server: ServerProcess, host: str) -> Iterator[Client]:
    with Client(host, server.token) as client:
        yield client


#: Calls a method of one of the clients.
Call = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, server: ServerProcess, host: str, client: Client) -> Call:
    async def waiting(method: str, *arguments: Any, **options: Any) -> Any:
        async with AsyncClient(host, server.token) as other:
            found = getattr(other, method)(*arguments, **options)
            if method == "stream_chat":
                return [chunk async for chunk in found]
            return await found

    def blocking(method: str, *arguments: Any, **options: Any) -> Any:
        found = getattr(client, method)(*arguments, **options)
        return list(found) if method == "stream_chat" else found

    if request.param == "sync":
        return blocking
    return lambda *given, **options: asyncio.run(waiting(*given, **options))


# --- inspect ----------------------------------------------------------------------------------


def test_the_list(call: Call) -> None:
    listed = {endpoint.name: endpoint for endpoint in call("list")}

    assert listed.keys() == {"iris", "plain", "bot"}
    assert listed["iris"].ready
    assert listed["bot"].task == "llm/v1/chat"


def test_details(call: Call, host: str) -> None:
    endpoint = call("get", "iris")

    (served,) = endpoint.entities
    assert endpoint.traffic == {served.name: 100}
    assert (served.kind, served.state) == ("custom", "DEPLOYMENT_READY")
    assert endpoint.url == f"{host}/serving-endpoints/iris/invocations"
    assert (endpoint.permission, endpoint.config_version) == ("CAN_MANAGE", 1)


def test_a_signature_of_the_page(call: Call) -> None:
    signature = call("signature", "iris")

    assert list(signature.names) == COLUMNS
    assert {column.type for column in signature.inputs} == {"double"}
    assert signature.entity == call("get", "iris").entities[0].name


def test_the_example_of_a_signature_is_a_body_that_the_model_takes(call: Call) -> None:
    signature = call("signature", "iris")

    assert len(call("predict", "iris", body=signature.example)) >= 1


def test_a_model_without_a_signature(call: Call) -> None:
    with pytest.raises(NotFound, match="no signature"):
        call("signature", "plain")


# --- query ------------------------------------------------------------------------------------

FORMS: dict[str, dict[str, Any]] = {
    "frame": {"data": pd.DataFrame(ROWS, columns=COLUMNS)},
    "array": {"data": np.array(ROWS)},
    "records": {"records": [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]},
    "columns": {"columns": {c: [row[n] for row in ROWS] for n, c in enumerate(COLUMNS)}},
    "rows": {"rows": ROWS},
    "list of rows": {"data": ROWS},
    "body": {"body": {"dataframe_split": {"columns": COLUMNS, "data": ROWS}}},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_input_gives_the_same(call: Call, form: str) -> None:
    answer = call("query", "iris", **FORMS[form])

    assert isinstance(answer, Prediction)
    assert answer.predictions == [0, 2]
    assert answer.served_entity
    assert answer.request_id
    assert answer.seconds > 0


def test_one_entity_whatever_the_traffic(call: Call) -> None:
    name = call("get", "iris").entities[0].name

    assert call("query", "iris", rows=ROWS, entity=name).served_entity == name
    with pytest.raises(NotFound, match="nobody"):
        call("query", "iris", rows=ROWS, entity="nobody")


def test_an_input_that_does_not_fit_is_refused_before_it_is_sent(call: Call) -> None:
    frame = pd.DataFrame(ROWS, columns=["sepal lenght (cm)", *COLUMNS[1:]])

    with pytest.raises(InvalidInput, match=r"sepal length \(cm\)") as caught:
        call("predict", "iris", frame)

    assert caught.value.problems[0].column == "sepal length (cm)"
    assert caught.value.attempts == 0


def test_and_by_the_server_when_it_is_sent_all_the_same(call: Call) -> None:
    with pytest.raises(BadRequest, match="enforce schema") as caught:
        call("predict", "iris", records=[{"a": 1.0}], validate=False)

    assert not isinstance(caught.value, InvalidInput)
    assert (caught.value.status, caught.value.endpoint) == (400, "iris")
    assert caught.value.request_id


# --- chat -------------------------------------------------------------------------------------


def test_a_chat(call: Call) -> None:
    answer = call("chat", "bot", [{"role": "user", "content": "hello"}], temperature=0.1)

    assert isinstance(answer, Chat)
    assert (answer.text, answer.finish_reason) == ("Hello to you.", "stop")
    assert answer.usage == Usage(3, 4, 7)


def test_a_conversation_goes_on_with_its_answers(call: Call) -> None:
    first = call("chat", "bot", "hello")

    second = call("chat", "bot", [{"role": "user", "content": "hello"}, first, "more"][:2])

    assert second.text


def test_calls_of_tools(call: Call) -> None:
    answer = call("chat", "bot", "weather in Rome", tools=[
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    ])  # fmt: skip

    assert [(each.name, each.arguments) for each in answer.tool_calls] == [
        ("weather", '{"place": "Rome"}')
    ]


def test_a_stream(call: Call) -> None:
    chunks = call("stream_chat", "bot", "hello", stream_options={"include_usage": True})

    assert "".join(chunk.text for chunk in chunks) == "Hello to you."
    assert "stop" in {chunk.finish_reason for chunk in chunks}
    assert chunks[-1].usage == Usage(3, 4, 7)


def test_a_query_knows_what_a_string_is(call: Call) -> None:
    assert call("query", "bot", "hello").text == "Hello to you."


def test_a_stream_that_is_refused(call: Call) -> None:
    with pytest.raises(BadRequest, match="I will not"):
        call("stream_chat", "bot", "wrong")


def test_limits(call: Call) -> None:
    with pytest.raises(RateLimited) as caught:
        call("chat", "bot", "busy", retry=Retry(attempts=1))

    assert caught.value.retry_after == 1


# --- what fails -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get", "signature", "wait_until_ready"])
def test_an_endpoint_that_is_not_there(call: Call, method: str) -> None:
    with pytest.raises(NotFound) as caught:
        call(method, "nobody")

    assert caught.value.endpoint == "nobody"


def test_asking_one_that_is_not_there(call: Call) -> None:
    with pytest.raises(NotFound, match="does not exist") as caught:
        call("query", "nobody", inputs=[1])

    assert caught.value.error_code == "ENDPOINT_NOT_FOUND"


def test_a_wrong_token(host: str) -> None:
    with Client(host, "wrong") as client, pytest.raises(Unauthenticated):
        client.list()


# --- together ---------------------------------------------------------------------------------


def test_many_threads(client: Client) -> None:
    found: list[Any] = []

    def work() -> None:
        found.extend(client.predict("iris", rows=ROWS).predictions for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [[0, 2]] * 60


def test_many_tasks(server: ServerProcess, host: str) -> None:
    async def main() -> list[Any]:
        async with AsyncClient(host, server.token) as client:
            answers = await asyncio.gather(*(client.predict("iris", rows=ROWS) for _ in range(50)))
            return [answer.predictions for answer in answers]

    assert asyncio.run(main()) == [[0, 2]] * 50


def test_settings_go_along_to_the_async_client(client: Client) -> None:
    async def main() -> Any:
        async with client.asynchronous() as other:
            return await other.predict("iris", rows=ROWS)

    assert asyncio.run(main()).predictions == [0, 2]
