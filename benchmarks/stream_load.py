"""Streams one after another over one connection: when does the first event come?"""

import socket
import statistics
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from mock_upstream import WORDS
from servers import Peer

#: Seconds without a byte until a stream counts as an error.
SILENCE = 10.0
#: In a stream that was not cut. Not every server says [DONE].
LAST = WORDS[-1].encode()


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """Milliseconds from the request to the first byte of an event, and to the end of the stream."""

    streams: int
    first_p50: float
    first_p99: float
    whole_p50: float
    errors: int


def load(peer: Peer, body: bytes, seconds: float) -> StreamFigures:
    """Ask `peer` for streams until `seconds` are over; at least two that go well are needed."""
    url = urlsplit(peer.url)
    lines = [f"POST {url.path} HTTP/1.1", f"Host: {url.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in peer.headers.items()]
    request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    firsts: list[float] = []
    wholes: list[float] = []
    errors = 0
    connection: socket.socket | None = None
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or (len(firsts) < 2 and errors < 10):
        try:
            # A new connection, where a server wants one, is not counted against it.
            connection = connection or _connect(peer.port)
            first, whole, keep = _stream(connection, request)
            firsts.append(first * 1000)
            wholes.append(whole * 1000)
        except (OSError, _BadStream):
            errors += 1
            keep = False
        if not keep and connection is not None:
            connection.close()
            connection = None
    if connection is not None:
        connection.close()
    if len(firsts) < 2:
        unknown = float("nan")
        return StreamFigures(len(firsts), unknown, unknown, unknown, errors)
    return StreamFigures(
        streams=len(firsts),
        first_p50=round(statistics.median(firsts), 3),
        first_p99=round(statistics.quantiles(firsts, n=100, method="inclusive")[98], 3),
        whole_p50=round(statistics.median(wholes), 3),
        errors=errors,
    )


class _BadStream(Exception):
    """No 200, or no regular end."""


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=SILENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _stream(connection: socket.socket, request: bytes) -> tuple[float, float, bool]:
    """Seconds to the first event, seconds in all, and whether the connection may be kept."""
    begin = time.perf_counter()
    connection.sendall(request)
    received = b""
    first: float | None = None
    while True:
        piece = connection.recv(65536)
        received += piece
        if first is None and b"data:" in received:
            first = time.perf_counter() - begin
        if not piece or received.endswith(b"0\r\n\r\n"):
            break
    whole = time.perf_counter() - begin
    if first is None or not received.startswith(b"HTTP/1.1 200") or LAST not in received:
        raise _BadStream
    head = received.partition(b"\r\n\r\n")[0].lower()
    return first, whole, bool(piece) and b"connection: close" not in head
