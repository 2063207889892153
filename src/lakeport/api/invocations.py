"""The data plane's routes: raw ASGI, since a framework costs more than a small model's predict."""

import asyncio
import logging
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import orjson
from starlette.types import Message, Receive, Scope, Send

from lakeport.api.bodies import ClientGone, read_body
from lakeport.api.cut import cut
from lakeport.api.errors import send_error
from lakeport.api.pushed import push
from lakeport.auth.callers import Caller
from lakeport.errors import (
    ENDPOINT_GONE,
    ApiError,
    EndpointNotFound,
    Internal,
    MethodNotAllowed,
    Unavailable,
)
from lakeport.serving.ports import CutReply, Invocation, InvokePort, Reply, StreamReply
from lakeport.wire.chat import failed_event

logger = logging.getLogger("lakeport.api")

PREFIX = "/serving-endpoints/"

#: Bytes of Content-Type and of Content-Encoding that a worker gets to see.
_LONGEST_VALUE = 1024
#: An answer that takes longer than this is worth a task that sees the client hang up.
WATCH_AFTER = 0.05


@lru_cache(maxsize=256)
def parse_path(raw_path: bytes) -> tuple[str, str | None] | None:
    """Endpoint and served entity (None: the traffic decides) of an invocation's path, or None.

    Raises EndpointNotFound for a name that no endpoint can have. Names are decoded once, after
    the path was split: a name cannot add a part to it.
    """
    match raw_path.split(b"/"):
        case [b"", b"serving-endpoints", name, b"invocations"]:
            return name_in(name), None
        case [b"", b"serving-endpoints", name, b"served-models", entity, b"invocations"]:
            return name_in(name), name_in(entity)
    return None


def name_in(part: bytes) -> str:
    """The name that a part of a path is. Raises EndpointNotFound for what no name can be."""
    try:
        name = unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise EndpointNotFound(ENDPOINT_GONE) from None
    if not 0 < len(name) <= 255 or not name.isprintable():
        raise EndpointNotFound(ENDPOINT_GONE)
    return name


class Invocations:
    """Answers invocations. `max_body` bounds a request's body, in bytes."""

    def __init__(self, invoke: InvokePort, *, max_body: int) -> None:
        self._invoke = invoke
        self._max_body = max_body

    async def answer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        endpoint: str,
        entity: str | None,
        caller: Caller,
        headers: Mapping[bytes, bytes],
        request_id: str,
    ) -> None:
        """One invocation from body to answer."""
        if scope["method"] != "POST":
            refusal = MethodNotAllowed("An endpoint is invoked with POST.")
            await send_error(send, refusal, request_id, [(b"allow", b"POST")])
            return
        try:
            invocation = Invocation(
                endpoint=endpoint,
                entity=entity,
                body=await read_body(receive, headers, self._max_body),
                content_type=lower(headers.get(b"content-type")),
                content_encoding=lower(headers.get(b"content-encoding")),
                request_id=request_id,
                traceparent=text(headers.get(b"traceparent")),
            )
        except ApiError as error:
            await send_error(send, error, request_id)
        except ClientGone:
            return
        else:
            await self.ask(scope, receive, send, caller, invocation)

    async def ask(
        self, scope: Scope, receive: Receive, send: Send, caller: Caller, invocation: Invocation
    ) -> None:
        """One invocation whose body is read, to its answer."""
        try:
            reply = await self._watched(receive, caller, invocation)
        except ApiError as error:
            await send_error(send, error, invocation.request_id)
        except ClientGone:
            return
        else:
            await send_outcome(scope, receive, send, reply, invocation.request_id)

    async def _watched(
        self, receive: Receive, caller: Caller, invocation: Invocation
    ) -> Reply | StreamReply | CutReply:
        """The endpoint's answer; cancelled with ClientGone once the client hangs up.

        A timer, not a task: most answers come before it would fire.
        """
        watch = Watch(receive)
        timer = asyncio.get_running_loop().call_later(WATCH_AFTER, watch.start)
        try:
            return await self._invoke.invoke(caller, invocation)
        except asyncio.CancelledError:
            watch.raise_if_gone()
            raise
        finally:
            timer.cancel()
            watch.stop()


class Watch:
    """Cancels the task that made it when the client hangs up. For use once the body is read: only
    then does `receive` have nothing but the end to tell."""

    __slots__ = ("_gone", "_receive", "_task", "_watching")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task = asyncio.current_task()
        self._watching: asyncio.Task[None] | None = None
        self._gone = False

    def start(self) -> None:
        self._watching = asyncio.get_running_loop().create_task(self._wait())

    def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    def raise_if_gone(self) -> None:
        """In a cancelled task: raises ClientGone if it was the client that cancelled it."""
        if self._gone:
            if self._task is not None:
                self._task.uncancel()
            raise ClientGone from None

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        if self._task is not None:
            self._task.cancel()


