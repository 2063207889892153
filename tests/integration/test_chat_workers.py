"""Chat models and agents of MLflow's kinds in real workers, behind the real front."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from lakeport.auth.callers import ADMINS, AccessList, Caller
from lakeport.errors import ApiError
from lakeport.runtimes.local.link import UnixConnector
from lakeport.serving.deployment import QueueLimits
from lakeport.serving.invoke import Front
from lakeport.serving.ports import Invocation, Reply, StreamReply
from lakeport.serving.routes import Condition, EndpointRoute, Share
from lakeport.telemetry.metrics import Metrics
from lakeport.wire.chat import Operation
from tests.integration.worker_process import WorkerProcess, worker
from tests.models.fixtures import SavedModel

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADA = Caller("1", "ada", frozenset({ADMINS}))
ASKED = {"include_usage": True}
CHAT = Operation.CHAT
MODELS = (
    "chat_model",
    "chat_counts",
    "chat_whole",
    "chat_agent",
    "chat_python",
    "responses_agent",
)
#: What the models' own ends of a stream may take to be heard of, in seconds.
SOON = 20.0


class Place:
    """A front with an endpoint, named as the model, for each of MODELS: one replica each, with one
    thread, so that a place that is not given back is missed."""

    def __init__(self, workers: dict[str, WorkerProcess]) -> None:
        self.workers = workers
        limits = QueueLimits(requests=100, bytes=1 << 20, ready_wait=20, timeout=20)
        self.front = Front(UnixConnector(), limits, Metrics())
        self.front.publish(
            {
                name: EndpointRoute(
                    name, Condition.SERVING, AccessList(), (Share("entity", name, 100),)
                )
                for name in workers
            }
        )
        for name, found in workers.items():
            self.front.set_replicas(name, {name: found.address})

    async def ask(
        self, model: str, body: dict[str, Any], operation: Operation | None = None
    ) -> Reply | StreamReply:
        """One invocation; `operation`: by that OpenAI route."""
        sent = json.dumps(body if operation is None else {"model": model} | body).encode()
        invocation = Invocation(model, None, sent, "application/json", None, "r", operation)
        return await self.front.invoke(ADA, invocation)

    async def answer(
        self, model: str, body: dict[str, Any], operation: Operation | None = None
    ) -> Any:
        reply = await self.ask(model, body, operation)
        assert isinstance(reply, Reply)
        assert reply.status == 200
        return json.loads(reply.body)

    async def stream(
        self, model: str, body: dict[str, Any], operation: Operation | None = None
    ) -> StreamReply:
        reply = await self.ask(model, body | {"stream": True}, operation)
        assert isinstance(reply, StreamReply)
        return reply

    async def events(
        self, model: str, body: dict[str, Any], operation: Operation | None = None
    ) -> list[Any]:
        reply = await self.stream(model, body, operation)
        return [json.loads(event) async for event in reply.events]

    async def refused(
        self, model: str, body: dict[str, Any], operation: Operation | None = None
    ) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await self.ask(model, body, operation)
        return caught.value

    def leases(self, model: str) -> int:
        return self.front._deployments[model].leases

    async def free(self, model: str) -> None:
        """Returns once the replica's one thread has answered somebody else."""
        await self.answer(model, user("are you there?"))


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]} | more


def text(events: list[Any]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for event in events for choice in event["choices"]
    )


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def place(saved_model: SavedModel) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        workers = await asyncio.gather(
            *(
                stack.enter_async_context(worker(saved_model(name), concurrency=1))
                for name in MODELS
            )
        )
        yield Place(dict(zip(MODELS, workers, strict=True)))


# --- ChatModel ----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [None, CHAT])
async def test_a_chat_model_without_usage_gets_an_estimate(
    place: Place, operation: Operation | None
) -> None:
    answer = await place.answer("chat_model", user("hello", stream=False), operation)

    assert answer["object"] == "chat.completion"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "You said: hello"},
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"] == {
        "prompt_tokens": 1,  # (5 + 1) / 4
        "completion_tokens": 4,  # (15 + 1) / 4
        "total_tokens": 5,
        "estimated": True,
    }
    # Whoever came for a completion finds what every completion has.
    assert answer.get("model") == (None if operation is None else "chat_model")
    assert answer.get("id", "").startswith("chatcmpl-") is (operation is not None)


@pytest.mark.parametrize("operation", [None, CHAT])
async def test_a_chat_model_keeps_what_it_says_of_itself(
    place: Place, operation: Operation | None
) -> None:
    answer = await place.answer("chat_counts", user("hello"), operation)

    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert (answer["id"], answer["model"], answer["created"]) == ("chat-1", "counter", 1)


