"""The OpenAI wire as serving endpoints speak it: operations, tasks, what a served entity can do.

`/serving-endpoints/{name}/invocations` takes the same bodies: which operation one is follows from
its keys (`messages`, `prompt`, `input`).
"""

import json
from dataclasses import dataclass
from enum import StrEnum


class Operation(StrEnum):
    """What is asked; the value is its path below `/serving-endpoints/` and below a server's
    base URL."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"


class Task(StrEnum):
    """`task` of an endpoint, and of an external model."""

    CHAT = "llm/v1/chat"
    COMPLETIONS = "llm/v1/completions"
    EMBEDDINGS = "llm/v1/embeddings"

    @property
    def operation(self) -> Operation:
        return _OPERATIONS[self]


_OPERATIONS = {
    Task.CHAT: Operation.CHAT,
    Task.COMPLETIONS: Operation.COMPLETIONS,
    Task.EMBEDDINGS: Operation.EMBEDDINGS,
}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a hosted model does with a request; what is False is refused by name, never dropped."""

    #: `tools` and `tool_choice`.
    tools: bool = False
    #: `response_format` with a JSON schema, or `json_object`.
    json_schema: bool = False
    #: All of a strict schema, what llama.cpp's grammar leaves out too.
    any_schema: bool = False
    #: Parts of a message other than text.
    images: bool = False
    #: `n` above 1, and several prompts in one completion.
    choices: bool = False
    #: `logprobs` and `top_logprobs` of a chat.
    logprobs: bool = False
    seed: bool = False
    stop: bool = False
    #: `echo`, `suffix`, `best_of` and `logprobs` of a completion.
    legacy: bool = False
    #: `dimensions` of embeddings.
    dimensions: bool = False


@dataclass(frozen=True, slots=True)
class ChatTarget:
    """What the ladder must know of a served entity that speaks the OpenAI wire."""

    task: Task
    #: What it answers; a hosted chat model also completes prompts.
    operations: frozenset[Operation]
    #: `model` in the request that it gets.
    model: str
    #: None: an outside server, which judges for itself.
    can: Capabilities | None = None
    #: Tokens that one answer may have where the caller sets no bound; None: the server's own.
    default_max_tokens: int | None = None
    #: Whether it is asked for `stream_options.include_usage`; some servers refuse that.
    asks_usage: bool = True
    #: `model` in every answer; None: as the server says.
    answers_as: str | None = None


def failed_event(code: str, message: str) -> bytes:
    """The last event of a stream that failed, on every route; no `[DONE]` follows. The openai SDK
    raises on an `error` object only."""
    error = {"error": {"message": message, "type": code.lower(), "code": code}}
    return json.dumps(error).encode()