@lru_cache(maxsize=64)
def lower(value: bytes | None) -> str | None:
    """A header's value as the front takes it; cut, since a worker's frame has little room beside
    the body. No value that long is one that a worker takes."""
    return None if value is None else value[:_LONGEST_VALUE].decode("latin-1").strip().lower()


def text(value: bytes | None) -> str | None:
    """A header's value that seldom comes again, cut as `lower` does."""
    return None if value is None else value[:_LONGEST_VALUE].decode("latin-1")


async def send_outcome(
    scope: Scope,
    receive: Receive,
    send: Send,
    reply: Reply | StreamReply | CutReply,
    request_id: str,
) -> None:
    """The answer to one invocation, whose body is read."""
    if isinstance(reply, Reply):
        await _send_reply(send, reply)
    elif isinstance(reply, StreamReply):
        await _send_stream(scope, receive, send, reply, request_id)
    else:
        await _send_cut(scope, receive, send, reply, request_id)


def wait_of(reply: Reply) -> int | None:
    """The seconds of a reply's `Retry-After`; None: it has none.

    As with our own errors: the SDK waits for whole seconds, and takes 0 for "at once".
    """
    if reply.retry_after is None and reply.status not in (429, 503):
        return None
    return max(1, reply.retry_after or 1)


async def _send_reply(send: Send, reply: Reply) -> None:
    headers = [
        (b"content-type", reply.content_type.encode("latin-1", "replace")),
        (b"content-length", str(len(reply.body)).encode()),
        (b"served-model-name", _header(reply.served_entity)),
    ]
    if (wait := wait_of(reply)) is not None:
        headers.append((b"retry-after", str(wait).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _send_stream(
    scope: Scope, receive: Receive, send: Send, reply: StreamReply, request_id: str
) -> None:
    """Server-sent events, one a JSON document; `[DONE]` at the end unless an error was the last."""
    watch = Watch(receive)
    watch.start()
    try:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"text/event-stream"),
                    (b"cache-control", b"no-cache"),
                    (b"served-model-name", _header(reply.served_entity)),
                ],
            }
        )
        last = b""
        try:
            pushed = await push(scope, send, reply.events, framed)
            if pushed is not None:
                last = pushed
            else:
                async for last in reply.events:
                    await send(_event(last))
        except ApiError as error:
            last = failed_event(error.error_code, error.message)
            await send(_event(last))
        except Exception:  # the head is out: all that is left is to say so in the stream
            logger.exception("invocation %s failed in mid-stream", request_id)
            last = failed_event(Internal.error_code, "The stream broke off.")
            await send(_event(last))
        end = b"" if is_error(last) else b"data: [DONE]\n\n"
        await send({"type": "http.response.body", "body": end})
    except asyncio.CancelledError:
        try:
            watch.raise_if_gone()
        except ClientGone:
            return
        # The server stops and its grace is over: a cut would look like the answer's end.
        await send(_event(failed_event(Unavailable.error_code, "Lakeport is stopping.")))
        await send({"type": "http.response.body", "body": b""})
        raise
    finally:
        watch.stop()
        reply.events.close()


async def _send_cut(
    scope: Scope, receive: Receive, send: Send, reply: CutReply, request_id: str
) -> None:
    """As much of an answer as is to come before the connection breaks."""

    async def send_all_but_the_end(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            whole = message["body"] if isinstance(reply.reply, Reply) else b""
            part = whole[: min(reply.after, max(0, len(whole) - 1))]
            message = {"type": "http.response.body", "body": part, "more_body": True}
        await send(message)

    if isinstance(reply.reply, Reply):
        await _send_reply(send_all_but_the_end, reply.reply)
    elif reply.reply is not None:
        await _send_stream(scope, receive, send_all_but_the_end, reply.reply, request_id)
    cut(scope)


#: What Python's `splitlines`, and so MLflow's and httpx's readers of events, take for the end of a
#: line. In JSON they stand in strings only, where an escape says the same.
_LINE_ENDS = (
    ("\u0085".encode(), b"\\u0085"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)


def framed(document: bytes) -> bytes:
    """A JSON document as a server-sent event."""
    if not document.isascii():
        for mark, escape in _LINE_ENDS:
            if mark in document:
                document = document.replace(mark, escape)
    if b"\r" in document:  # between the parts of a JSON document
        document = document.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\n" in document:
        document = document.replace(b"\n", b"\ndata: ")
    return b"data: " + document + b"\n\n"


def _event(document: bytes) -> Message:
    return {"type": "http.response.body", "body": framed(document), "more_body": True}


def is_error(event: bytes) -> bool:
    """Whether a stream's event tells of a failure: a JSON object with `error`."""
    if b'"error"' not in event:
        return False
    try:
        document = orjson.loads(event)
    except orjson.JSONDecodeError:
        return False
    if not isinstance(document, dict):
        return False
    output = document.get("databricks_output")
    return bool(document.get("error") or (isinstance(output, dict) and output.get("error")))


@lru_cache(maxsize=1024)
def _header(value: str) -> bytes:
    return value.encode("latin-1", "replace")
