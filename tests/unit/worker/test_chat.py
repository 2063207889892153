"""What a chat model's or an agent's answer gains on the OpenAI wire: plain values, no model."""

from typing import Any

import pytest

from lakeport.worker import chat
from lakeport.worker.chat import Dialogue, usage_of
from lakeport.worker.model_input import Interface
from lakeport.worker.refusal import Refusal
from lakeport.worker.request_body import Document

BARE = Interface(schema=None, params=frozenset(), type_hinted=False)
CHAT = "chat/completions"
ASKED = {"include_usage": True}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def begin(
    operation: str | None = None,
    *,
    chat_model: bool = False,
    interface: Interface = BARE,
    **fields: Any,
) -> tuple[Dialogue | None, dict[str, Any]]:
    document = Document({"messages": []} | fields, bare=True, stream=False)
    dialogue = chat.begin(document, interface, operation=operation, chat_model=chat_model)
    return dialogue, document.fields


def dialogue(operation: str | None = None, **more: Any) -> Dialogue:
    made, _ = begin(operation, **more)
    assert made is not None
    return made


def chunk(content: str | None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}}]} | more


def says(id: str, content: str, **more: Any) -> dict[str, Any]:
    return {"delta": {"role": "assistant", "content": content, "id": id}} | more


CALLS: dict[str, Any] = {
    "delta": {"role": "assistant", "content": "", "id": "m1", "tool_calls": [CALL]}
}
ANSWERS: dict[str, Any] = {
    "delta": {"role": "tool", "content": "3", "id": "m2", "name": "f", "tool_call_id": "c1"}
}


def deltas(events: list[Any]) -> list[tuple[Any, Any]]:
    """Delta and finish reason of each event's one choice."""
    found = [event["choices"][0] for event in events]
    return [(choice["delta"], choice["finish_reason"]) for choice in found]


# --- requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [CHAT, "completions", "embeddings"])
def test_model_is_taken_out_where_it_names_the_endpoint(operation: str) -> None:
    _, fields = begin(operation, model="my-endpoint", custom_inputs={"a": 1})

    assert fields == {"messages": [], "custom_inputs": {"a": 1}}


def test_model_is_the_models_own_elsewhere() -> None:
    made, fields = begin(model="big")

    assert made is None
    assert fields["model"] == "big"


def test_model_stays_where_the_signature_needs_it() -> None:
    needs = Interface(None, frozenset(), type_hinted=False, required=frozenset({"model"}))

    _, fields = begin(CHAT, interface=needs, model="my-endpoint")

    assert fields["model"] == "my-endpoint"


def test_what_is_no_chat_is_left_alone() -> None:
    document = Document({"model": "e", "inputs": [1]}, bare=False, stream=False)

    assert chat.begin(document, BARE, operation=CHAT, chat_model=True) is None
    assert document.fields == {"inputs": [1]}
    assert begin("embeddings")[0] is None


@pytest.mark.parametrize("options", ["yes", True, [], {"include_usage": 1}])
def test_stream_options_of_another_form_are_refused(options: Any) -> None:
    with pytest.raises(Refusal, match="stream_options must be an object") as caught:
        begin(chat_model=True, stream_options=options)

    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize("options", [None, {}, {"include_usage": None}, {"include_usage": False}])
def test_usage_is_asked_for_by_true_alone(options: Any) -> None:
    assert dialogue(chat_model=True, stream_options=options).asks_usage is False


# --- usage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "usage"),
    [
        (USAGE, USAGE),
        ({"prompt_tokens": 5, "completion_tokens": 2}, USAGE),
        (
            None,
            {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3, "estimated": True},
        ),
        (
            {"prompt_tokens": 5, "total_tokens": 9, "cached": 1},
            {
                "prompt_tokens": 5,
                "completion_tokens": 1,
                "total_tokens": 6,
                "cached": 1,
                "estimated": True,
            },
        ),
        (
            {"prompt_tokens": -1, "completion_tokens": True},
            {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3, "estimated": True},
        ),
    ],
)
def test_usage_is_the_models_own_or_says_that_it_is_estimated(given: Any, usage: Any) -> None:
    assert usage_of(given, 7, 3) == usage


def test_an_answer_of_a_chat_model_is_counted_in_characters() -> None:
    parts = [{"type": "text", "text": "12345"}, {"type": "image_url", "image_url": {}}]
    messages = [{"role": "system", "content": "12"}, {"role": "user", "content": parts}, None]
    made = dialogue(chat_model=True, messages=messages)
    message = {"role": "assistant", "content": "1234", "tool_calls": [CALL]}

    answer = made.answer({"choices": [{"message": message}, {"message": {"content": "12"}}]})

    assert answer["usage"] == {
        "prompt_tokens": 2,  # 7 characters
        "completion_tokens": 2,  # 4 + 1 + 2 + 2
        "total_tokens": 4,
        "estimated": True,
    }


def test_what_a_model_returns_is_not_changed_under_it() -> None:
    kept = {"choices": [{"message": {"content": "x"}}]}

    dialogue(CHAT, chat_model=True).answer(kept)

    assert kept == {"choices": [{"message": {"content": "x"}}]}


def test_a_stream_ends_with_usage_only_when_it_was_asked_for() -> None:
    asked = dialogue(chat_model=True, stream_options=ASKED, messages=[{"content": "1234567"}])
    unasked = dialogue(chat_model=True)
    chunks = [chunk("ab", id="x", created=1), chunk("c", id="x", created=1)]

    assert list(unasked.events(chunks)) == chunks
    assert list(asked.events(chunks)) == [
        *chunks,
        {
            "id": "x",
            "created": 1,
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": {
                "prompt_tokens": 2,
                "completion_tokens": 1,
                "total_tokens": 3,
                "estimated": True,
            },
        },
    ]


