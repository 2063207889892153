"""Chat models and agents: what their requests leave out, and what their answers gain.

An MLflow ChatModel owes its callers a `usage`: its own, or an estimate that says so. What came by
`chat/completions` gets an answer that OpenAI's clients can read: the fields of a completion that
the model left out, and for an agent's `messages` a `choices` beside them. All else passes as it is.
Plain values in and out, no I/O.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from .model_input import Interface
from .refusal import Refusal
from .request_body import Document

_COMPLETIONS: Final = "chat/completions"
_CHUNK: Final = "chat.completion.chunk"

Fields = dict[str, Any]


def begin(
    document: Document, interface: Interface, *, operation: str | None, chat_model: bool
) -> Dialogue | None:
    """What is to be done with the answer to a request; None: nothing.

    `operation`: the OpenAI route that the request came by. There `model` names the endpoint: it is
    taken out of the document, unless the model's signature cannot do without. `chat_model`: MLflow
    calls the model one. Raises Refusal for `stream_options` in another form.
    """
    called = None
    if operation is not None:
        called = document.fields.get("model")
        if "model" not in interface.required:
            document.fields.pop("model", None)
    completes = operation == _COMPLETIONS
    if not document.bare or not (chat_model or completes):
        return None
    return Dialogue(
        estimates=chat_model,
        completes=completes,
        asks_usage=_asks_usage(document.fields.get("stream_options")),
        called=called if isinstance(called, str) else None,
        prompt=_length_of_all(document.fields.get("messages")) if chat_model else 0,
    )


def _asks_usage(options: Any) -> bool:
    if options is None:
        return False
    asked = options.get("include_usage") if isinstance(options, dict) else "no object"
    if not isinstance(asked, bool | None):
        raise Refusal(
            'stream_options must be an object such as {"include_usage": true}.',
            error_code="INVALID_PARAMETER_VALUE",
        )
    return bool(asked)


@dataclass(slots=True)
class Dialogue:
    """One request whose answer is to be finished."""

    #: A missing `usage` is estimated.
    estimates: bool
    #: The caller expects chat completions.
    completes: bool
    #: `stream_options.include_usage`.
    asks_usage: bool
    #: `model` in the request: what the caller calls the endpoint.
    called: str | None
    #: Characters.
    prompt: int
    _id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    _created: int = field(default_factory=lambda: int(time.time()))

    def answer(self, predictions: Any) -> Any:
        """The whole answer. What the model returned is left as it is."""
        if not isinstance(predictions, dict):
            return predictions
        answer = dict(predictions)
        if self.completes:
            if "choices" not in answer and isinstance(answer.get("messages"), list):
                answer["choices"] = [_choice_of(answer)]
            answer = self._filled(answer, "chat.completion")
        if self.estimates and isinstance(answer.get("choices"), list):
            said = sum(_length(_part(choice, "message")) for choice in _list(answer, "choices"))
            answer["usage"] = usage_of(answer.get("usage"), self.prompt, said)
        return answer

    def events(self, chunks: Iterable[Any]) -> Iterator[Any]:
        """The chunks of a stream. Usage comes once, in a last chunk without choices, if it was
        asked for; a chunk with nothing but usage goes to nobody else."""
        agent = _Agent()
        usage: Fields = {}
        last: Fields = {}
        said = 0
        for given in chunks:
            if not isinstance(given, dict):
                yield given
                continue
            chunk = dict(given)
            last = chunk
            if self.estimates:
                said += sum(_length(_part(choice, "delta")) for choice in _list(chunk, "choices"))
            if self._take_usage(chunk, usage):
                continue
            if self.completes:
                if "choices" not in chunk and isinstance(chunk.get("delta"), dict):
                    chunk["choices"] = [agent.choice_of(chunk)]
                chunk = self._filled(chunk, _CHUNK)
            yield chunk
        if (end := agent.end()) is not None:
            yield self._filled(end, _CHUNK)
        if self.asks_usage and (usage or self.estimates):
            if self.estimates:
                usage = usage_of(usage, self.prompt, said)
            yield self._usage_chunk(last, usage)

    def _take_usage(self, chunk: Fields, usage: Fields) -> bool:
        """Move a chunk's usage into `usage`, if it is asked for; whether nothing is left."""
        given = chunk.get("usage")
        if not isinstance(given, dict):
            return False
        empty = not chunk.get("choices") and not isinstance(chunk.get("delta"), dict)
        if self.asks_usage:
            usage.update(given)
        if self.asks_usage or empty:
            del chunk["usage"]
        return empty and not chunk.get("custom_outputs")

    def _usage_chunk(self, last: Fields, usage: Fields) -> Fields:
        kept = {name: last[name] for name in ("id", "created", "model") if name in last}
        chunk = {"object": _CHUNK, "created": self._created} | kept | {"choices": []}
        if self.completes:
            chunk = self._filled(chunk, _CHUNK)
        return chunk | {"usage": usage}

    def _filled(self, answer: Fields, kind: str) -> Fields:
        """A completion with the fields that every completion has. The model's own stay."""
        if not isinstance(answer.get("choices"), list):
            return answer
        fields: Fields = {"id": self._id, "object": kind, "created": self._created}
        if self.called is not None:
            fields["model"] = self.called
        said = {name: value for name, value in answer.items() if value is not None}
        return answer | fields | said


