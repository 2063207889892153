"""The model registry under our port: a reverse proxy to an MLflow server.

Bodies stream both ways and are never held: what the slower side does not take, the faster one does
not send. The caller is authenticated before; who it was stays here.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol
from urllib.parse import quote, unquote

import aiohttp
from multidict import CIMultiDict
from starlette.types import ASGIApp, Receive, Scope, Send
from yarl import URL

from lakeport.api.context import KEY
from lakeport.api.errors import Headers, send_error
from lakeport.errors import (
    ApiError,
    DeadlineExceeded,
    InvalidParameter,
    MethodNotAllowed,
    NotFound,
    NotImplementedYet,
    PermissionDenied,
    TooLarge,
    Unavailable,
)
from lakeport.models.base import RegistryUnavailable

log = logging.getLogger(__name__)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
#: What may be sent again when it is not known whether it arrived.
REPEATABLE = frozenset({"GET", "HEAD"})
#: Seconds in which neither side moves a byte, after which the exchange ends.
IDLE = 300.0
#: Seconds for which a server that refuses connections is tried again: until it is noticed that it
#: is gone. How long to wait for one that starts is the upstream's choice.
RECONNECT = 10.0
RECONNECT_PAUSE = 0.05
#: Bytes of a request that is no artifact. MLflow holds those in memory; its own are below 1 MB.
LARGEST_CALL = 64 * 1024 * 1024
#: Seconds between two pieces (of about 250 kB) of all bodies together, in which the loop is free
#: for invocations: a large upload goes at some 140 MB/s, and an invocation then takes 2 ms instead
#: of 1 (`benchmarks/upload.py`).
PAUSE = 0.001

#: `/v1/traces` is OpenTelemetry's, to which MLflow's client sends spans.
_PROXIED = re.compile(
    r"/api/(?:2\.0|3\.0|4\.0)/mlflow[^/]*(?:/.*)?|/ajax-api/.*|/version|/v1/traces", re.DOTALL
)
_ARTIFACT = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts/.*", re.DOTALL)
#: MLflow's coding assistant runs programs on the server's machine, for whoever comes from there:
#: to an outside server beside us, all our callers would.
_ASSISTANT = re.compile(r"/ajax-api/[^/]*/mlflow/assistant(?:/.*)?", re.DOTALL)
_REGISTRY_WRITE = re.compile(r"/[^/]*api/[^/]*/mlflow/(?:registered-models|model-versions)/.*")

#: Of one connection, not of what is said over it (RFC 9110, 7.6.1).
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer "
    b"transfer-encoding upgrade".split()
)
#: Who the caller is and where from: ours to know. MLflow believes some, and refuses by others.
_KEPT_FROM_UPSTREAM = _HOP_BY_HOP | frozenset(
    b"authorization cookie expect forwarded host origin x-forwarded-for x-forwarded-host "
    b"x-forwarded-port x-forwarded-prefix x-forwarded-proto x-forwarded-server "
    b"x-forwarded-user x-real-ip".split()
)
_KEPT_FROM_CLIENT = _HOP_BY_HOP | frozenset(b"date server set-cookie".split())


class Upstream(Protocol):
    """The MLflow server to pass requests on to; `models.mlflow.Registry` is one."""

    async def session(self) -> tuple[aiohttp.ClientSession, str]:
        """Connections to it (which neither decompress nor keep cookies) and the URL below which it
        answers, once it is up. Raises RegistryUnavailable."""
        ...


def is_mlflow_path(path: str) -> bool:
    """Whether a (decoded) path is one of MLflow's, to be given to the proxy."""
    return _PROXIED.fullmatch(path) is not None


