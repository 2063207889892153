"""The part of an endpoint's OpenAPI document that a served entity on the OpenAI wire has."""

from collections.abc import Mapping
from typing import Any

from lakeport.wire.chat import ChatTarget, Operation

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_COUNT = {"type": "integer", "minimum": 1}
_NUMBER = {"type": "number"}
_SWITCH = {"type": "boolean"}
_OBJECT = {"type": "object"}
_TEXTS: dict[str, Any] = {"oneOf": [_TEXT, {"type": "array", "items": _TEXT}]}


def _object(required: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **others}, "required": [*required]}


_MESSAGE = _object(
    {"role": _TEXT},
    content={"oneOf": [_TEXT, {"type": "array", "items": _OBJECT}, {"type": "null"}]},
    tool_calls={"type": "array", "items": _OBJECT},
    tool_call_id=_TEXT,
)
_GENERATING: Mapping[str, Any] = {
    "max_tokens": _COUNT,
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "n": _COUNT,
    "seed": _WHOLE,
    "stop": _TEXTS,
    "stream": _SWITCH,
    "stream_options": _OBJECT,
}
#: What is asked, by operation: the field that it is about, then the others.
_REQUESTS: Mapping[Operation, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    Operation.CHAT: (
        {"messages": {"type": "array", "items": _MESSAGE, "minItems": 1}},
        {
            **_GENERATING,
            "response_format": _OBJECT,
            "tools": {"type": "array", "items": _OBJECT},
            "tool_choice": {"oneOf": [_TEXT, _OBJECT]},
            "logprobs": _SWITCH,
            "top_logprobs": {"type": "integer", "minimum": 0},
        },
    ),
    Operation.COMPLETIONS: ({"prompt": _TEXTS}, _GENERATING),
    Operation.EMBEDDINGS: (
        {"input": _TEXTS},
        {"encoding_format": {"type": "string", "enum": ["float", "base64"]}, "dimensions": _COUNT},
    ),
}
#: Fields that a hosted model takes only with this capability.
_NEEDS = {
    "n": "choices",
    "seed": "seed",
    "stop": "stop",
    "response_format": "json_schema",
    "tools": "tools",
    "tool_choice": "tools",
    "logprobs": "logprobs",
    "top_logprobs": "logprobs",
    "dimensions": "dimensions",
}
_USAGE = _object({"prompt_tokens": _WHOLE, "total_tokens": _WHOLE}, completion_tokens=_WHOLE)
_CHOICE: Mapping[str, Any] = {"index": _WHOLE, "finish_reason": {"type": ["string", "null"]}}
#: What one entry of the answer holds, by operation.
_ENTRIES: Mapping[Operation, tuple[str, Mapping[str, Any]]] = {
    Operation.CHAT: ("choices", {**_CHOICE, "message": _MESSAGE}),
    Operation.COMPLETIONS: ("choices", {**_CHOICE, "text": _TEXT}),
    Operation.EMBEDDINGS: (
        "data",
        {
            "index": _WHOLE,
            "embedding": {"oneOf": [{"type": "array", "items": _NUMBER}, _TEXT]},
        },
    ),
}


def operation(name: str, target: ChatTarget) -> dict[str, Any]:
    """The operation that asks the served entity `name`: its bodies and its answers."""
    asked = [each for each in Operation if each in target.operations]
    answers: dict[str, Any] = {
        "application/json": {"schema": _one_of([_answer(each) for each in asked])}
    }
    if any(each is not Operation.EMBEDDINGS for each in asked):
        answers["text/event-stream"] = {"schema": _TEXT}
    return {
        "operationId": f"query-{name}",
        "requestBody": {
            "content": {
                "application/json": {"schema": _one_of([_request(each, target) for each in asked])}
            },
            "required": True,
        },
        "responses": {"200": {"description": "The model's answer", "content": answers}},
    }


def _request(asked: Operation, target: ChatTarget) -> dict[str, Any]:
    subject, others = _REQUESTS[asked]
    can = target.can
    return _object(
        subject,
        **{
            field: schema
            for field, schema in others.items()
            if can is None or field not in _NEEDS or getattr(can, _NEEDS[field])
        },
    )


def _answer(asked: Operation) -> dict[str, Any]:
    field, entry = _ENTRIES[asked]
    return _object(
        {"model": _TEXT, field: {"type": "array", "items": _object(entry)}}, usage=_USAGE
    )


def _one_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}
