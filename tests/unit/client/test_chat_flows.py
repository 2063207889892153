"""Chat as flows, and streams as bytes."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from lakeport.client import calls_chat
from lakeport.client.answers import Usage
from lakeport.client.calls_chat import ChatReading
from lakeport.client.errors import BadAnswer, LakeportError, RateLimited, ServerError
from lakeport.client.flow import Response
from lakeport.client.retry import Retry
from tests.unit.client.flows import Log, World, reply


def sse(**headers: str) -> Response:
    """The head of a stream."""
    known = {"content-type": "text/event-stream; charset=utf-8", "served-model-name": "bot-1"}
    return Response(200, known | headers, b"")


def chunk(text: str, **more: Any) -> bytes:
    document = {"choices": [{"index": 0, "delta": {"content": text}, **more}]}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def opened(world: World, log: Log | None = None, **options: Any) -> ChatReading:
    flow = calls_chat.open_chat(world.context(Retry(), log=log), "bot", "Hi", options)
    return world.run(flow).reading


def reading(log: Log | None = None, headers: Mapping[str, str] = {}) -> ChatReading:
    return opened(World([sse(**headers)]), log)


def texts(stream: ChatReading) -> list[str]:
    found = []
    while (chunk := stream.next()) is not None:
        found.append(chunk.text)
    return found


def test_a_chat_has_fields_and_options() -> None:
    world = World([reply({"choices": [{"message": {"content": "Hi."}}]})])
    options = {"temperature": 0.5, "max_tokens": None, "timeout": 3.0, "client_request_id": "c"}

    answer = world.run(calls_chat.chat(world.context(), "bot", "Hello", options))

    assert answer.text == "Hi."
    (request,) = world.requests
    assert request.timeout == 3.0
    assert json.loads(request.body or b"") == {
        "messages": [{"role": "user", "content": "Hello"}],
        "temperature": 0.5,
        "client_request_id": "c",
    }


def test_embeddings() -> None:
    world = World([reply({"data": [{"index": 0, "embedding": [1.0]}]})])

    answer = world.run(calls_chat.embed(world.context(), "emb", ["a"], {"dimensions": 1}))

    assert answer.vectors == [[1.0]]
    assert json.loads(world.requests[0].body or b"") == {"input": ["a"], "dimensions": 1}


def test_an_answer_that_is_no_chat() -> None:
    world = World([reply({"predictions": [1]})])

    with pytest.raises(BadAnswer, match="a chat"):
        world.run(calls_chat.chat(world.context(), "bot", "Hello", {}))


def test_a_stream_is_asked_for() -> None:
    world = World([sse()])

    opened(world, temperature=0)

    (request,) = world.requests
    assert request.stream
    assert json.loads(request.body or b"") == {
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0,
        "stream": True,
    }


def test_opening_is_tried_again_by_the_rule() -> None:
    world = World([reply(None, 503), reply(None, 429), sse()])

    opened(world)

    assert len(world.requests) == 3


def test_chunks_come_as_their_events_are_complete() -> None:
    stream = reading()
    whole = chunk("Hel") + chunk("lo", finish_reason="stop")

    stream.feed(whole[:10])
    assert stream.next() is None
    stream.feed(whole[10:])

    assert texts(stream) == ["Hel", "lo"]


def test_nothing_comes_after_the_end() -> None:
    stream = reading()

    stream.feed(chunk("Hi") + DONE + chunk("more"))

    assert stream.done
    assert texts(stream) == ["Hi"]


def test_an_error_event_raises_after_the_chunks_before_it() -> None:
    stream = reading(headers={"x-request-id": "r1"})
    error = json.dumps({"error": {"message": "broke", "code": 429}}).encode()

    stream.feed(chunk("Hel") + b"data: " + error + b"\n\n" + chunk("lo"))

    first = stream.next()
    assert first is not None
    assert first.text == "Hel"
    with pytest.raises(RateLimited, match="broke") as caught:
        stream.next()
    assert (caught.value.endpoint, caught.value.request_id) == ("bot", "r1")
    assert caught.value.attempts == 1
    assert stream.done


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (chunk("Hel"), "no \\[DONE\\]"),
        (b"", "no \\[DONE\\]"),
        (b"data: {broken\n\n", "no JSON"),
        (b"data: 3\n\n", "no JSON object"),
        (b"data: " + b"x" * (17 * 1024 * 1024), "larger"),
    ],
)
def test_a_stream_that_is_none(data: bytes, says: str) -> None:
    stream = reading()
    stream.feed(data)
    stream.feed(None)

    with pytest.raises(BadAnswer, match=says):
        texts(stream)


def test_a_last_event_without_its_blank_line_counts() -> None:
    stream = reading()
    stream.feed(chunk("Hi") + DONE.strip())
    stream.feed(None)

    assert texts(stream) == ["Hi"]


def test_an_answer_that_is_no_stream() -> None:
    stream = reading(headers={"content-type": "application/json"})

    with pytest.raises(BadAnswer, match="application/json"):
        stream.next()


# --- the log ----------------------------------------------------------------------------------


def test_the_log_is_told_once_with_the_whole_text() -> None:
    log = Log()
    stream = reading(log)
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    stream.feed(chunk("Hel") + chunk("lo", finish_reason="stop"))
    stream.feed(b"data: " + json.dumps(usage).encode() + b"\n\n" + DONE)
    texts(stream)

    stream.close()
    stream.close()

    (event,) = log.events
    assert event.answer is not None
    assert (event.served_entity, event.answer.usage) == ("bot-1", Usage(1, 2, 3))
    message = {"role": "assistant", "content": "Hello"}
    assert event.as_record()["response"] == {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]
    }


@pytest.mark.parametrize("answer", [reply(None, 500), reply({"message": "no"}, 400)])
def test_the_log_is_told_of_a_stream_that_never_began(answer: Response) -> None:
    log = Log()

    with pytest.raises(LakeportError):
        opened(World([answer]), log)

    assert [event.error is not None for event in log.events] == [True]


def test_the_log_is_told_of_one_that_broke() -> None:
    log = Log()
    stream = reading(log)
    stream.feed(b'data: {"error": "broke"}\n\n')

    with pytest.raises(ServerError):
        stream.next()
    stream.close()

    assert [type(event.error) for event in log.events] == [ServerError]


def test_a_stream_of_an_agent_of_the_responses_form() -> None:
    said = "Failed to enforce schema of data"
    refused = reply({"error_code": "INVALID_PARAMETER_VALUE", "message": said}, 400)
    shown = reply({"name": "bot", "task": "agent/v1/responses"})
    world = World([refused, shown, sse()])

    stream = opened(world)
    stream.feed(b'data: {"type": "response.output_text.delta", "delta": "Hi"}\n\n' + DONE)

    assert texts(stream) == ["Hi"]
    assert [json.loads(r.body).keys() for r in world.requests if r.body] == [
        {"messages", "stream"}, {"input", "stream"},
    ]  # fmt: skip