def mlflow_proxy(
    upstream: Upstream | None,
    *,
    on_write: Callable[[str], None] = lambda _: None,
    idle: float = IDLE,
) -> ASGIApp:
    """An ASGI app that passes MLflow's requests on to `upstream`; None means that there is none.

    To be called for authenticated callers only. `on_write` is told the path of each successful
    write to registered models, their versions or aliases. An exchange ends once nothing has moved
    for `idle` seconds.
    """

    pace = _Pace()

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        context = scope.get(KEY)
        request_id = context.request_id if context is not None else ""
        try:
            target = _target(scope)
            if upstream is None:
                raise NotImplementedYet("The model registry is off (LAKEPORT_REGISTRY=off).")
            exchange = _Exchange(
                upstream, scope, receive, send, target=target, pace=pace, idle=idle
            )
            status = await exchange.run()
        except ApiError as error:
            await send_error(send, error, request_id)
            return
        written = 200 <= status < 300 and scope["method"] not in REPEATABLE
        if written and _REGISTRY_WRITE.fullmatch(scope["path"]):
            on_write(scope["path"])

    return proxy


def _target(scope: Scope) -> str:
    """The path and query to ask for, as they were received. Raises ApiError."""
    path: str = scope["path"]
    if not is_mlflow_path(path):
        raise NotFound(f"No API found for '{scope['method']} {path}'.")
    if scope["method"] not in METHODS:
        raise MethodNotAllowed(f"The registry does not take {scope['method']}.")
    if _climbs(path):
        raise InvalidParameter("The path must not hold '..'.")
    if _ASSISTANT.fullmatch(path):
        raise PermissionDenied("MLflow's assistant is not to be had through Lakeport.")
    raw: bytes = scope.get("raw_path") or quote(path).encode()
    query: bytes = scope.get("query_string", b"")
    return (raw + b"?" + query if query else raw).decode("latin-1")


def _climbs(path: str) -> bool:
    """Whether a segment is '..', however often it is encoded."""
    while (decoded := unquote(path)) != path:
        path = decoded
    return ".." in re.split(r"[/\\]", path)


class _Pace:
    """Large bodies take turns, so that other requests never wait for more than one piece."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def rest(self) -> None:
        """To be called between two pieces of one body."""
        async with self._turn:
            await asyncio.sleep(PAUSE)


class _Body:
    """The request's body as it comes. Iterated at most once it has begun."""

    def __init__(
        self, receive: Receive, moved: Callable[[], None], pace: _Pace, bound: int | None
    ) -> None:
        self._receive = receive
        self._moved = moved
        self._pace = pace
        self._bound = bound
        self._ended = asyncio.Event()
        self.begun = False
        self.client_gone = False
        self.too_large = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        size = 0
        while not self._ended.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.client_gone = True
                raise ConnectionAbortedError
            self._moved()
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if self._bound is not None and size > self._bound:
                self.too_large = True
                raise ConnectionAbortedError
            if not message.get("more_body", False):
                self._ended.set()
            if piece:
                yield piece
                if not self._ended.is_set():
                    await self._pace.rest()

    def skip(self) -> None:
        """There is none."""
        self._ended.set()

    async def client_hangs_up(self) -> None:
        """Return once the client is gone; before the body's end, iterating finds that out."""
        await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


