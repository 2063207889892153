"""What a replica gets, and what a caller gets back."""

from typing import Any

import orjson
import pytest

from lakeport.errors import (
    ApiError,
    BadRequest,
    Internal,
    NotFound,
    TooLarge,
    TooManyRequests,
    Unavailable,
)
from lakeport.gateway.chat import Exchange, begin
from lakeport.runtimes.base import Answer
from lakeport.wire.chat import Operation, Task
from tests.unit.gateway.targets import chat, hosted, outside

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
DELTA = {"id": "c", "model": "/home/me/model.gguf", "choices": [{"delta": {"content": "a"}}]}


def answer(document: object, status: int = 200, **fields: Any) -> Answer:
    return Answer(status, orjson.dumps(document), **fields)


def event(exchange: Exchange, **fields: Any) -> Any:
    shown = exchange.event(orjson.dumps({**DELTA, **fields}))
    return None if shown is None else orjson.loads(shown)


# --- to the replica -----------------------------------------------------------------------------


def test_an_outside_body_changes_only_where_it_must() -> None:
    document = {
        "zeta": {"b": [1, 2.50, None, 18446744073709551615], "a": "\u2028é"},
        "model": "endpoint",
        "client_request_id": "r-1",
        "messages": [{"role": "critic", "content": [{"type": "video"}], "odd": True}],
        "usage_context": {"team": "a"},
        "temperature": 5,
        "functions": [],
    }
    before = orjson.dumps(document)

    exchange = begin(outside(), Operation.CHAT, document)

    assert exchange.body.decode() == (
        '{"zeta":{"b":[1,2.5,null,18446744073709551615],"a":"\u2028é"},"model":"gpt-x",'
        '"messages":[{"role":"critic","content":[{"type":"video"}],"odd":true}],'
        '"temperature":5,"functions":[]}'
    )
    assert (exchange.client_request_id, exchange.usage_context) == ("r-1", {"team": "a"})
    assert orjson.dumps(document) == before
    assert not exchange.stream


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": None}, {"include_usage": True}),
        ({"stream_options": {"include_usage": False}}, {"include_usage": True}),
        ({"stream_options": {"x": 1}}, {"x": 1, "include_usage": True}),
    ],
)
@pytest.mark.parametrize("target", [outside(), hosted()])
def test_usage_is_asked_for_and_hidden_from_who_did_not(
    target: Any, given: dict[str, Any], wanted: dict[str, Any]
) -> None:
    exchange = begin(target, None, chat(stream=True, **given))

    assert exchange.stream
    assert orjson.loads(exchange.body)["stream_options"] == wanted
    assert exchange.hides_usage


def test_usage_that_a_caller_asked_for_is_shown() -> None:
    exchange = begin(hosted(), None, chat(stream=True, stream_options={"include_usage": True}))

    assert event(exchange, choices=[], usage=USAGE)["usage"] == USAGE
    assert (exchange.prompt_tokens, exchange.completion_tokens) == (7, 3)


def test_a_server_that_refuses_stream_options_is_not_sent_them() -> None:
    exchange = begin(outside(asks_usage=False), None, chat(stream=True))

    assert "stream_options" not in orjson.loads(exchange.body)
    assert event(exchange, usage=USAGE)["usage"] == USAGE
    assert exchange.completion_tokens == 3


def test_an_answer_in_one_piece_is_not_asked_with_stream_options() -> None:
    assert "stream_options" not in orjson.loads(begin(hosted(), None, chat()).body)


@pytest.mark.parametrize(
    ("given", "bound"),
    [
        ({}, 64),
        ({"max_tokens": None}, 64),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 900}, 900),
        ({"max_tokens": 5, "max_completion_tokens": 5}, 5),
    ],
)
def test_a_chat_without_a_bound_gets_one(given: dict[str, Any], bound: int) -> None:
    body = orjson.loads(begin(hosted(default_max_tokens=64), None, chat(**given)).body)

    assert body["max_tokens"] == bound
    assert "max_completion_tokens" not in body


def test_embeddings_have_no_bound_and_no_stream() -> None:
    target = hosted(Task.EMBEDDINGS, default_max_tokens=64)
    exchange = begin(target, None, {"input": ["a"], "encoding_format": "base64"})

    assert orjson.loads(exchange.body) == {
        "input": ["a"],
        "encoding_format": "base64",
        "model": "engine",
    }
    assert not exchange.stream


# --- back to the caller -------------------------------------------------------------------------


def test_the_model_of_an_answer_is_never_an_engines_own() -> None:
    exchange = begin(hosted(), None, chat())

    got = orjson.loads(exchange.answer(answer({**DELTA, "usage": USAGE, "odd": 1.50})))

    assert got == {**DELTA, "model": "entity", "usage": USAGE, "odd": 1.5}
    assert (exchange.prompt_tokens, exchange.completion_tokens) == (7, 3)


def test_an_outside_answer_is_handed_on_byte_for_byte() -> None:
    exchange = begin(outside(), None, chat())
    body = b'{ "model": "gpt-x-2026",\n "usage": {"prompt_tokens": 7, "completion_tokens": 3} }'

    assert exchange.answer(Answer(200, body)) is body
    assert exchange.prompt_tokens == 7


