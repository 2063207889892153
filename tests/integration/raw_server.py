"""A server of bare sockets that answers as it is told: slowly, in pieces, wrongly, not at all."""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

#: Bytes are sent, seconds are waited, a word ends the connection: "close", or "reset" (RST).
Act = bytes | float | str


@dataclass
class Asked:
    """A request that arrived."""

    method: str
    path: str
    #: Lower-case names.
    headers: Mapping[str, str]
    body: bytes
    #: Which connection it came by, from 0.
    connection: int
    #: Set when the caller hung up while it was answered.
    gone: threading.Event = field(default_factory=threading.Event)

    def json(self) -> Any:
        return orjson.loads(self.body)


Answer = Callable[[Asked], Iterable[Act]]


def reply(
    status: int = 200,
    body: object = None,
    *,
    kind: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A whole answer; `body`: bytes, or what becomes JSON."""
    content = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    lines = [f"HTTP/1.1 {status} Said", f"content-type: {kind}", f"content-length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + content


def stream_head(**headers: str) -> bytes:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    kind = "" if "content_type" in headers else "content-type: text/event-stream\r\n"
    return f"HTTP/1.1 200 OK\r\n{kind}{more}transfer-encoding: chunked\r\n\r\n".encode()


def piece(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(document: object) -> bytes:
    return piece(b"data: " + orjson.dumps(document) + b"\n\n")


def says(text: str, **more: object) -> bytes:
    """A chunk of a chat."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, **more}]})


DONE = piece("data: [DONE]\n\n")
END = b"0\r\n\r\n"


class RawServer:
    """Answers each request by `answer`, which may be changed at any time."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answer: Answer = lambda _: [reply(200, {})]
        self._tls = tls
        self.asked: list[Asked] = []
        #: Set when a request has arrived.
        self.arrived = threading.Event()
        #: Otherwise a request is answered after its head, and its body is left where it is.
        self.body_is_read = True
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._connections = 0
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def answers(self, *acts: Sequence[Act] | bytes) -> None:
        """These, one for each request; the last for all that follow."""
        left = [[act] if isinstance(act, bytes) else list(act) for act in acts]
        lock = threading.Lock()

        def answer(_: Asked) -> Iterable[Act]:
            with lock:
                return left.pop(0) if len(left) > 1 else left[0]

        self.answer = answer
        self.asked.clear()
        self.arrived.clear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # which ends the wait in `accept`
        self._socket.close()
        for connection in list(self._open):
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._open.add(connection)
                threading.Thread(
                    target=self._serve, args=(connection, self._connections), daemon=True
                ).start()
                self._connections += 1

    def _serve(self, connection: socket.socket, number: int) -> None:
        # ValueError: what came is no HTTP
        with contextlib.suppress(OSError, EOFError, ValueError), connection:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            file = connection.makefile("rb")
            while True:
                asked = _read(file, number, body=self.body_is_read)
                self.asked.append(asked)
                self.arrived.set()
                for act in self.answer(asked):
                    if not self._act(connection, act, asked):
                        return
        self._open.discard(connection)

    def _act(self, connection: socket.socket, act: Act, asked: Asked) -> bool:
        """Whether the connection goes on."""
        if isinstance(act, bytes):
            try:
                connection.sendall(act)
            except OSError:
                asked.gone.set()
                raise
            return True
        if isinstance(act, float):
            _wait(connection, act, asked)
            return True
        if act == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        return False


def _wait(connection: socket.socket, seconds: float, asked: Asked) -> None:
    """So long, or until the caller hangs up."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            if not connection.recv(1, socket.MSG_PEEK):
                asked.gone.set()
                raise EOFError
            time.sleep(min(left, 0.01))  # another request is there already
        except TimeoutError:
            break
        except OSError:
            asked.gone.set()
            raise
    connection.settimeout(None)


def _read(file: Any, number: int, *, body: bool) -> Asked:
    first = file.readline()
    if not first:
        raise EOFError
    method, path, _ = first.decode().split(" ", 2)
    headers = {}
    while (line := file.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    size = int(headers.get("content-length", "0")) if body else 0
    return Asked(method, path, headers, file.read(size), number)


@contextlib.contextmanager
def raw_server(tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    server = RawServer(tls)
    try:
        yield server
    finally:
        server.close()