def usage_of(given: Any, prompt: int, completion: int) -> Fields:
    """`usage` as the model gave it, with the rest estimated from numbers of characters."""
    usage = dict(given) if isinstance(given, dict) else {}
    for name, characters in (("prompt_tokens", prompt), ("completion_tokens", completion)):
        if not _is_count(usage.get(name)):
            usage[name] = (characters + 1) // 4
            usage["estimated"] = True
    if "estimated" in usage or not _is_count(usage.get("total_tokens")):
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    return usage


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


# --- agents -------------------------------------------------------------------------------------


def _choice_of(answer: Fields) -> Fields:
    """An agent's last message, or the last that speaks, as a choice.

    Calls of tools that it made on its way are its own affair; those with which it ends are for the
    caller to do.
    """
    spoken = [
        message
        for message in _list(answer, "messages")
        if isinstance(message, dict) and message.get("role") == "assistant"
    ]
    ends = bool(spoken) and answer["messages"][-1] is spoken[-1]
    message = next(
        (m for m in reversed(spoken) if m.get("content") or (ends and m is spoken[-1])), {}
    )
    shown: Fields = {"role": "assistant", "content": message.get("content")}
    calls = message.get("tool_calls") if ends and message is spoken[-1] else None
    if calls:
        shown["tool_calls"] = calls
    reason = answer.get("finish_reason") or ("tool_calls" if calls else "stop")
    return {"index": 0, "message": shown, "finish_reason": reason}


class _Agent:
    """An agent's stream as the deltas of one choice: what it says, not what its tools say."""

    def __init__(self) -> None:
        self._id: str | None = None
        #: Calls of tools that nobody has answered yet.
        self._calls: list[Any] = []
        self._reason: str | None = None
        self._finished = False

    def choice_of(self, chunk: Fields) -> Fields:
        message = chunk["delta"]
        self._id = message.get("id")
        shown: Fields = {}
        if message.get("role") == "assistant":
            content = message.get("content")
            if content:
                shown = {"role": "assistant", "content": content}
            self._calls = _list(message, "tool_calls") or ([] if content else self._calls)
        else:
            self._calls = []
        reason = chunk.get("finish_reason")
        self._finished = bool(reason) and not self._calls
        self._reason = reason if reason and self._calls else None
        return {
            "index": 0,
            "delta": shown,
            "finish_reason": reason if self._finished else None,
        }

    def end(self) -> Fields | None:
        """A last chunk, for a stream that did not say why it ended: in the agent's form too."""
        if self._id is None or self._finished:
            return None
        delta: Fields = {}
        if self._calls:
            delta["tool_calls"] = [
                {"index": index} | call
                for index, call in enumerate(self._calls)
                if isinstance(call, dict)
            ]
        reason = self._reason or ("tool_calls" if self._calls else "stop")
        return {
            "delta": {"role": "assistant", "content": "", "id": self._id},
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }


# --- characters ---------------------------------------------------------------------------------


def _length_of_all(messages: Any) -> int:
    return sum(map(_length, messages)) if isinstance(messages, list) else 0


def _length(message: Any) -> int:
    """Characters of a message: its text, and the calls of tools that it makes."""
    if not isinstance(message, dict):
        return 0
    content = message.get("content")
    length = _text_length(content)
    if isinstance(content, list):
        length += sum(_text_length(_part(part, "text")) for part in content)
    for call in _list(message, "tool_calls"):
        function = _part(call, "function")
        length += sum(_text_length(_part(function, name)) for name in ("name", "arguments"))
    return length


def _text_length(value: Any) -> int:
    return len(value) if isinstance(value, str) else 0


def _part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _list(value: Fields, name: str) -> list[Any]:
    found = value.get(name)
    return found if isinstance(found, list) else []