@pytest.mark.parametrize("operation", [None, CHAT])
@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("chat_counts", {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}),
        (
            "chat_model",
            {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6, "estimated": True},
        ),
    ],
)
async def test_a_stream_has_usage_at_its_end_when_asked_for(
    place: Place, model: str, usage: Any, operation: Operation | None
) -> None:
    unasked = await place.events(model, user("hi there"), operation)
    *words, last = await place.events(model, user("hi there", stream_options=ASKED), operation)

    assert all("usage" not in event for event in unasked + words)
    assert all(event["choices"] for event in unasked + words)
    assert text(words) == text(unasked)
    assert words[-1]["choices"][0]["finish_reason"] == "stop"
    assert (last["choices"], last["usage"]) == ([], usage)
    assert last["object"] == "chat.completion.chunk"
    if operation is not None:
        assert len({event["id"] for event in [*words, last]}) == 1
        assert {event["model"] for event in [*words, last]} == {
            "counter" if model == "chat_counts" else model
        }


async def test_a_chat_models_stream_may_be_empty(place: Place) -> None:
    assert await place.events("chat_model", user("nothing")) == []
    (last,) = await place.events("chat_model", user("nothing", stream_options=ASKED), CHAT)

    assert last["usage"]["completion_tokens"] == 0


async def test_custom_inputs_and_what_is_the_platforms_pass(place: Place) -> None:
    body = user(
        "hello",
        custom_inputs={"deep": {"er": [1]}},
        databricks_options={"return_trace": True},
        client_request_id="mine",
        seed=3,
    )

    assert (await place.answer("chat_model", body, CHAT))["custom_outputs"] == {"deep": {"er": [1]}}


async def test_tools_come_back_as_calls(place: Place) -> None:
    tool = {"type": "function", "function": {"name": "height", "parameters": {"properties": {}}}}

    answer = await place.answer("chat_counts", user("How high?", tools=[tool]), CHAT)

    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "height"


async def test_a_chat_model_that_does_not_stream_says_so(place: Place) -> None:
    assert place.workers["chat_whole"].last["streams"] is False
    assert place.workers["chat_model"].last["streams"] is True

    refused = await place.refused("chat_whole", user("hello", stream=True), CHAT)
    answer = await place.answer("chat_whole", user("hello", stream=False), CHAT)

    assert (refused.status, refused.error_code) == (400, "BAD_REQUEST")
    assert "does not stream" in refused.message
    assert answer["choices"][0]["message"]["content"] == "All at once"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"content": "hello"}]}, "role"),
        (user("hello", max_tokens="many"), "max_tokens"),
        (user("hello", stream_options=[]), "stream_options must be an object"),
        ({"prompt": "hello"}, "messages"),
    ],
)
async def test_bad_requests_are_refused_by_name(
    place: Place, body: dict[str, Any], says: str
) -> None:
    refused = await place.refused("chat_model", body, CHAT)

    assert (refused.status, refused.error_code) == (400, "INVALID_PARAMETER_VALUE")
    assert says in refused.message


# --- a PythonModel ------------------------------------------------------------------------------


async def test_a_python_model_sees_no_model_where_that_names_the_endpoint(place: Place) -> None:
    direct = await place.answer("chat_python", user("hi", model="big", stream=False))
    routed = await place.answer("chat_python", user("hi", stream=False, temperature=0), CHAT)

    assert direct["asked"] == ["messages", "model", "stream"]
    assert direct.keys() == {"choices", "asked", "noted"}
    assert routed["asked"] == ["messages", "stream", "temperature"]
    assert routed["model"] == "chat_python"
    assert "usage" not in routed


async def test_a_call_finds_nothing_of_another_in_its_context(place: Place) -> None:
    answers = [await place.answer("chat_python", user("hi")) for _ in range(3)]

    assert [answer["noted"] for answer in answers] == [None] * 3


async def test_a_python_models_chunks_become_chunks_of_a_completion(place: Place) -> None:
    plain = await place.events("chat_python", user("hi"))
    events = await place.events("chat_python", user("hi"), CHAT)

    assert plain[0] == {"choices": [{"index": 0, "delta": {"content": "You"}}]}
    assert text(events) == text(plain)
    assert {(e["object"], e["model"]) for e in events} == {("chat.completion.chunk", "chat_python")}
    assert len({event["id"] for event in events}) == 1


# --- agents -------------------------------------------------------------------------------------


async def test_a_chat_agent_answers_in_messages(place: Place) -> None:
    body = user("How high?", context={"user_id": "ann"}, custom_inputs={"a": [1]})

    answer = await place.answer("chat_agent", body)

    assert answer.keys() == {"messages", "finish_reason", "custom_outputs", "usage"}
    assert [message["role"] for message in answer["messages"]] == ["assistant", "tool", "assistant"]
    assert answer["messages"][0]["tool_calls"][0]["function"]["name"] == "height"
    assert answer["custom_outputs"] == {"custom_inputs": {"a": [1]}, "user": "ann"}
    assert answer["usage"] == {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}


async def test_a_chat_agent_is_also_a_completion_on_the_openai_route(place: Place) -> None:
    direct = await place.answer("chat_agent", user("How high?"))
    routed = await place.answer("chat_agent", user("How high?", stream=False), CHAT)
    asks = await place.answer("chat_agent", user("ask me"), CHAT)

    assert {name: routed[name] for name in direct} == direct
    (choice,) = routed["choices"]
    assert choice["message"] == {"role": "assistant", "content": "It is 330 m high."}
    assert (routed["object"], routed["model"]) == ("chat.completion", "chat_agent")
    assert asks["choices"][0]["finish_reason"] == "tool_calls"
    assert asks["choices"][0]["message"]["tool_calls"] == asks["messages"][0]["tool_calls"]


