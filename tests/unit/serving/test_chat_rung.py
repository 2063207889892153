"""The ladder's chat rung: what reaches a replica, what comes back, what a stream holds."""

import asyncio
import gzip
import logging
from collections import Counter
from typing import Any, NoReturn, cast

import orjson
import pytest

from lakeport.auth.callers import Level
from lakeport.errors import (
    ApiError,
    BadGateway,
    BadRequest,
    DeadlineExceeded,
    Internal,
    InvalidParameter,
    MalformedRequest,
    PermissionDenied,
    TooLarge,
    TooManyRequests,
    Unavailable,
)
from lakeport.runtimes.base import Answer, Call, ReplicaLost, StreamFailed
from lakeport.serving.ports import Reply, StreamReply
from lakeport.wire.chat import Operation
from tests.unit.gateway.targets import USER, chat, hosted, outside
from tests.unit.serving.chat_link import ANN, Words, Workplace, ask

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
CHAT = orjson.dumps(chat())
STREAM = orjson.dumps(chat(stream=True))


def chunk(text: str) -> bytes:
    return orjson.dumps({"model": "m", "choices": [{"delta": {"content": text}}]})


USAGE_CHUNK = orjson.dumps({"model": "m", "choices": [], "usage": USAGE})


async def streamed(place: Workplace, body: bytes = STREAM) -> StreamReply:
    reply = await place.front.invoke(ANN, ask(body))
    assert isinstance(reply, StreamReply)
    return reply


async def said(reply: StreamReply) -> list[Any]:
    return [orjson.loads(event) async for event in reply.events]


def tokens(place: Workplace) -> tuple[int, int]:
    (entity,) = place.metrics.of("chat")
    return entity.prompt_tokens, entity.completion_tokens


def statuses(place: Workplace) -> dict[str, int]:
    (entity,) = place.metrics.of("chat")
    counted = Counter[str]()
    for status, count in entity.statuses.items():
        counted[f"{status // 100}xx"] += count
    return dict(counted)


# --- faults of ours -----------------------------------------------------------------------------


async def test_an_answer_that_cannot_be_read_ends_its_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = Workplace(lambda _: Answer(cast("int", None), b""), hosted())

    with caplog.at_level(logging.CRITICAL, logger="lakeport"), pytest.raises(Internal):
        await asyncio.wait_for(place.front.invoke(ANN, ask(CHAT)), 10)

    load = place.front.load("d1")
    assert load is not None
    assert (load.in_flight, statuses(place)) == (0, {"5xx": 1})


class NoTracer:
    """It fails at everything."""

    def begin(self, traceparent: str | None, endpoint: str, request_id: str) -> NoReturn:
        raise RuntimeError("a secret of the inside")

    def close(self) -> None:
        """There is nothing to be sent."""


async def test_a_call_that_cannot_be_traced_gives_back_its_lease(
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = Workplace(lambda _: Answer(200, b"{}"), hosted(), tracer=NoTracer())

    with caplog.at_level(logging.CRITICAL, logger="lakeport"), pytest.raises(Internal):
        await place.front.invoke(ANN, ask(CHAT))

    load = place.front.load("d1")
    assert load is not None
    assert load.in_flight == 0


# --- whole answers ------------------------------------------------------------------------------


async def test_a_replica_gets_the_final_body_and_the_caller_its_answer() -> None:
    place = Workplace(
        lambda _: Answer(200, orjson.dumps({"model": "/m.gguf", "usage": USAGE})), hosted()
    )

    reply = await place.front.invoke(ANN, ask(CHAT))

    (call,) = place.link.calls
    assert orjson.loads(call.body) == {"messages": [USER], "model": "engine"}
    assert (call.operation, call.stream) == (Operation.CHAT, False)
    assert (call.content_type, call.content_encoding) == ("application/json", None)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.served_entity) == (200, "entity")
    assert orjson.loads(reply.body) == {"model": "entity", "usage": USAGE}
    assert tokens(place) == (7, 3)


async def test_a_model_in_a_worker_gets_every_body_unread() -> None:
    place = Workplace(lambda call: Answer(200, call.body), None)

    reply = await place.front.invoke(
        ANN, ask(b"\xffno json", content_encoding="gzip", operation=Operation.CHAT)
    )

    (call,) = place.link.calls
    assert isinstance(reply, Reply)
    assert reply.body == b"\xffno json"
    assert (call.operation, call.stream, call.content_encoding) == (None, False, "gzip")


