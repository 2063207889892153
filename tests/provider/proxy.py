"""A small HTTP proxy for tests: tunnels by CONNECT, and plain requests in absolute form."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Proxy:
    #: Where every connection goes, whatever name was asked for.
    target_port: int
    #: What it answers to CONNECT.
    status: int = 200
    #: Heads of the requests that came.
    heads: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        tunnel = head.startswith("CONNECT ")
        if tunnel:
            writer.write(
                f"HTTP/1.1 {self.status} Whatever\r\nX-Internal: 10.9.8.7\r\n\r\n".encode()
            )
            await writer.drain()
            if self.status != 200:
                return
        inner, outer = await asyncio.open_connection("127.0.0.1", self.target_port)
        try:
            if not tunnel:
                method, url, rest = head.split(" ", 2)
                path = "/" + url.split("/", 3)[3]
                outer.write(f"{method} {path} {rest}".encode())
            await asyncio.gather(_pump(reader, outer), _pump(inner, writer))
        finally:
            outer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def proxying(target_port: int, *, status: int = 200) -> AsyncIterator[Proxy]:
    proxy = Proxy(target_port, status)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError, asyncio.IncompleteReadError):
                await proxy.serve(reader, writer)
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
