"""The chat rung: a body on the OpenAI wire becomes the one that its replica gets, and what comes
back becomes what the caller is owed. Pure: no I/O.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from lakeport.errors import (
    ApiError,
    BadGateway,
    BadRequest,
    Conflict,
    DeadlineExceeded,
    Internal,
    InvalidParameter,
    NotFound,
    NotImplementedYet,
    PermissionDenied,
    TooLarge,
    TooManyRequests,
    Unavailable,
)
from lakeport.gateway.chat_request import (
    SUBJECTS,
    check_outside,
    hosted_fields,
    merge_extra_params,
    operation_of,
    require,
)
from lakeport.runtimes.base import Answer, Call
from lakeport.wire.chat import ChatTarget, Operation

_REFUSALS: dict[int, type[ApiError]] = {
    kind.status: kind
    for kind in (
        PermissionDenied,
        NotFound,
        Conflict,
        TooLarge,
        TooManyRequests,
        NotImplementedYet,
        BadGateway,
        Unavailable,
        DeadlineExceeded,
    )
}
ENGINE_FAILED = (
    "The model's engine failed on this request; the served entity's logs may say why. "
    "Try again, or with a shorter one."
)
_TOO_LONG = re.compile(
    r"request \((\d+) tokens\) exceeds the available context size \((\d+) tokens\)"
)
_BAD_SCHEMA = "JSON schema error"


def begin(target: ChatTarget, operation: Operation | None, document: dict[str, Any]) -> "Exchange":
    """Check a request and make it ready for its replica. `document` is the caller's body, and is
    left as it is; `operation` None: the body's keys say what is asked.

    Raises BadRequest and InvalidParameter, which name the field and what this endpoint takes.
    """
    document = dict(document)
    request_id, context = _take_out(document)
    merge_extra_params(document)
    if operation is None:
        operation = operation_of(target, document)
    else:
        require(target, operation, document)
    if target.can is None:
        check_outside(operation, document)
    else:
        document = hosted_fields(operation, target.can, document)
        if operation is Operation.CHAT:
            document["messages"] = _plain_roles(document["messages"])
    document["model"] = target.model
    stream = operation is not Operation.EMBEDDINGS and document.get("stream") is True
    told = False
    if stream and target.asks_usage:
        options = document.get("stream_options") or {}
        told = options.get("include_usage") is True
        document["stream_options"] = {**options, "include_usage": True}
    if target.default_max_tokens is not None and operation is not Operation.EMBEDDINGS:
        _bound(document, target.default_max_tokens)
    return Exchange(
        operation=operation,
        body=orjson.dumps(document),
        stream=stream,
        hosted=target.can is not None,
        answers_as=target.answers_as,
        hides_usage=stream and target.asks_usage and not told,
        client_request_id=request_id,
        usage_context=context,
    )


@dataclass(slots=True)
class Exchange:
    """One request and its answer on the OpenAI wire."""

    operation: Operation
    #: For the replica: JSON in its final form.
    body: bytes
    #: Whether the answer comes in events.
    stream: bool
    #: One of our engines answers, so its errors are ours to word.
    hosted: bool
    #: `model` in every answer; None: as it comes.
    answers_as: str | None
    #: Usage was asked for on our own account: the caller must not see it in a stream.
    hides_usage: bool
    #: As the caller sent them; they went no further.
    client_request_id: str | None = None
    usage_context: Mapping[str, str] | None = None
    #: As the replica counted, so far; 0 where it did not say.
    prompt_tokens: int = 0
    completion_tokens: int = 0
    _named: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._named = b'"model":' + orjson.dumps(self.answers_as)

    def call(self, deadline: float) -> Call:
        """What the replica is sent."""
        return Call(
            self.body,
            "application/json",
            None,
            deadline,
            operation=self.operation,
            stream=self.stream,
        )

    def answer(self, answer: Answer) -> bytes:
        """The body for the caller. Raises ApiError where an engine of ours refused or failed; an
        outside server's refusal is handed on as it is."""
        if answer.status >= 400:
            if self.hosted:
                raise _engine_refusal(answer, self.operation)
            return answer.body
        document = _object(answer.body)
        if document is None:
            return answer.body
        self._count(document)
        if self.answers_as is None or document.get("model") == self.answers_as:
            return answer.body
        document["model"] = self.answers_as
        return orjson.dumps(document)

    def event(self, event: bytes) -> bytes | None:
        """One event of a stream for the caller; None: it is not for them."""
        if b'"usage"' not in event and (self.answers_as is None or self._is_named(event)):
            return event
        document = _object(event)
        if document is None or "error" in document:
            return event
        changed = False
        if "usage" in document:
            self._count(document)
            if self.hides_usage:
                if document["usage"] is not None and not document.get("choices"):
                    return None
                del document["usage"]
                changed = True
        if self.answers_as is not None and document.get("model") != self.answers_as:
            document["model"] = self.answers_as
            changed = True
        return orjson.dumps(document) if changed else event

    def _is_named(self, event: bytes) -> bool:
        """Whether an event has the right `model` already, without reading it as JSON: within a
        string, a quote has a backslash before it."""
        return self._named in event and event.count(b'"model"') == 1

    def _count(self, document: dict[str, Any]) -> None:
        usage = document.get("usage")
        if isinstance(usage, dict):
            self.prompt_tokens = _tokens(usage.get("prompt_tokens"), self.prompt_tokens)
            self.completion_tokens = _tokens(usage.get("completion_tokens"), self.completion_tokens)


def _take_out(document: dict[str, Any]) -> tuple[str | None, Mapping[str, str] | None]:
    """`client_request_id` and `usage_context`, which are for Lakeport alone."""
    request_id = document.pop("client_request_id", None)
    if request_id is not None and not isinstance(request_id, str):
        raise InvalidParameter("client_request_id must be a string.")
    context = document.pop("usage_context", None)
    if context is not None and not (
        isinstance(context, dict) and all(isinstance(value, str) for value in context.values())
    ):
        raise InvalidParameter("usage_context must be a map of strings to strings.")
    return request_id, context


def _plain_roles(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A "developer" speaks as the "system": the templates of open models know no other."""
    return [
        {**message, "role": "system"} if message["role"] == "developer" else message
        for message in messages
    ]


def _bound(document: dict[str, Any], most: int) -> None:
    if document.get("max_tokens") is None and document.get("max_completion_tokens") is None:
        document["max_tokens"] = most


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _tokens(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and value >= 0 else otherwise


def _engine_refusal(answer: Answer, asked: Operation) -> ApiError:
    """An engine's own error, its status kept, in Databricks' form. What it says of files stays
    inside."""
    error = (_object(answer.body) or {}).get("error")
    message = error.get("message") if isinstance(error, dict) else error
    failed = answer.status >= 500
    if not isinstance(message, str) or not message or (failed and "/" in message):
        message = ENGINE_FAILED if failed else "The model refused its input."
    message = _reworded(message, asked)[:2000]
    refusal = _REFUSALS.get(answer.status, Internal if failed else BadRequest)(message)
    if answer.retry_after is not None:
        refusal.retry_after = answer.retry_after
    return refusal


def _reworded(message: str, asked: Operation) -> str:
    """llama.cpp's words for what a caller can mend, with the field's name."""
    if found := _TOO_LONG.match(message):
        subject, _ = SUBJECTS[asked]
        return (
            f'"{subject}" has {found[1]} tokens, and this model takes at most {found[2]}, its '
            "answer included."
        )
    place = message.find(_BAD_SCHEMA)
    return message if place < 0 else f'"response_format" or "tools": {message[place:]}'