async def test_a_body_that_the_door_has_read_is_not_read_again() -> None:
    place = Workplace(lambda call: Answer(200, call.body), outside())

    await place.front.invoke(ANN, ask(b"broken", operation=Operation.CHAT, document=chat(n=2)))

    assert orjson.loads(place.link.calls[0].body) == chat(n=2, model="gpt-x")


async def test_a_packed_body_is_read_within_its_bound() -> None:
    place = Workplace(lambda call: Answer(200, call.body), outside())
    await place.front.invoke(ANN, ask(gzip.compress(CHAT), content_encoding="gzip"))
    bomb = gzip.compress(b" " * 100_001)

    with pytest.raises(TooLarge):
        await place.front.invoke(ANN, ask(bomb, content_encoding="gzip"))

    assert len(place.link.calls) == 1


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (b"{", MalformedRequest),
        (b'{"messages":[]}', InvalidParameter),
        (b'{"inputs":[1]}', BadRequest),
        (orjson.dumps(chat(tools=[{}])), InvalidParameter),
    ],
)
async def test_a_wrong_body_is_refused_before_any_replica_sees_it(
    body: bytes, refusal: type[ApiError]
) -> None:
    place = Workplace(lambda call: Answer(200, call.body), hosted())
    await asyncio.sleep(0)

    with pytest.raises(refusal) as raised:
        await place.front.invoke(ANN, ask(body))

    assert raised.value.served_entity == "entity"
    await asyncio.sleep(0.01)  # the link is there, and has got nothing
    assert not place.link.calls
    assert statuses(place) == {"4xx": 1}
    await asyncio.wait_for(place.front.drain("d1", 5), 5)  # it holds no lease


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        ("BAD_GATEWAY", BadGateway),
        ("TEMPORARILY_UNAVAILABLE", Unavailable),
        ("DEADLINE_EXCEEDED", DeadlineExceeded),
        ("REQUEST_LIMIT_EXCEEDED", TooManyRequests),
        ("SOMETHING_ELSE", Internal),
    ],
)
@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_a_links_finding_is_an_error_of_ours(
    code: str, refusal: type[ApiError], body: bytes
) -> None:
    answer = Answer(500, b"", error=(code, "why"), retry_after=9)
    place = Workplace(lambda _: answer, outside())

    with pytest.raises(refusal, match="why") as raised:
        await place.front.invoke(ANN, ask(body))

    assert raised.value.retry_after == 9


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_an_outside_servers_refusal_is_handed_on(body: bytes) -> None:
    refusal = b'{"error": {"message": "slow down", "type": "rate_limit"}}'
    place = Workplace(lambda _: Answer(429, refusal, retry_after=7), outside())

    reply = await place.front.invoke(ANN, ask(body))

    assert isinstance(reply, Reply)
    assert (reply.status, reply.body, reply.retry_after) == (429, refusal, 7)
    assert statuses(place) == {"4xx": 1}


async def test_an_engines_refusal_is_worded_as_databricks_does() -> None:
    place = Workplace(
        lambda _: Answer(400, b'{"error": {"message": "the context is full"}}'), hosted()
    )

    with pytest.raises(BadRequest, match="the context is full"):
        await place.front.invoke(ANN, ask(CHAT))


async def test_a_call_that_hangs_is_cancelled_with_its_caller() -> None:
    place = Workplace(lambda _: None, outside())
    asking = asyncio.create_task(place.front.invoke(ANN, ask(STREAM)))
    await place.called()

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert place.link.cancelled.is_set()
    assert place.link.outstanding == 0
    await asyncio.wait_for(place.front.drain("d1", 5), 5)


# --- streams ------------------------------------------------------------------------------------


async def test_a_stream_comes_in_order_and_without_the_usage_that_nobody_asked_for() -> None:
    words = Words(*(chunk(str(i)) for i in range(50)), USAGE_CHUNK, None)
    place = Workplace(lambda _: words, outside())

    events = await said(await streamed(place))

    (call,) = place.link.calls
    assert (call.stream, orjson.loads(call.body)["stream_options"]) == (
        True,
        {"include_usage": True},
    )
    assert [e["choices"][0]["delta"]["content"] for e in events] == [str(i) for i in range(50)]
    assert tokens(place) == (7, 3)
    assert statuses(place) == {"2xx": 1}


