"""The front as the doors see it: a name, a caller, bytes and a deadline in; bytes or a stream out.

`serving/invoke.py` is the implementation, and knows no door.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from lakeport.auth.callers import Caller
from lakeport.errors import ApiError
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
    #: The caller's trace, as W3C's header says it.
    traceparent: str | None = None


@dataclass(slots=True)
class Reply:
    status: int
    body: bytes
    content_type: str
    #: For the header `served-model-name`.
    served_entity: str
    #: For the header `Retry-After`.
    retry_after: int | None = None


class EventStream(Protocol):
    """JSON documents, one an event. A failure in mid-stream comes as a last one with `error`."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...

    def push(self, take: Callable[[bytes | None], bool]) -> bool:
        """Hand events to `take` as they come, and None at their end, until it says that it takes
        no more for now: then call this again. False: only iterating will do."""

    def close(self) -> None:
        """The caller takes no more: the work for it is cancelled. Idempotent."""


@dataclass(slots=True)
class StreamReply:
    """An answer to be framed as SSE. The lease ends when `events` is exhausted or closed."""

    events: EventStream
    served_entity: str


@dataclass(slots=True)
class CutReply:
    """An answer whose connection breaks before its end; only faults on demand make one."""

    #: None: it breaks before the first byte. A stream has only the events that come before.
    reply: Reply | StreamReply | None
    #: Bytes of a whole answer's body that come before.
    after: int = 0


Outcome = Reply | StreamReply | CutReply | ApiError
Done = Callable[[Outcome], None]


class Asked(Protocol):
    """An invocation under way."""

    def cancel(self) -> None:
        """The caller has gone: what was started for it ends, and `done` is not called any more.
        Idempotent."""


class InvokePort(Protocol):
    def begin(self, caller: Caller, invocation: Invocation, done: Done) -> Asked:
        """Begin to answer an invocation, without a task of its own; never raises.

        `done` gets the outcome, once, on the loop, perhaps before this returns.
        """

    async def invoke(
        self, caller: Caller, invocation: Invocation
    ) -> Reply | StreamReply | CutReply:
        """As `begin`, for coroutines. Raises ApiError. Cancelling it cancels what was started."""

    def queryable(self, caller: Caller) -> list[str]:
        """The names of the endpoints that `caller` may query, in order."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a deployment is."""

    #: Requests that replicas hold.
    in_flight: int
    #: Requests in the queue.
    waiting: int
    #: The integral over time of `in_flight + waiting`, in request-seconds, since it was made: two
    #: readings give the mean concurrency between them.
    busy: float
    #: Seconds since the last request ended; 0 while there is one.
    idle: float
    #: Requests that one replica may hold; 0: there is none.
    credit: int = 0
