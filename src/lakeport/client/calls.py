"""What every call shares: sending by the retry rule, and JSON there and back."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson

from lakeport.client.cache import Cache
from lakeport.client.errors import BadAnswer, InvalidInput, LakeportError
from lakeport.client.flow import Flow, Request, Response, Sleep
from lakeport.client.readings import loads
from lakeport.client.recording import Recorder
from lakeport.client.refusals import error_of, request_id
from lakeport.client.retry import Retry

#: Methods whose calls change nothing, or the same thing however often they are made.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Context:
    """A client's settings and memory, and the world's clock and dice."""

    host: str
    retry: Retry
    cache: Cache
    validate: bool = True
    log: Recorder | None = None
    clock: Callable[[], float] = time.monotonic
    #: Seconds since the epoch.
    now: Callable[[], float] = time.time
    draw: Callable[[], float] = field(default=random.random)


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer."""

    response: Response
    #: Requests that were sent for it.
    attempts: int
    #: All in all, waits included.
    seconds: float

    @property
    def request_id(self) -> str | None:
        return request_id(self.response.headers)


def send(context: Context, request: Request, retry: Retry | None = None) -> Flow[Reply]:
    """Send it, and again by `retry` (None: the client's). Raises what its last answer means."""
    retry = retry or context.retry
    safe = request.method in _SAFE
    began = context.clock()
    attempts = 0
    while True:
        attempts += 1
        try:
            response: Response = yield request
        except LakeportError as caught:
            error = caught
        else:
            if 200 <= response.status < 300:
                return Reply(response, attempts, context.clock() - began)
            error = error_of(response, request.endpoint)
        error.attempts = attempts
        if attempts >= retry.attempts or not retry.allows(error, safe=safe):
            raise error
        wait = retry.wait(attempts, getattr(error, "retry_after", None), context.draw())
        if context.clock() - began + wait > retry.deadline:
            raise error
        yield Sleep(wait)


def request(
    context: Context,
    method: str,
    path: str,
    body: Any = None,
    *,
    query: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Flow[Any]:
    """Any call of the API: see `Client.request`."""
    method = method.upper()
    if method not in METHODS:
        raise InvalidInput(f"method={method!r}: expected one of {', '.join(sorted(METHODS))}.")
    if not path.startswith("/") or path.startswith("//"):
        raise InvalidInput(f"path={path!r}: expected a path from the host on, like /api/2.0/….")
    reply = yield from send(
        context,
        Request(
            method,
            quoted(path),
            None if body is None else to_bytes(body),
            query=query or {},
            timeout=seconds(timeout),
        ),
    )
    return content_of(reply.response)


def get_json(
    context: Context, path: str, *, endpoint: str | None = None, retry: Retry | None = None
) -> Flow[Any]:
    """What a GET shows. Raises BadAnswer when it is no JSON."""
    reply = yield from send(context, Request("GET", path, endpoint=endpoint), retry)
    return json_of(reply, endpoint)


def json_of(reply: Reply, endpoint: str | None) -> Any:
    """Raises BadAnswer, with the beginning of what is no JSON."""
    try:
        return loads(reply.response.body)
    except ValueError:
        shown = reply.response.body[:200].decode(errors="replace")
        error = BadAnswer(
            f"The answer is no JSON: {shown!r}. Is the host a Databricks workspace or Lakeport?",
            endpoint=endpoint,
            status=reply.response.status,
            request_id=reply.request_id,
        )
        error.attempts = reply.attempts
        raise error from None


def content_of(response: Response) -> Any:
    """JSON as values, text as text, nothing as None."""
    if not response.body:
        return None
    kind = response.headers.get("content-type", "")
    if "json" in kind or response.body[:1] in b"{[":
        try:
            return loads(response.body)
        except ValueError:
            if "json" in kind:
                raise BadAnswer("The answer is no JSON.", status=response.status) from None
    return response.body.decode(errors="replace")


def to_bytes(body: Any) -> bytes:
    """Raises InvalidInput for values that JSON has not."""
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise InvalidInput(f"body: expected plain JSON values: {error}.") from None


def seconds(timeout: Any) -> float | None:
    """Raises InvalidInput unless it is a time."""
    if timeout is not None and not (isinstance(timeout, (int, float)) and timeout > 0):
        raise InvalidInput(f"timeout={timeout!r}: expected seconds, more than 0.")
    known: float | None = timeout
    return known


def named(name: Any) -> str:
    """Raises InvalidInput unless `name` can be an endpoint's."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidInput(f"name={name!r}: expected the name of a serving endpoint.")
    return name


def quoted(path: str) -> str:
    """A path that may have been quoted already, without what HTTP cannot carry."""
    return quote(path, safe="/?&=:@%+,;~!$'()*")
