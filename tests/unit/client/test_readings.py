"""Answers in every form that endpoints give them."""

from typing import Any

import pytest

from lakeport.client.answers import Answer, Chat, Embeddings, Prediction, ToolCall, Usage
from lakeport.client.errors import BadAnswer
from lakeport.client.readings import loads, read_answer, read_chunk, read_usage


def read(document: Any) -> Answer:
    return read_answer(document, endpoint="x")


@pytest.mark.parametrize(
    ("document", "predictions"),
    [
        ({"predictions": [1, 2]}, [1, 2]),
        ({"predictions": {"a": [1], "b": [2]}}, {"a": [1], "b": [2]}),
        ({"outputs": [{"f": 1}]}, [{"f": 1}]),
    ],
)
def test_predictions(document: Any, predictions: Any) -> None:
    answer = read(document)

    assert isinstance(answer, Prediction)
    assert answer.predictions == predictions
    assert len(answer) == len(predictions)


def test_a_chat() -> None:
    message = {"role": "assistant", "content": "Hi."}
    usage = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    document = {
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }

    answer = read(document)

    assert isinstance(answer, Chat)
    assert (str(answer), answer.role, answer.finish_reason, answer.model) == (
        "Hi.", "assistant", "stop", "m",
    )  # fmt: skip
    assert answer.usage == Usage(2, 3, 5)
    assert answer.choices == tuple(document["choices"])


def test_calls_of_tools() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}

    answer = read({"choices": [{"message": {"content": None, "tool_calls": [call]}}]})

    assert isinstance(answer, Chat)
    assert answer.text == ""
    assert answer.tool_calls == (ToolCall(id="c1", name="f", arguments='{"a": 1}'),)


@pytest.mark.parametrize(
    "document",
    [
        {"choices": [{"text": "Hi."}]},
        {"choices": [{"message": {"content": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "text", "text": "Hi."},
        ]}}]},
        {"messages": [{"role": "tool", "content": "x"}, {"role": "assistant", "content": "Hi."}]},
        {"object": "response", "output": [
            {"type": "function_call", "name": "f"},
            {"type": "message", "content": [{"type": "output_text", "text": "Hi."}]},
        ]},
    ],
    ids=["completions", "reasoning", "agent", "responses"],
)  # fmt: skip
def test_the_text_of_other_forms(document: Any) -> None:
    answer = read(document)

    assert isinstance(answer, Chat)
    assert answer.text == "Hi."


def test_embeddings_without_an_index_stay_as_they_came() -> None:
    data = [{"index": None, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]

    answer = read({"data": data})

    assert isinstance(answer, Embeddings)
    assert answer.vectors == [[2.0], [1.0]]


def test_embeddings_come_in_the_order_of_the_inputs() -> None:
    data = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]

    answer = read({"data": data, "model": "m", "usage": {"prompt_tokens": 4, "total_tokens": 4}})

    assert isinstance(answer, Embeddings)
    assert answer.vectors == [[1.0], [2.0]]
    assert answer.usage == Usage(4, 0, 4)


@pytest.mark.parametrize("document", [{"something": "else"}, [1, 2], "text", None, {"data": [1]}])
def test_other_answers_are_answers_too(document: Any) -> None:
    answer = read(document)

    assert type(answer) is Answer
    assert answer.body == document


@pytest.mark.parametrize(
    "document",
    [
        {"choices": []},
        {"choices": [None]},
        {"choices": [{"message": "x", "finish_reason": 3}]},
        {"choices": [{"message": {"content": 3, "role": None, "tool_calls": [None]}}]},
        {"messages": []},
        {"output": [None, "x"]},
    ],
)
def test_odd_fields_do_not_break_it(document: Any) -> None:
    answer = read(document)

    assert isinstance(answer, Chat)
    assert answer.text == ""


def test_usage_of_the_responses_form() -> None:
    assert read_usage({"input_tokens": 2, "output_tokens": 3}) == Usage(2, 3, 5)
    assert read_usage({"prompt_tokens": None}) == Usage(0, 0, 0)
    assert read_usage(None) is None


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"choices": [{"index": 0, "delta": {"content": "Hi"}}]}, "Hi"),
        ({"choices": [{"index": 1, "delta": {"content": "Hi"}}]}, ""),
        ({"choices": [{"index": 0, "text": "Hi"}]}, "Hi"),
        ({"choices": []}, ""),
        ({"delta": {"role": "assistant", "content": "Hi"}}, "Hi"),
        ({"type": "response.output_text.delta", "delta": "Hi"}, "Hi"),
        ({"delta": {"role": "tool", "content": "330"}}, ""),
        ({"type": "response.function_call_arguments.delta", "delta": "{"}, ""),
        ({"type": "response.completed"}, ""),
    ],
)
def test_chunks(document: Any, text: str) -> None:
    assert read_chunk(document, "x").text == text


def test_usage_at_the_end_of_a_stream_of_the_responses_form() -> None:
    usage = {"input_tokens": 2, "output_tokens": 3}

    chunk = read_chunk({"type": "response.completed", "response": {"usage": usage}}, "x")

    assert chunk.usage == Usage(2, 3, 5)


@pytest.mark.parametrize("value", [5, "text", None])
def test_a_single_value_is_one(value: Any) -> None:
    assert len(Prediction(endpoint="x", body={}, predictions=value)) == 1


def test_a_chunk_that_is_none() -> None:
    with pytest.raises(BadAnswer):
        read_chunk([1], "x")


def test_numbers_that_json_has_not() -> None:
    assert loads(b'{"predictions": [1.5, -Infinity]}') == {"predictions": [1.5, float("-inf")]}
    with pytest.raises(ValueError, match="Expecting"):
        loads(b"nope")