async def test_usage_that_was_asked_for_comes_last() -> None:
    place = Workplace(lambda _: Words(chunk("a"), USAGE_CHUNK, None), hosted())
    body = orjson.dumps(chat(stream=True, stream_options={"include_usage": True}))

    events = await said(await streamed(place, body))

    assert [e.get("usage") for e in events] == [None, USAGE]
    assert {e["model"] for e in events} == {"entity"}


@pytest.mark.parametrize(
    ("failure", "code"),
    [(StreamFailed("BAD_GATEWAY", "it broke off"), "BAD_GATEWAY"), (ReplicaLost(), "INTERNAL")],
)
async def test_a_stream_that_fails_ends_with_an_error_in_openais_form(
    failure: Exception, code: str
) -> None:
    words = Words(chunk("a"), failure)
    place = Workplace(lambda _: words, hosted())

    first, last = await said(await streamed(place))

    assert first["choices"]
    assert set(last) == {"error"}
    assert set(last["error"]) == {"message", "type", "code"}
    assert last["error"]["code"].startswith(code)
    assert statuses(place) == {"5xx": 1}
    assert place.link.outstanding == 0


async def test_a_caller_that_hangs_up_cancels_the_stream() -> None:
    words = Words(chunk("a"))
    place = Workplace(lambda _: words, outside())
    reply = await streamed(place)
    assert await anext(aiter(reply.events)) == chunk("a")

    reply.events.close()

    assert words.closed
    assert place.link.outstanding == 0
    assert statuses(place) == {"4xx": 1}


async def test_a_stream_that_comes_as_its_caller_gives_up_is_closed() -> None:
    words = Words(chunk("a"))
    place = Workplace(lambda _: words, outside())
    asking = asyncio.create_task(place.front.invoke(ANN, ask(STREAM)))
    await place.called()

    # The answer is set, and the caller gone, before the one who waits runs again.
    asyncio.get_running_loop().call_soon(asking.cancel)
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert words.closed
    assert place.link.outstanding == 0


async def test_draining_waits_for_a_stream() -> None:
    words = Words(chunk("a"))
    place = Workplace(lambda _: words, outside())
    reply = await streamed(place)
    draining = asyncio.create_task(place.front.drain("d1", 30))
    rest = asyncio.create_task(said(reply))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not draining.done()

    words.say(chunk("b"), None)

    assert len(await rest) == 2
    await asyncio.wait_for(draining, 5)


async def test_two_hundred_streams_at_once_are_neither_cut_nor_reordered() -> None:
    talking = set()

    def respond(call: Call) -> Words:
        words = Words()
        talking.add(asyncio.create_task(talk(words, orjson.loads(call.body)["user"])))
        return words

    async def talk(words: Words, who: str) -> None:
        for i in range(100):
            words.say(chunk(f"{who}:{i}"))
            await asyncio.sleep(0)
        words.say(USAGE_CHUNK, None)

    async def listen(who: str) -> list[str]:
        events = await said(await streamed(place, orjson.dumps(chat(stream=True, user=who))))
        return [event["choices"][0]["delta"]["content"] for event in events]

    place = Workplace(respond, outside(), credit=200)
    names = [f"u{i}" for i in range(200)]

    heard = await asyncio.gather(*(listen(name) for name in names))

    assert heard == [[f"{name}:{i}" for i in range(100)] for name in names]
    assert tokens(place) == (1400, 600)
    assert place.link.outstanding == 0


# --- who may ------------------------------------------------------------------------------------


async def test_only_those_who_may_query_see_an_endpoint_among_the_models() -> None:
    place = Workplace(lambda call: Answer(200, call.body), outside())
    assert place.front.queryable(ANN) == ["chat"]

    place.front.publish({"chat": place.route(Level.CAN_VIEW)})

    assert place.front.queryable(ANN) == []


async def test_a_caller_without_the_right_learns_nothing_of_its_body() -> None:
    place = Workplace(lambda call: Answer(200, call.body), outside())
    place.front.publish({"chat": place.route(Level.CAN_VIEW)})

    with pytest.raises(PermissionDenied):
        await place.front.invoke(ANN, ask(b"{"))
