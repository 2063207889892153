"""Streamed chats, as they are handed to an application."""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from threading import Thread
from types import TracebackType
from typing import Any, Self

from lakeport.client.answers import ChatChunk
from lakeport.client.calls_chat import OpenChat
from lakeport.client.errors import LakeportError
from lakeport.client.flow import Flow
from lakeport.client.pools import running_loop
from lakeport.client.transport import AsyncTransport, Transport


class ChatStream(Iterator[ChatChunk]):
    """Chunks as they come. The request is sent with the first one, or when a `with` begins;
    leaving it, or `close`, hangs up."""

    def __init__(self, transport: Transport, flow: Flow[OpenChat]) -> None:
        self._transport = transport
        self._flow = flow
        self._open: OpenChat | None = None
        self._begun = self._closed = False

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ChatChunk:
        if self._closed:
            raise StopIteration
        chat = self._opened()
        if self._begun:  # what the application did meanwhile is not the server's time
            chat.stream.restart()
        try:
            while True:
                if (chunk := chat.reading.next()) is not None:
                    self._begun = True
                    return chunk
                if chat.reading.done:
                    break
                chat.reading.feed(chat.stream.read())
        except BaseException as error:
            chat.reading.close(error if isinstance(error, LakeportError) else None)
            self.close()
            raise
        chat.stream.drain()
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Hang up. May be called at any time, and again."""
        if not self._closed:
            self._closed = True
            self._flow.close()
            if self._open is not None:
                self._open.stream.close()
                self._open.reading.close()

    def __del__(self) -> None:
        if self._open is not None and not self._closed:  # a loop that was left by `break`
            # In a thread: the garbage collector may come while this one holds the pool's lock.
            with suppress(RuntimeError):  # the interpreter ends
                Thread(target=_hang_up, args=(self._open,), daemon=True).start()

    def _opened(self) -> OpenChat:
        if self._open is None:
            try:
                self._open = self._transport.run(self._flow)
            except BaseException:
                self._closed = True
                raise
        return self._open


def _hang_up(chat: OpenChat) -> None:
    chat.stream.close()
    chat.reading.close()


def _close_later(chat: OpenChat) -> None:
    import asyncio  # noqa: PLC0415 -- 40 ms, which only those pay who run it

    task = asyncio.ensure_future(chat.stream.close())
    task.add_done_callback(lambda _: chat.reading.close())


class AsyncChatStream(AsyncIterator[ChatChunk]):
    """Chunks as they come. The request is sent with the first one, or when an `async with` begins;
    leaving it, or `close`, hangs up."""

    def __init__(self, transport: AsyncTransport, flow: Flow[OpenChat]) -> None:
        self._transport = transport
        self._flow = flow
        self._open: OpenChat | None = None
        self._loop: Any = None
        self._begun = self._closed = False

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatChunk:
        if self._closed:
            raise StopAsyncIteration
        chat = await self._opened()
        if self._begun:  # what the application did meanwhile is not the server's time
            chat.stream.restart()
        try:
            while True:
                if (chunk := chat.reading.next()) is not None:
                    self._begun = True
                    return chunk
                if chat.reading.done:
                    break
                chat.reading.feed(await chat.stream.read())
        except BaseException as error:
            chat.reading.close(error if isinstance(error, LakeportError) else None)
            await self.close()
            raise
        await chat.stream.drain()
        await self.close()
        raise StopAsyncIteration

    async def close(self) -> None:
        """Hang up. May be called at any time, and again."""
        if not self._closed:
            self._closed = True
            self._flow.close()
            if self._open is not None:
                await self._open.stream.close()
                self._open.reading.close()

    #: As `contextlib.aclosing` wants it.
    aclose = close

    def __del__(self) -> None:
        if self._open is not None and not self._closed and self._loop is not None:
            with suppress(RuntimeError):  # a loop that was left by `break`; the other is closed
                self._loop.call_soon_threadsafe(_close_later, self._open)

    async def _opened(self) -> OpenChat:
        if self._open is None:
            self._loop = running_loop()
            try:
                self._open = await self._transport.run(self._flow)
            except BaseException:
                self._closed = True
                raise
        return self._open