@pytest.mark.parametrize("body", [b"[1]", b"no json", b""])
def test_an_answer_that_is_no_object_is_not_touched(body: bytes) -> None:
    assert begin(hosted(), None, chat()).answer(Answer(200, body)) == body
    assert begin(hosted(), None, chat(stream=True)).event(body) == body


@pytest.mark.parametrize("usage", [None, 5, {"prompt_tokens": "7"}, {"prompt_tokens": -1}, {}])
def test_strange_usage_counts_nothing(usage: Any) -> None:
    exchange = begin(outside(), None, chat())
    exchange.answer(answer({"usage": usage}))

    assert (exchange.prompt_tokens, exchange.completion_tokens) == (0, 0)


def test_a_usage_chunk_that_nobody_asked_for_is_taken_out_and_counted() -> None:
    exchange = begin(outside(), None, chat(stream=True))

    assert event(exchange) == DELTA
    assert event(exchange, usage=None) == DELTA
    assert event(exchange, choices=[], usage=USAGE) is None
    assert (exchange.prompt_tokens, exchange.completion_tokens) == (7, 3)


def test_usage_in_a_chunk_with_words_leaves_the_words() -> None:
    exchange = begin(outside(), None, chat(stream=True))

    assert event(exchange, usage=USAGE) == DELTA
    assert exchange.completion_tokens == 3


def test_a_chunk_without_choices_that_tells_something_else_stays() -> None:
    exchange = begin(outside(), None, chat(stream=True))

    assert event(exchange, choices=[], usage=None, filters=[1]) == {
        **DELTA,
        "choices": [],
        "filters": [1],
    }


def test_outside_events_pass_as_they_are() -> None:
    exchange = begin(outside(), None, chat(stream=True))
    said = b'{ "choices": [{"delta": {"content": "\\"usage\\""}}] }'

    assert exchange.event(said) is said


def test_every_event_of_a_hosted_model_has_its_name() -> None:
    exchange = begin(hosted(), None, chat(stream=True))

    assert event(exchange)["model"] == "entity"
    assert event(exchange, choices=[], usage=USAGE) is None


def test_an_event_with_the_right_name_passes_as_it_is() -> None:
    exchange = begin(hosted(), None, chat(stream=True))
    said = b'{"choices":[{"delta":{"content":"a"}}],"model":"entity" }'

    assert exchange.event(said) is said


@pytest.mark.parametrize(
    "fields",
    [
        {"choices": [{"delta": {"content": '"model":"entity"'}}]},
        {"choices": [{"delta": {"content": "a"}, "model": "entity"}]},
        {"choices": [], "model": "entity of another"},
        {"model": None},
    ],
)
def test_the_name_counts_in_its_place_only(fields: dict[str, Any]) -> None:
    exchange = begin(hosted(), None, chat(stream=True))

    assert event(exchange, **fields) == {**DELTA, **fields, "model": "entity"}


def test_an_event_that_tells_of_a_failure_passes() -> None:
    exchange = begin(hosted(), None, chat(stream=True))
    failure = b'{"error": {"message": "x", "type": "t", "code": "c"}}'

    assert exchange.event(failure) is failure


def test_an_outside_servers_refusal_keeps_its_dialect() -> None:
    exchange = begin(outside(), None, chat())
    refusal = answer({"error": {"message": "no", "type": "t", "code": "c"}}, 422)

    assert exchange.answer(refusal) is refusal.body


@pytest.mark.parametrize(
    ("refusal", "expected", "words"),
    [
        (answer({"error": {"code": 400, "message": "too long"}}, 400), BadRequest, "too long"),
        (answer({"error": "too long"}, 400), BadRequest, "too long"),
        (answer({"error": {"message": "no such slot"}}, 404), NotFound, "no such slot"),
        (answer({"error": {"message": 5}}, 422), BadRequest, "refused its input"),
        (Answer(413, b"x"), TooLarge, "refused its input"),
        (
            answer(
                {
                    "error": {
                        "message": "request (31 tokens) exceeds the available context size "
                        "(20 tokens), try increasing it"
                    }
                },
                400,
            ),
            BadRequest,
            '"messages" has 31 tokens, and this model takes at most 20',
        ),
        (
            answer(
                {
                    "error": {
                        "message": "Unable to generate parser for this template. Automatic "
                        "parser generation failed: JSON schema error at #: unrecognized type x"
                    }
                },
                400,
            ),
            BadRequest,
            '"response_format" or "tools": JSON schema error at #: unrecognized type x',
        ),
        (answer({"error": {"message": "cannot open /home/me/x"}}, 500), Internal, "engine failed"),
        (answer({"error": {"message": "no template"}}, 500), Internal, "no template"),
        (answer({"error": {"message": "loading"}}, 503, retry_after=9), Unavailable, "loading"),
        (answer({"error": {"message": "busy"}}, 429, retry_after=9), TooManyRequests, "busy"),
    ],
)
def test_an_engines_refusal_comes_in_databricks_form(
    refusal: Answer, expected: type[ApiError], words: str
) -> None:
    with pytest.raises(expected, match=words) as raised:
        begin(hosted(), None, chat()).answer(refusal)

    assert raised.value.retry_after == refusal.retry_after
    assert "/home/me" not in raised.value.message
