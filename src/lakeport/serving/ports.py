"""The front as the doors see it: a name, a caller, bytes and a deadline in; bytes or a stream out.

`serving/invoke.py` is the implementation. It knows no door: the ASGI route calls it today, a lane
before ASGI may call it later.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from lakeport.auth.callers import Caller
from lakeport.wire.chat import Operation


@dataclass(slots=True)
class Invocation:
    endpoint: str
    #: One served entity asked for by name, or None: the endpoint's traffic decides.
    entity: str | None
    body: bytes
    #: As the caller sent them, lower-cased media type; None when absent.
    content_type: str | None
    content_encoding: str | None
    request_id: str
    #: What an OpenAI route asks for; None at `/invocations`, where the body's keys say.
    operation: Operation | None = None
    #: `body` parsed, where the door had to read it already.
    document: dict[str, Any] | None = None


@dataclass(slots=True)
class Reply:
    status: int
    body: bytes
    content_type: str
    #: For the header `served-model-name`.
    served_entity: str
    #: For the header `Retry-After`.
    retry_after: int | None = None


@dataclass(slots=True)
class StreamReply:
    """JSON documents, one an event, to be framed as SSE. The lease ends when `events` is closed
    (`aclose`) or exhausted; a failure in mid-stream comes as a last event with `error`."""

    events: AsyncIterator[bytes]
    served_entity: str


@dataclass(slots=True)
class CutReply:
    """An answer whose connection breaks before its end; only faults on demand make one."""

    #: None: it breaks before the first byte. A stream has only the events that come before.
    reply: Reply | StreamReply | None
    #: Bytes of a whole answer's body that come before.
    after: int = 0


class InvokePort(Protocol):
    async def invoke(
        self, caller: Caller, invocation: Invocation
    ) -> Reply | StreamReply | CutReply:
        """Raises ApiError. Cancelling it cancels what was started for the caller."""

    def queryable(self, caller: Caller) -> list[str]:
        """The names of the endpoints that `caller` may query, in order."""
