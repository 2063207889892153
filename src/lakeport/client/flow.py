"""Calls as data: what the sync and the async client share.

A *flow* is a generator. It yields what it wants from the world (a `Step`), gets the result sent in,
and returns its own. It does no I/O, so one source serves both clients, and a test drives it with
plain values.

    def get(name: str) -> Flow[Endpoint]:
        response = yield Request("GET", f"/api/2.0/serving-endpoints/{name}")
        return parse(response)
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Its result is a Response, whatever its status; or TimedOut or
    ConnectionFailed is raised where it is yielded."""

    method: str
    #: From the host on, quoted.
    path: str
    body: bytes | None = None
    content_type: str = "application/json"
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Seconds until the whole answer must be there; None: the client's. Of a stream: until the
    #: first event, and between two.
    timeout: float | None = None
    #: For errors.
    endpoint: str | None = None
    #: A successful answer is left unread, in the Response's `stream`.
    stream: bool = False
    #: Another server than the workspace, "https://mlflow.example.com". The workspace's token does
    #: not go there.
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    #: Lower-case names.
    headers: Mapping[str, str]
    body: bytes
    #: What is left to read, where the request asked for a stream: the transport's own.
    stream: Any = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait; its result is None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Call a function that may block; its result is the function's. The async client does it in a
    thread."""

    function: Callable[[], Any]


Step: TypeAlias = Request | Sleep | Work
T = TypeVar("T")
Flow: TypeAlias = Generator[Step, Any, T]