async def test_a_chat_agents_stream(place: Place) -> None:
    direct = await place.events("chat_agent", user("How high?"))
    routed = await place.events("chat_agent", user("How high?"), CHAT)

    assert [event.keys() for event in direct] == [{"delta"}] * 5
    assert [event["delta"] for event in routed[:-1]] == [event["delta"] for event in direct]
    assert text(routed) == "It is 330 m high."
    assert routed[-1]["choices"][0]["finish_reason"] == "stop"


async def test_a_responses_agent_answers_and_streams_in_its_own_form(place: Place) -> None:
    body = {"input": [{"role": "user", "content": "hi"}], "custom_inputs": {"a": 1}}

    answer = await place.answer("responses_agent", body)
    events = await place.events("responses_agent", body)

    assert (answer["object"], answer["custom_outputs"]) == ("response", {"a": 1})
    assert answer["output"][0]["content"][0]["text"] == "You said: hi"
    assert [event["type"] for event in events] == [
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_item.done",
        "response.completed",
    ]
    assert "".join(event.get("delta", "") for event in events) == "You said: hi"


async def test_a_responses_agent_wants_input(place: Place) -> None:
    refused = await place.refused("responses_agent", user("hi"), CHAT)

    assert refused.status == 400
    assert "'input'" in refused.message


# --- failures -----------------------------------------------------------------------------------


async def test_a_failure_before_the_first_chunk_is_an_honest_status(place: Place) -> None:
    refused = await place.refused("chat_model", user("fail first", stream=True), CHAT)

    assert (refused.status, refused.error_code) == (400, "BAD_REQUEST")
    assert "/secret/path" not in refused.message
    assert place.leases("chat_model") == 0


@pytest.mark.parametrize(
    ("model", "said"), [("chat_model", "You"), ("chat_agent", "It is 330 m high.")]
)
async def test_a_failure_in_mid_stream_is_the_last_event(
    place: Place, model: str, said: str
) -> None:
    *words, last = await place.events(model, user("fail", stream_options=ASKED), CHAT)

    assert text(words) == said
    assert last.keys() == {"error"}
    assert last["error"].keys() == {"message", "type", "code"}
    assert (last["error"]["type"], last["error"]["code"]) == ("bad_request", "BAD_REQUEST")
    assert "/secret/path" not in last["error"]["message"]
    assert place.leases(model) == 0
    await place.free(model)


async def test_a_worker_that_dies_in_mid_stream_is_the_last_event(saved_model: SavedModel) -> None:
    async with worker(saved_model("chat_model")) as found:
        place = Place({"chat_model": found})
        reply = await place.stream("chat_model", user("for ever"), CHAT)
        await anext(reply.events)

        found.process.kill()
        last = [json.loads(event) async for event in reply.events][-1]

        assert (last["error"]["type"], last["error"]["code"]) == (
            "internal_error",
            "INTERNAL_ERROR",
        )
        assert place.leases("chat_model") == 0


async def test_a_caller_that_hangs_up_ends_the_models_generator(saved_model: SavedModel) -> None:
    async with worker(saved_model("chat_model"), concurrency=1) as found:
        place = Place({"chat_model": found})
        reply = await place.stream("chat_model", user("for ever"), CHAT)
        await anext(reply.events)
        assert place.leases("chat_model") == 1
        gone = time.monotonic()

        reply.events.close()

        assert place.leases("chat_model") == 0
        while "the caller has gone" not in found.said():
            assert time.monotonic() - gone < SOON
            await asyncio.sleep(0.01)
        await place.free("chat_model")


async def test_a_caller_that_hangs_up_before_the_first_chunk_is_not_streamed_to(
    place: Place,
) -> None:
    asking = asyncio.create_task(place.stream("chat_model", user("for ever"), CHAT))
    while place.leases("chat_model") == 0:  # noqa: ASYNC110  there is no event for it
        await asyncio.sleep(0)

    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
    assert place.leases("chat_model") == 0
    await place.free("chat_model")


async def test_a_model_that_will_not_be_interrupted_costs_no_thread(place: Place) -> None:
    for _ in range(3):  # of one thread
        reply = await place.stream("chat_python", user("stubborn"), CHAT)
        await anext(reply.events)
        reply.events.close()

    await place.free("chat_python")
    assert "does not like to be interrupted" in place.workers["chat_python"].said()


async def test_a_drain_waits_for_a_stream(place: Place) -> None:
    reply = await place.stream("chat_python", user("hi"), CHAT)
    first = await anext(reply.events)

    draining = asyncio.create_task(place.front.drain("chat_python", 20))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not draining.done()
    rest = [json.loads(event) async for event in reply.events]
    await draining

    assert text([json.loads(first), *rest]) == "Yousaid:hi"
    place.front.set_replicas("chat_python", {"again": place.workers["chat_python"].address})
