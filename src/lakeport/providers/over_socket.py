"""One POST over a unix socket, in fewer steps than a client for every case takes.

An engine sends each token by itself, and computes on the cores that it is taken with: what a token
costs here is what the engine goes without.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import cast

import aiohttp
import httptools
from multidict import CIMultiDict
from yarl import URL

#: Bytes of an answer's head that may come before its end does.
MAX_HEAD = 64 * 1024
#: The line before a chunk of a body.
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,7})\r\n")


class NotConnected(aiohttp.ClientConnectionError):
    """Nobody listens at the socket."""


class NotHttp(aiohttp.ClientError):
    """What came over the socket is no answer."""


async def post(
    path: str,
    url: URL,
    body: bytes,
    headers: Mapping[str, str],
    *,
    connect_timeout: float,
    read_ahead: int,
) -> "SocketAnswer":
    """Send to the socket at `path`, and wait for the head of the answer. `connect_timeout` is
    seconds. At most `read_ahead` bytes of the answer wait for their taker, and one read more.

    Raises aiohttp.ClientError, TimeoutError (the connection).
    """
    lines = [f"POST {url.raw_path_qs} HTTP/1.1", f"Host: {url.host}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    answer = SocketAnswer(read_ahead)
    try:
        async with asyncio.timeout(connect_timeout):
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_unix_connection(lambda: answer, path)
    except TimeoutError:
        raise
    except OSError as problem:
        raise NotConnected from problem
    try:
        transport.write("\r\n".join(lines).encode("latin-1") + body)
        await answer.head()
    except BaseException:  # a cancellation too: no connection without a taker
        answer.close()
        raise
    return answer


class SocketAnswer(asyncio.Protocol):
    """An answer on a connection of its own, with those attributes of an `aiohttp.ClientResponse`
    and of its `content` that a link uses."""

    def __init__(self, read_ahead: int) -> None:
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        #: None once there is no connection any more.
        self.transport: asyncio.Transport | None = None
        self._read_ahead = read_ahead
        #: None once nothing more is to come.
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._has_head = False
        self._head_bytes = 0
        #: Of the body, until somebody takes them.
        self._pieces: list[bytes] = []
        self._size = 0
        self._paused = False
        #: The answer's end is here.
        self._whole = False
        #: Why no more of it comes.
        self._problem: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._feeding = False
        #: A chunk is whole, and nothing of the next one is here.
        self._between_chunks = False
        self._tell: Callable[[], object] | None = None

    # --- what a link uses -----------------------------------------------------------------------

    async def head(self) -> None:
        """Wait for status and headers. Raises aiohttp.ClientError."""
        while not self._has_head:
            if self._problem is not None:
                raise self._problem
            await self._news()

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def content_length(self) -> int | None:
        length = self.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else None

    @property
    def content(self) -> "SocketAnswer":
        return self

    @property
    def connection(self) -> "SocketAnswer | None":
        """None once it is of no more use."""
        return None if self.transport is None else self

    def at_eof(self) -> bool:
        return self._whole and not self._pieces

    async def readany(self) -> bytes:
        """What is here once there is something; b"" at the end. Raises aiohttp.ClientError."""
        while not (self._pieces or self._whole or self._problem is not None):
            await self._news()
        return self.read_nowait()

    def read_nowait(self) -> bytes:
        """What is here; b"" where nothing is. Raises aiohttp.ClientError."""
        pieces = self._pieces
        if not pieces:
            if self._problem is not None:
                raise self._problem
            return b""
        self._pieces, self._size = [], 0
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def tell(self, news: Callable[[], object] | None) -> None:
        """Call `news` whenever there is more to be read, or the end, from now on. Nobody has to
        wait then: to wake one who waits costs more than all else that an event costs."""
        self._tell = news

    def close(self) -> None:
        """Cut the connection; what was not taken is gone. Idempotent."""
        self._pieces.clear()
        self._end(aiohttp.ClientConnectionError("closed here"))

    # --- what the connection says ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        parser, had_head = self._parser, self._has_head
        if parser is None:
            return
        # An engine sends each event as one chunk by itself. Between two the parser is at rest,
        # so that a whole one can pass it by.
        if self._between_chunks and (chunk := _whole_chunk(data)) is not None:
            self.on_body(chunk)
            return
        self._feeding = True
        try:
            parser.feed_data(data)
            self._between_chunks = self._between_chunks and data.endswith(b"\r\n")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as problem:
            self._end(NotHttp(str(problem)))
        finally:
            self._feeding = False
        if not (had_head or self._has_head):
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._end(NotHttp("its head has no end"))
        if self._tell is not None:
            self._tell()

    def connection_lost(self, problem: Exception | None) -> None:
        if self._parser is None:
            return
        framed = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        if not self._has_head:
            self._end(aiohttp.ServerDisconnectedError())
        elif framed or problem is not None:
            self._end(aiohttp.ClientPayloadError("it broke off"))
        else:
            self._end(None)

    # --- what the parser says -------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:  # and no trailer
            self.headers.add(name.decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code() if self._parser is not None else 0
        if self.status < 200:  # another head follows
            self.headers.clear()
        else:
            self._has_head = True
            self._wake()

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._size += len(body)
        if self._size > self._read_ahead and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def on_chunk_header(self) -> None:
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        self._between_chunks = True

    def on_message_complete(self) -> None:
        if self._has_head:
            self._end(None)

    # --------------------------------------------------------------------------------------------

    def _end(self, problem: Exception | None) -> None:
        """No more comes, since the answer is whole (None) or for `problem`."""
        if self._parser is None:
            return
        self._parser = None
        self._problem = problem
        self._whole = problem is None
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.abort()
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
        if self._tell is not None and not self._feeding:
            self._tell()

    def _news(self) -> "asyncio.Future[None]":
        """Done as soon as more is known than now. There is one who waits."""
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter


def _whole_chunk(data: bytes) -> bytes | None:
    """What is in `data` if that is one chunk, no more and no less, and not the last."""
    line = _CHUNK.match(data)
    if line is None:
        return None
    start, size = line.end(), int(line[1], 16)
    if not size or len(data) != start + size + 2 or not data.endswith(b"\r\n"):
        return None
    return data[start:-2]
