"""A string that a test's function returns for `messages`, as a chat model's answer."""

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lakeport.worker import chat

Fields = dict[str, Any]


def completion(text: str, request: Mapping[str, Any], *, model: str) -> Fields:
    """A whole chat completion. Tokens are estimated, and say so."""
    message = {"role": "assistant", "content": text}
    return {
        **_head("chat.completion", model),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _usage(text, request),
    }


def chunks(texts: Iterable[Any], request: Mapping[str, Any], *, model: str) -> Iterator[Any]:
    """The events of a streamed completion, a string each; what is no string passes as it is.

    Usage comes in a last event where `stream_options` asks for it.
    """
    head = _head("chat.completion.chunk", model)
    said = ""
    first = True
    for text in texts:
        if not isinstance(text, str):
            yield text
            continue
        delta = {"role": "assistant", "content": text} if first else {"content": text}
        first = False
        said += text
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    if first:
        return
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    options = request.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        yield {**head, "choices": [], "usage": _usage(said, request)}


def _head(kind: str, model: str) -> Fields:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }


def _usage(text: str, request: Mapping[str, Any]) -> Fields:
    messages = request.get("messages")
    contents = [m.get("content") for m in messages or () if isinstance(m, dict)]
    asked = sum(len(content) for content in contents if isinstance(content, str))
    return chat.usage_of(None, asked, len(text))
