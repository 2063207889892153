"""Calls as data: what the sync and the async client share.

A *flow* is a generator. It yields what it wants from the world (`Request`, `Sleep`), gets the
result sent in, and returns its own. It does no I/O, so one source serves both clients, and a test
drives it with plain values.

    def get(name: str) -> Flow[Endpoint]:
        response = yield Request("GET", f"/api/2.0/serving-endpoints/{name}")
        return parse(response)
"""

from collections.abc import Generator, Mapping
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
    #: Seconds until the whole answer must be there; None: the client's.
    timeout: float | None = None
    #: For errors.
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    #: Lower-case names.
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait; its result is None."""

    seconds: float


Step: TypeAlias = Request | Sleep
T = TypeVar("T")
Flow: TypeAlias = Generator[Step, Any, T]
