"""A provider server for tests: speaks OpenAI's dialect over raw sockets, faults included.

What it answers is a function of what it was asked, so that a test says in a few lines how a server
misbehaves, down to the byte.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@dataclass(slots=True)
class Asked:
    method: str
    path: str
    #: By lower-case name.
    headers: dict[str, str]
    body: bytes
    #: Counts the server's connections, from 0.
    connection: int

    @property
    def document(self) -> dict[str, Any]:
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document


class Out:
    """What a behaviour answers with."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        #: Whether the connection serves a further request.
        self.keep = True
        self._chunked = False

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def whole(
        self,
        body: bytes | Any,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        kind: str = "application/json",
    ) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": kind, "Content-Length": str(len(data))} | dict(headers or {})
        await self.raw(_head(status, given) + data)

    async def begin(self, *, chunked: bool = True, status: int = 200) -> None:
        """The head of a stream; without `chunked` it ends when the connection does."""
        self._chunked = chunked
        self.keep = chunked
        headers = {"Content-Type": "text/event-stream; charset=utf-8"}
        headers |= {"Transfer-Encoding": "chunked"} if chunked else {"Connection": "close"}
        await self.raw(_head(status, headers))

    async def piece(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    async def event(self, document: Any) -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        await self.piece(b"data: " + data + b"\n\n")

    async def end(self, *, done: bool = True) -> None:
        if done:
            await self.piece(b"data: [DONE]\n\n")
        if self._chunked:
            await self.raw(b"0\r\n\r\n")

    def reset(self) -> None:
        """Cut the connection, with a reset rather than a farewell."""
        self.keep = False
        self.writer.transport.abort()


Behaviour = Callable[[Asked, Out], Awaitable[None]]


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {v}" for name, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunk(text: str | None = None, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m-7", "choices": [choice]}


def completion(text: str = "Hello") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "c1",
        "object": "chat.completion",
        "model": "m-7",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": USAGE,
        "made_up_field": {"kept": True},
    }


async def proper(asked: Asked, out: Out) -> None:
    """As a server should: whole, or a stream of as many words as `max_tokens` says (3)."""
    document = asked.document
    if not document.get("stream"):
        await out.whole(completion())
        return
    await out.begin()
    for number in range(int(document.get("max_tokens", 3))):
        await out.event(chunk(f"w{number} "))
    await out.event(chunk(finish="stop"))
    await out.end()


async def closes_without_a_word(asked: Asked, out: Out) -> None:
    """As llama.cpp does: the stream is whole, keep-alive is announced, and the connection ends."""
    await out.raw(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nKeep-Alive: timeout=5, max=100\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    out._chunked = True
    await out.event(chunk("Hi"))
    await out.event(chunk(finish="stop"))
    await out.end()
    await asyncio.sleep(0)
    out.keep = False


@dataclass
class Provider:
    """A running server. `behaviour` may be changed at any time."""

    behaviour: Behaviour = proper
    tls: ssl.SSLContext | None = None
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    #: Connections that are open now.
    open: int = 0
    port: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    async def until_open(self, count: int) -> None:
        """Wait until so many connections are open."""
        await self._until(lambda: self.open == count)

    async def until_asked(self, count: int = 1) -> None:
        """Wait until so many requests have come, in all."""
        await self._until(lambda: len(self.asked) >= count)

    async def _until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        self.connections += 1
        self.open += 1
        self._changed.set()
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").rstrip().split("\r\n")
                method, path, _ = first.split(" ", 2)
                headers = {
                    name.strip().lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines)
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                asked = Asked(method, path, headers, body, number)
                self.asked.append(asked)
                self._changed.set()
                out = Out(writer)
                answering = asyncio.ensure_future(self.behaviour(asked, out))
                gone = asyncio.ensure_future(reader.read(1))  # a client has nothing to say now
                try:
                    await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
                    if not answering.done():
                        return
                    await answering
                finally:
                    for task in (answering, gone):
                        task.cancel()
                    await asyncio.gather(answering, gone, return_exceptions=True)
                if not out.keep:
                    return
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.open -= 1
            self._changed.set()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def running(
    behaviour: Behaviour = proper,
    *,
    tls: ssl.SSLContext | None = None,
    socket: Path | None = None,
) -> AsyncIterator[Provider]:
    """On a port of this machine, or on a unix socket."""
    provider = Provider(behaviour, tls)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        with contextlib.suppress(asyncio.CancelledError):  # by the end of the test, below
            await provider._serve(reader, writer)

    if socket is not None:
        server = await asyncio.start_unix_server(serve, socket)
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        provider.port = server.sockets[0].getsockname()[1]
    try:
        yield provider
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