class _Exchange:
    """One request and its answer."""

    def __init__(
        self,
        upstream: Upstream,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        target: str,
        pace: _Pace,
        idle: float,
    ) -> None:
        self._upstream = upstream
        self._pace = pace
        self._method: str = scope["method"]
        self._target = target
        self._send = send
        self._idle = idle
        self._headers = _request_headers(scope["headers"])
        bound = None if _ARTIFACT.fullmatch(scope["path"]) else LARGEST_CALL
        told = self._headers.get("content-length", "0")
        if bound is not None and told.isdigit() and int(told) > bound:
            raise TooLarge(f"The request is larger than the limit of {bound} bytes.")
        self._body = _Body(receive, self._moved, pace, bound)
        chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        self._has_body = chunked or told != "0"
        if not self._has_body:
            self._body.skip()
        self._clock: asyncio.Timeout | None = None
        self._answering = False
        self._status = 0

    async def run(self) -> int:
        """The status of the answer that was passed on; 0 when the client left before.

        Raises ApiError when there is none to pass on.
        """
        passing = asyncio.ensure_future(self._pass_on())
        watching = asyncio.ensure_future(self._body.client_hangs_up())
        both = {passing, watching}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            return passing.result() if passing.done() else 0
        finally:
            for task in both:
                task.cancel()
            await asyncio.wait(both)

    async def _pass_on(self) -> int:
        try:
            async with asyncio.timeout(None) as self._clock:
                await self._ask()
        except TimeoutError:
            log.warning("The registry did not move for %g s: %s", self._idle, self._method)
            if not self._answering:
                raise DeadlineExceeded("The model registry took too long to answer.") from None
        except RegistryUnavailable as error:
            raise Unavailable(str(error)) from error
        finally:
            self._clock = None
        # An answer that broke off is left unfinished: the server then closes the connection.
        return self._status

    async def _ask(self) -> None:
        """Ask until it answers. A request of which nothing can have arrived is sent again."""
        give_up = time.monotonic() + RECONNECT
        while True:
            try:
                return await self._ask_once()
            except aiohttp.ClientError as error:
                if self._body.too_large:
                    raise TooLarge(
                        f"The request is larger than the limit of {LARGEST_CALL} bytes."
                    ) from error
                if self._answering or self._body.client_gone:
                    return None
                unsent = isinstance(error, aiohttp.ClientConnectorError)
                again = unsent or (self._method in REPEATABLE and not self._body.begun)
                if not again or time.monotonic() > give_up:
                    raise Unavailable(
                        "The model registry cannot be reached."
                        if unsent
                        else "The model registry's connection broke before it answered; try again."
                    ) from error
            self._stop_clock()
            await asyncio.sleep(RECONNECT_PAUSE)

    async def _ask_once(self) -> None:
        session, base_url = await self._upstream.session()
        self._moved()
        async with session.request(
            self._method,
            URL(base_url + self._target, encoded=True),
            headers=self._headers,
            data=self._body if self._has_body else None,
            allow_redirects=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        ) as answer:
            if answer.status == 401:
                # The caller's token is good; it is ours for the outside server that is not.
                raise RegistryUnavailable(
                    "The MLflow server refuses Lakeport's credentials (HTTP 401)."
                )
            self._answering = True
            self._status = answer.status
            headers = _answer_headers(answer.raw_headers, base_url)
            await self._send(
                {"type": "http.response.start", "status": answer.status, "headers": headers}
            )
            begun = False
            async for piece in answer.content.iter_any():
                self._moved()
                if begun:
                    await self._pace.rest()
                begun = True
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
                self._moved()
            await self._send({"type": "http.response.body", "body": b""})

    def _moved(self) -> None:
        # The body may still come when the exchange has ended.
        if self._clock is not None and not self._clock.expired():
            self._clock.reschedule(asyncio.get_running_loop().time() + self._idle)

    def _stop_clock(self) -> None:
        # The wait for a server that comes up has a bound of its own.
        if self._clock is not None:
            self._clock.reschedule(None)


def _request_headers(received: Headers) -> CIMultiDict[str]:
    dropped = _KEPT_FROM_UPSTREAM | _named_by_connection(received)
    return CIMultiDict(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in received
        if name.lower() not in dropped
    )


def _answer_headers(received: tuple[tuple[bytes, bytes], ...], base_url: str) -> Headers:
    dropped = _KEPT_FROM_CLIENT | _named_by_connection(received)
    base = base_url.encode()
    return [
        # A redirect leads to the server's own address, which is not the client's business.
        (name.lower(), value.removeprefix(base) if name.lower() == b"location" else value)
        for name, value in received
        if name.lower() not in dropped
    ]


def _named_by_connection(headers: Headers | tuple[tuple[bytes, bytes], ...]) -> frozenset[bytes]:
    return frozenset(
        word.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for word in value.split(b",")
    )
