"""What a query gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request, as the model's server counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    #: They were estimated, since the model gives none.
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer, whatever its form."""

    endpoint: str
    #: The whole body, decoded.
    body: Any
    usage: Usage | None = None
    #: Which served entity answered (the header `served-model-name`).
    served_entity: str | None = None
    #: The server's id of the request.
    request_id: str | None = None
    #: From the first try to the answer, waits included.
    seconds: float = 0.0
    #: Requests that were sent for it: 1 where none was tried again.
    attempts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Answer):
    """An answer of a classic model."""

    #: `predictions` of the body (`outputs` of a feature serving endpoint): a list, or a dict of
    #: lists for models with named outputs.
    predictions: Any = None

    def __len__(self) -> int:
        """Of `predictions`; 1 of a single value."""
        return len(self.predictions) if isinstance(self.predictions, (list, Mapping)) else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function that the model wants to be called."""

    id: str
    name: str
    #: JSON, as the model wrote it.
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat(Answer):
    """An answer of a chat or completions model; the first choice's parts are at hand."""

    text: str = ""
    role: str = "assistant"
    finish_reason: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    #: Every choice, as it came.
    choices: tuple[Mapping[str, Any], ...] = ()
    model: str | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings(Answer):
    """Vectors, in the order of the inputs."""

    vectors: list[list[float]] = field(default_factory=list)
    model: str | None = None

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatChunk:
    """One event of a streamed chat."""

    #: The new text of the first choice; "" in events that carry none.
    text: str
    finish_reason: str | None = None
    usage: Usage | None = None
    #: The event as it came.
    body: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text
