"""Answers of the wire as the values that a query gives back."""

import json
from collections.abc import Mapping
from typing import Any

import orjson

from lakeport.client.answers import Answer, Chat, ChatChunk, Embeddings, Prediction, ToolCall, Usage
from lakeport.client.errors import BadAnswer


def loads(text: bytes | str) -> Any:
    """JSON, and the NaN and Infinity that models write into it. Raises ValueError."""
    try:
        return orjson.loads(text)
    except ValueError:
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError("too deep") from None


def read_answer(
    document: Any,
    *,
    endpoint: str,
    served_entity: str | None = None,
    request_id: str | None = None,
    seconds: float = 0.0,
    attempts: int = 1,
) -> Answer:
    """By its form: a Prediction, Chat or Embeddings; an Answer for all else."""
    common: dict[str, Any] = {
        "endpoint": endpoint,
        "body": document,
        "served_entity": served_entity,
        "request_id": request_id,
        "seconds": seconds,
        "attempts": attempts,
    }
    if not isinstance(document, Mapping):
        return Answer(**common)
    if "predictions" in document:
        return Prediction(**common, predictions=document["predictions"])
    common["usage"] = read_usage(document.get("usage"))
    choices = document.get("choices")
    if isinstance(choices, list):
        return Chat(**common, **_first_choice(choices), model=_word(document.get("model")))
    if isinstance(document.get("messages"), list):  # an agent's answer
        said = [each for each in document["messages"] if isinstance(each, Mapping)]
        return Chat(**common, **_message(said[-1] if said else {}))
    data = document.get("data")
    if isinstance(data, list) and all(isinstance(e, Mapping) and "embedding" in e for e in data):
        if all(isinstance(each.get("index"), int) for each in data):
            data = sorted(data, key=lambda each: each["index"])
        vectors = [each["embedding"] for each in data]
        return Embeddings(**common, vectors=vectors, model=_word(document.get("model")))
    if "outputs" in document:
        return Prediction(**common, predictions=document["outputs"])
    if isinstance(document.get("output"), list):  # the responses form
        return Chat(**common, text=_of_output(document["output"]))
    return Answer(**common)


def read_usage(value: Any) -> Usage | None:
    """In the chat form, or in the responses form (`input_tokens`, `output_tokens`)."""
    if not isinstance(value, Mapping):
        return None

    def count(*names: str) -> int:
        found = next((value[name] for name in names if isinstance(value.get(name), int)), 0)
        return int(found)

    prompt = count("prompt_tokens", "input_tokens")
    completion = count("completion_tokens", "output_tokens")
    total = count("total_tokens") or prompt + completion
    return Usage(prompt, completion, total, estimated=value.get("estimated") is True)


def read_chunk(document: Any, endpoint: str) -> ChatChunk:
    """One event of a stream. Raises BadAnswer when it is no object."""
    if not isinstance(document, Mapping):
        raise BadAnswer("An event of the stream is no JSON object.", endpoint=endpoint)
    usage = read_usage(document.get("usage"))
    choices = document.get("choices")
    if isinstance(choices, list):
        first = next((c for c in choices if isinstance(c, Mapping) and not c.get("index")), {})
        delta = first.get("delta")
        text = read_text(delta.get("content")) if isinstance(delta, Mapping) else ""
        return ChatChunk(
            text=text or read_text(first.get("text")),
            finish_reason=_word(first.get("finish_reason")),
            usage=usage,
            body=document,
        )
    delta = document.get("delta")  # an agent's event: a message's delta, or the responses form
    if isinstance(delta, Mapping):
        # What a tool of the agent's own answered is no part of what the agent says.
        text = "" if delta.get("role") == "tool" else read_text(delta.get("content"))
        reason = _word(document.get("finish_reason"))
        return ChatChunk(text=text, finish_reason=reason, usage=usage, body=document)
    response = document.get("response")
    if usage is None and isinstance(response, Mapping):  # the last event has the whole answer
        usage = read_usage(response.get("usage"))
    # Arguments of calls and a summary of thoughts come in deltas as well.
    spoken = document.get("type") in (None, "response.output_text.delta")
    return ChatChunk(text=read_text(delta) if spoken else "", usage=usage, body=document)


def read_text(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, Mapping))
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def _first_choice(choices: list[Any]) -> dict[str, Any]:
    kept = tuple(choice for choice in choices if isinstance(choice, Mapping))
    first: Mapping[str, Any] = kept[0] if kept else {}
    message = first.get("message")
    found = _message(message if isinstance(message, Mapping) else {"content": first.get("text")})
    return {**found, "finish_reason": _word(first.get("finish_reason")), "choices": kept}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    return {
        "text": read_text(message.get("content")),
        "role": _word(message.get("role")) or "assistant",
        "tool_calls": tuple(map(_tool_call, calls)) if isinstance(calls, list) else (),
    }


def _tool_call(call: Any) -> ToolCall:
    call = call if isinstance(call, Mapping) else {}
    function = call.get("function")
    function = function if isinstance(function, Mapping) else {}
    return ToolCall(
        id=_word(call.get("id")) or "",
        name=_word(function.get("name")) or "",
        arguments=_word(function.get("arguments")) or "",
    )


def _of_output(output: list[Any]) -> str:
    said = (item.get("content") for item in output if isinstance(item, Mapping))
    return "".join(map(read_text, said))


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None
