"""Chats over real sockets: the door, the ladder and the OpenAI wire; links that do as told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import openai
import orjson
import pytest
from starlette.types import Receive, Scope, Send

from lakeport.api.app import FrontDoor
from lakeport.api.context import RequestIds
from lakeport.api.invocations import Invocations
from lakeport.api.lane import InvocationLane
from lakeport.api.openai import OpenAI
from lakeport.api.server import make_server
from lakeport.runtimes.base import Answer, Call, StreamFailed
from lakeport.wire.chat import ChatTarget, Task
from tests.unit.api.fakes import FakeEndpoints, FakeTokens, endpoint_named
from tests.unit.gateway.targets import USER, hosted, outside
from tests.unit.serving.chat_link import Words, Workplace

MAX_BODY = 100_000
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
HEADERS = {"authorization": "Bearer ann-token"}


async def _nothing_else(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError(f"{scope['path']} is no chat")


@asynccontextmanager
async def serving(
    respond: Callable[[Call], Answer | Words | None],
    target: ChatTarget | None = None,
    *,
    credit: int = 8,
) -> AsyncIterator[tuple[str, Workplace]]:
    """A server whose endpoint "chat" answers as `respond` says: its base URL, and its inside."""
    place = Workplace(respond, target or outside(), credit=credit)
    endpoints = FakeEndpoints()
    endpoints.found = {"chat": endpoint_named("chat"), "other": endpoint_named("other")}
    invocations = Invocations(place.front, max_body=MAX_BODY)
    app = FrontDoor(
        tokens=FakeTokens(),
        invocations=invocations,
        openai=OpenAI(invocations, place.front, endpoints, max_body=MAX_BODY),
        control_plane=_nothing_else,
        mlflow=None,
        loopback_only=False,
        workspace_id="4711",
        single_endpoint=lambda: None,
        outside_registry=False,
    )
    lane = InvocationLane(
        invoke=place.front,
        tokens=FakeTokens(),
        max_body=MAX_BODY,
        loopback_only=False,
        organisation=(b"x-databricks-org-id", b"4711"),
        single_endpoint=lambda: None,
        request_ids=RequestIds(),
    )
    server = make_server(app, grace=5, lane=lane)
    running = asyncio.create_task(server.serve())
    try:
        await _until(lambda: server.started)
        yield f"http://127.0.0.1:{server.port}/serving-endpoints", place
    finally:
        server.exit()
        await running


async def _until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not fact():  # noqa: ASYNC110 - the server has no event to wait for
            await asyncio.sleep(0.005)


def chunk(text: str, **fields: object) -> bytes:
    document = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "upstream",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }
    return orjson.dumps(document | fields)


USAGE_CHUNK = chunk("", choices=[], usage=USAGE)


def whole(call: Call) -> Answer:
    message = {"role": "assistant", "content": "hello"}
    document = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "/home/engine/model.gguf",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": USAGE,
    }
    return Answer(200, orjson.dumps(document))


def client_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers=HEADERS, connector=aiohttp.TCPConnector(limit=0))


@asynccontextmanager
async def openai_at(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=url, api_key="ann-token", max_retries=0) as client:
        yield client


@pytest.mark.timeout(60)
async def test_two_hundred_streams_at_once_are_neither_cut_nor_reordered() -> None:
    talking = set()

    def respond(call: Call) -> Words:
        words = Words()
        talking.add(asyncio.create_task(talk(words, orjson.loads(call.body)["user"])))
        return words

    async def talk(words: Words, who: str) -> None:
        for number in range(100):
            words.say(chunk(f"{who}:{number}"))
            await asyncio.sleep(0)
        words.say(USAGE_CHUNK, None)

    async with serving(respond, credit=200) as (url, place), client_session() as http:

        async def listen(who: str) -> list[str]:
            body = {"model": "chat", "messages": [USER], "stream": True, "user": who}
            async with http.post(f"{url}/chat/completions", json=body) as reply:
                return (await reply.text()).split("\n\n")

        names = [f"u{number}" for number in range(200)]
        heard = await asyncio.gather(*(listen(name) for name in names))

    for name, events in zip(names, heard, strict=True):
        assert events[-2:] == ["data: [DONE]", ""]
        said = [orjson.loads(event.removeprefix("data: ")) for event in events[:-2]]
        assert [e["choices"][0]["delta"]["content"] for e in said] == [
            f"{name}:{number}" for number in range(100)
        ]
    assert place.link.outstanding == 0


async def test_a_caller_that_hangs_up_is_felt_upstream() -> None:
    words = Words(chunk("a"))

    async with serving(lambda _: words) as (url, place):
        async with client_session() as http:
            body = {"messages": [USER], "stream": True}
            reply = await http.post(f"{url}/chat/invocations", json=body)
            assert await reply.content.readline() == b"data: " + chunk("a") + b"\n"
            assert not words.closed
            reply.close()

            async with asyncio.timeout(1):
                await _until(lambda: words.closed)
        assert place.link.outstanding == 0


async def test_a_caller_that_hangs_up_before_the_first_word_is_felt_upstream() -> None:
    body = {"messages": [USER], "stream": True}

    async with serving(lambda _: None) as (url, place), client_session() as http:
        asking = asyncio.create_task(http.post(f"{url}/chat/invocations", json=body))
        await place.called()
        asking.cancel()

        async with asyncio.timeout(1):
            await place.link.cancelled.wait()


async def test_draining_waits_for_a_stream_to_its_end() -> None:
    words = Words(chunk("a"))

    async with serving(lambda _: words) as (url, place), openai_at(url) as client:
        stream = await client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        assert (await anext(aiter(stream))).choices[0].delta.content == "a"
        place.front.publish({})
        draining = asyncio.create_task(place.front.drain("d1", 30))
        await asyncio.sleep(0.05)
        assert not draining.done()

        words.say(chunk("b"), None)

        assert [event.choices[0].delta.content async for event in stream] == ["b"]
        await asyncio.wait_for(draining, 5)


# --- as the openai SDK sees it ------------------------------------------------------------------


async def test_the_openai_sdk_chats_and_sees_no_engine() -> None:
    async with serving(whole, hosted()) as (url, place), openai_at(url) as client:
        answer = await client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "hi"}]
        )

    assert answer.choices[0].message.content == "hello"
    assert answer.model == "entity"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 10
    assert b"engine" in place.link.calls[0].body


async def test_the_openai_sdk_gets_usage_where_it_asks() -> None:
    words = Words(chunk("a"), USAGE_CHUNK, None)

    async with serving(lambda _: words) as (url, _), openai_at(url) as client:
        stream = await client.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        events = [event async for event in stream]

    assert [event.usage.total_tokens if event.usage else None for event in events] == [None, 10]


async def test_the_openai_sdk_raises_on_a_stream_that_fails() -> None:
    failure = StreamFailed("BAD_GATEWAY", "The server broke off.")

    async with serving(lambda _: Words(chunk("a"), failure)) as (url, _), openai_at(url) as client:
        stream = await client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        with pytest.raises(openai.APIError, match=r"The server broke off\.") as raised:
            [event async for event in stream]

    assert raised.value.code == "BAD_GATEWAY"


@pytest.mark.parametrize(
    ("ask", "refusal", "words"),
    [
        (
            lambda client: client.chat.completions.create(model="none", messages=[USER]),
            openai.NotFoundError,
            "The given endpoint does not exist",
        ),
        (
            lambda client: client.chat.completions.create(model="chat", messages=[]),
            openai.BadRequestError,
            '"messages" must be a list of at least one message',
        ),
        (
            lambda client: client.embeddings.create(model="chat", input=["a"]),
            openai.BadRequestError,
            'does not do embeddings. It takes "messages"',
        ),
    ],
)
async def test_the_openai_sdk_shows_what_is_wrong(
    ask: Callable[[openai.AsyncOpenAI], Awaitable[object]],
    refusal: type[openai.APIStatusError],
    words: str,
) -> None:
    async with serving(whole, hosted()) as (url, _), openai_at(url) as client:
        with pytest.raises(refusal) as raised:
            await ask(client)

    assert words in str(raised.value)


async def test_a_provider_that_is_busy_is_a_rate_limit_to_the_openai_sdk() -> None:
    body = b'{"error": {"message": "slow down", "type": "requests", "code": "rate_limit"}}'

    busy = Answer(429, body, retry_after=7)

    async with serving(lambda _: busy) as (url, _), openai_at(url) as client:
        with pytest.raises(openai.RateLimitError, match="slow down") as raised:
            await client.chat.completions.create(
                model="chat", messages=[{"role": "user", "content": "hi"}]
            )

    assert raised.value.response.headers["retry-after"] == "7"
    assert raised.value.code == "rate_limit"


async def test_the_openai_sdk_embeds() -> None:
    def respond(call: Call) -> Answer:
        asked = orjson.loads(call.body)
        assert asked["encoding_format"] == "base64"  # as the SDK asks by itself
        vectors = [
            {"object": "embedding", "index": i, "embedding": "AACAPwAAAEA="}
            for i in range(len(asked["input"]))
        ]
        document = {"object": "list", "model": "e", "data": vectors, "usage": USAGE}
        return Answer(200, orjson.dumps(document))

    async with serving(respond, hosted(Task.EMBEDDINGS)) as (url, _), openai_at(url) as client:
        answer = await client.embeddings.create(model="chat", input=["a", "b"])

    assert [item.embedding for item in answer.data] == [[1.0, 2.0], [1.0, 2.0]]
    assert answer.model == "entity"


async def test_the_openai_sdk_lists_what_it_may_query() -> None:
    async with serving(whole) as (url, _), openai_at(url) as client:
        models = [model.id async for model in client.models.list()]

    assert models == ["chat"]
