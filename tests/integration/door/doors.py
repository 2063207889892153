"""Servers on fakes, by each of the doors, and clients that send byte by byte."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import uvicorn

from lakeport.api.limits import Limits
from lakeport.api.server import Server, make_server
from tests.unit.api.fakes import World

HEAD = b"Host: localhost\r\nAuthorization: Bearer ann-token\r\n"
ECHO = b"POST /serving-endpoints/echo/invocations HTTP/1.1\r\n" + HEAD
SLOW = b"POST /serving-endpoints/slow/invocations HTTP/1.1\r\n" + HEAD
STREAM = b"POST /serving-endpoints/stream/invocations HTTP/1.1\r\n" + HEAD
UPLOAD = b"PUT /api/2.0/mlflow-artifacts/artifacts/x HTTP/1.1\r\n" + HEAD
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
HELLO = ECHO + b"Content-Length: 5\r\n\r\nhello"


class Answer:
    def __init__(self, head: bytes, body: bytes) -> None:
        status, *lines = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in lines if line)
        self.body = body

    @property
    def error_code(self) -> str:
        error: dict[str, Any] = orjson.loads(self.body)
        assert error["message"]
        assert error["details"][0]["request_id"]
        return str(error["error_code"])


class Client:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()

    async def answer(self) -> Answer:
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = Answer(head, b"").headers.get("content-length", "0")
        return Answer(head, await self._reader.readexactly(int(length)))

    async def read_until(self, end: bytes) -> bytes:
        return await self._reader.readuntil(end)

    async def closed(self) -> bool:
        """Waits until the server closes the connection; whether it said no more before."""
        try:
            return await self._reader.read() == b""
        except ConnectionResetError:
            return True

    def say_no_more(self) -> None:
        self._writer.write_eof()

    def abort(self) -> None:
        """Leave at once, and take back what was not sent yet."""
        self._writer.transport.abort()

    async def hang_up(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def until(fact: Callable[[], object]) -> None:
    """Wait for what has no event."""
    async with asyncio.timeout(30):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


class PlainServer(uvicorn.Server):
    """uvicorn as it comes, with its parser on httptools."""

    def __init__(self, world: World) -> None:
        config = uvicorn.Config(
            world.app,
            http="httptools",
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await self._serve([self.listening])

    def exit(self) -> None:
        self.should_exit = True


class Running:
    def __init__(self, server: Server | PlainServer) -> None:
        self.server = server

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()


@asynccontextmanager
async def running(world: World, limits: Limits | None = None) -> AsyncIterator[Running]:
    """A server of the world's application, behind the world's door."""
    server: Server | PlainServer
    if world.door == "uvicorn":
        server = PlainServer(world)
    else:
        lane = world.built.lane if world.door == "lane" else None
        server = make_server(world.app, limits=limits, grace=1, lane=lane)
    task = asyncio.create_task(server.serve())
    try:
        yield Running(server)
    finally:
        server.exit()
        await task