def test_a_chunk_of_nothing_but_usage_goes_to_nobody_who_did_not_ask() -> None:
    chunks = [chunk("a"), {"choices": [], "usage": USAGE}]

    assert list(dialogue(chat_model=True).events(chunks)) == [chunk("a")]
    assert list(
        dialogue(chat_model=True, custom_inputs={}).events(
            [{"choices": [], "usage": USAGE, "custom_outputs": {"a": 1}}]
        )
    ) == [{"choices": [], "custom_outputs": {"a": 1}}]


def test_usage_beside_words_is_the_models_own_and_moves_only_when_asked_for() -> None:
    chunks = [chunk("a", usage=USAGE)]

    assert list(dialogue(chat_model=True).events(chunks)) == chunks
    words, last = dialogue(chat_model=True, stream_options=ASKED).events(chunks)
    assert words == chunk("a")
    assert (last["choices"], last["usage"]) == ([], USAGE)


def test_what_fails_says_nothing_of_usage() -> None:
    def fails() -> Any:
        yield chunk("a")
        raise ValueError

    events = dialogue(chat_model=True, stream_options=ASKED).events(fails())

    assert next(events) == chunk("a")
    with pytest.raises(ValueError):
        next(events)


# --- completions --------------------------------------------------------------------------------


def test_a_completion_gets_the_fields_that_it_lacks() -> None:
    made = dialogue(CHAT, model="my-endpoint")

    answer = made.answer({"choices": [], "id": None, "created": 7, "more": 1})
    events = list(made.events([chunk("a"), chunk("b", model="own", id="1")]))

    assert answer["id"].startswith("chatcmpl-")
    assert (answer["object"], answer["created"]) == ("chat.completion", 7)
    assert (answer["model"], answer["more"]) == ("my-endpoint", 1)
    assert "usage" not in answer
    assert [event["object"] for event in events] == ["chat.completion.chunk"] * 2
    assert [event["model"] for event in events] == ["my-endpoint", "own"]
    assert [event["id"] for event in events] == [answer["id"], "1"]


@pytest.mark.parametrize("answer", ["words", [1], {"output": []}, {"messages": "none"}, None])
def test_what_is_no_completion_passes_as_it_is(answer: Any) -> None:
    made = dialogue(CHAT, model="my-endpoint")

    assert made.answer(answer) == answer
    assert list(made.events([answer])) == [answer]


# --- agents -------------------------------------------------------------------------------------


def answered(*messages: dict[str, Any], **more: Any) -> Any:
    given = {"messages": list(messages)} | more
    answer = dialogue(CHAT).answer(given)
    assert answer["messages"] == given["messages"]
    (choice,) = answer["choices"]
    return choice


def test_an_agents_last_words_are_the_choice() -> None:
    made = [CALLS["delta"], ANSWERS["delta"], says("m3", "It is 3")["delta"]]

    assert answered(*made) == {
        "index": 0,
        "message": {"role": "assistant", "content": "It is 3"},
        "finish_reason": "stop",
    }
    assert answered(*made, finish_reason="length")["finish_reason"] == "length"


def test_an_agent_that_ends_with_calls_leaves_them_to_its_caller() -> None:
    choice = answered(CALLS["delta"])

    assert choice["message"]["tool_calls"] == [CALL]
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("messages", [(), (ANSWERS["delta"],), (CALLS["delta"], ANSWERS["delta"])])
def test_an_agent_that_says_nothing_is_a_choice_without_words(messages: Any) -> None:
    choice = answered(*messages)

    assert not choice["message"]["content"]
    assert "tool_calls" not in choice["message"]


def test_an_agents_stream_is_what_it_says_and_not_what_its_tools_say() -> None:
    given = [CALLS, ANSWERS, says("m3", "It"), says("m3", " is 3")]

    events = list(dialogue(CHAT).events(given))

    assert [event["delta"] for event in events[:-1]] == [event["delta"] for event in given]
    assert events[-1]["delta"] == {"role": "assistant", "content": "", "id": "m3"}
    assert deltas(events) == [
        ({}, None),
        ({}, None),
        ({"role": "assistant", "content": "It"}, None),
        ({"role": "assistant", "content": " is 3"}, None),
        ({}, "stop"),
    ]


def test_an_agent_that_says_why_it_ends_is_not_told_again() -> None:
    events = list(dialogue(CHAT).events([says("m1", "no", finish_reason="length")]))

    assert deltas(events) == [({"role": "assistant", "content": "no"}, "length")]


@pytest.mark.parametrize("reason", [None, "tool_calls"])
def test_an_agents_stream_that_ends_with_calls_leaves_them_to_its_caller(reason: Any) -> None:
    events = list(dialogue(CHAT).events([CALLS | {"finish_reason": reason}]))

    assert deltas(events) == [
        ({}, None),
        ({"tool_calls": [{"index": 0} | CALL]}, "tool_calls"),
    ]


def test_an_agents_own_usage_is_the_last_chunk_when_asked_for() -> None:
    given = [says("m1", "a", usage=USAGE, finish_reason="stop")]

    *words, last = dialogue(CHAT, stream_options=ASKED).events(given)
    (kept,) = dialogue(CHAT).events(given)

    assert [event.get("usage") for event in words] == [None]
    assert (last["choices"], last["usage"]) == ([], USAGE)
    assert kept["usage"] == USAGE


def test_an_agents_usage_is_never_estimated() -> None:
    assert all(
        "usage" not in event
        for event in dialogue(CHAT, stream_options=ASKED).events([says("m1", "a")])
    )
