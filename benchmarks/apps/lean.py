"""The bare prototype: how far Python goes on this path when it does nothing else. No product.

One process on uvloop and httptools takes requests and passes their bodies over a unix socket to a
process that reads whatever has come, joins the rows into one predict without ever waiting for more,
and sends all answers at once. No token, no routing, no schema, no errors, no metrics.

Frames both ways: u32 length, u32 id, bytes.
"""

import asyncio
import itertools
import os
import signal
import socket
import struct
import sys
from typing import Any

import httptools
import orjson
import uvloop
from common import Predict

HEAD = struct.Struct("<II")
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


def frames(buffer: bytearray) -> list[tuple[int, bytes]]:
    """Takes the whole frames off the buffer."""
    found, at = [], 0
    while len(buffer) - at >= HEAD.size:
        length, number = HEAD.unpack_from(buffer, at)
        end = at + HEAD.size + length
        if len(buffer) < end:
            break
        found.append((number, bytes(buffer[at + HEAD.size : end])))
        at = end
    del buffer[:at]
    return found


def replica(link: socket.socket) -> None:
    predict, buffer = Predict(), bytearray()
    while piece := link.recv(1 << 20):
        buffer += piece
        asked = [
            (number, orjson.loads(body)["dataframe_split"]["data"])
            for number, body in frames(buffer)
        ]
        if not asked:
            continue
        rest = iter(predict(list(itertools.chain.from_iterable(rows for _, rows in asked))))
        out = []
        for number, rows in asked:
            body = orjson.dumps({"predictions": list(itertools.islice(rest, len(rows)))})
            out += [HEAD.pack(len(body), number), body]
        link.sendall(b"".join(out))
    os._exit(0)


class Link(asyncio.Protocol):
    """The front's end of the replica's socket."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiting: dict[int, Http] = {}
        self._next = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self, body: bytes, connection: "Http") -> None:
        self._next = (self._next + 1) & 0xFFFFFFFF
        self._waiting[self._next] = connection
        self._transport.write(HEAD.pack(len(body), self._next) + body)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        for number, body in frames(self._buffer):
            self._waiting.pop(number).answer(body)


class Http(asyncio.Protocol):
    def __init__(self, link: Link) -> None:
        self._link = link

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._body: list[bytes] = []
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        self._link.send(body, self)

    def answer(self, body: bytes) -> None:
        if not self._transport.is_closing():  # its client may have gone meanwhile
            self._transport.write(OK % len(body) + body)


async def front(port: int, end: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    _, link = await loop.create_unix_connection(Link, sock=end)
    server = await loop.create_server(lambda: Http(link), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    ours, its = socket.socketpair()
    for end in (ours, its):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    if os.fork() == 0:
        ours.close()
        replica(its)
    its.close()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    uvloop.run(front(int(sys.argv[1]), ours))


if __name__ == "__main__":
    main()
