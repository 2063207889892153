"""The process that `open_loop.py` starts to ask: an order on its standard input, its requests out.

The order is a line of JSON: `host`, `port`, `path`, `headers` and `body` of the request, `seconds`,
and `rate` requests a second or, for a closed loop, a number of `connections`. The end of the input
ends the load. It prints BEGUN, and at last for each request its times when it was due, sent and
ended, its status and its entity, as an array.
"""

import asyncio
import contextlib
import gc
import json
import resource
import signal
import sys
from dataclasses import dataclass

BEGUN = "begun"

#: When it was due, sent and ended; status; entity.
Shot = tuple[float, float, float, int, str]


@dataclass(frozen=True, slots=True)
class Order:
    host: str
    port: int
    path: str
    body: str
    headers: dict[str, str]
    seconds: float
    #: Seconds after which a request without an answer counts as failed.
    timeout: float
    rate: float
    connections: int


class Connection(asyncio.Protocol):
    """A connection that is kept open, with at most one request on it."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._buffer = b""
        self._needed = 0
        self.due = 0.0
        self.sent = 0.0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.busy or len(self._buffer) < self._needed:
            return
        head, end, _ = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        fields = head.lower()
        length = _field(fields, b"content-length")
        self._needed = len(head) + 4 + int(length or 0)
        if len(self._buffer) < self._needed:
            return
        self._buffer, self._needed = b"", 0
        self.busy = False
        keep = b"\r\nconnection: close" not in fields
        status = int(head[9:12])
        entity = _field(head, b"served-model-name").decode()
        self._load.answered(self, status, entity, keep=keep)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost(self, error)


def _field(head: bytes, name: bytes) -> bytes:
    at = head.find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    end = head.find(b"\r\n", at + 2)
    return head[at + len(name) + 3 : end if end >= 0 else len(head)].strip()


class Load:
    def __init__(self, order: Order, until: int) -> None:
        self._order = order
        self._loop = asyncio.get_running_loop()
        self._until = until
        self._loop.add_signal_handler(signal.SIGINT, self.stop)
        self._loop.add_reader(until, self.stop)
        self._idle: list[Connection] = []
        self._busy: dict[Connection, None] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._request = _request(order)
        self._stopping = asyncio.Event()
        self.shots: list[Shot] = []

    def stop(self) -> None:
        """Sends no more. May be called again."""
        self._stopping.set()
        self._loop.remove_reader(self._until)  # its end would be told again and again

    async def run(self) -> None:
        if self._order.connections:
            for _ in range(self._order.connections):
                self._fire(self._loop.time())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._order.seconds)
            self.stop()
        else:
            await self._at_rate()
        while self._busy or self._connecting:
            self._give_up()
            await asyncio.sleep(0.02)

    async def _at_rate(self) -> None:
        begin = swept = self._loop.time()
        end = begin + self._order.seconds
        number = 0
        while not self._stopping.is_set():
            now = self._loop.time()
            while (due := begin + number / self._order.rate) <= now and due < end:
                self._fire(due)
                number += 1
            if due >= end:
                return
            if now - swept > 1.0:
                self._give_up()
                swept = now
            # With the answers that came meanwhile read first, even when it is late.
            await asyncio.sleep(max(0.0, due - self._loop.time()))

    def _fire(self, due: float) -> None:
        sent = self._loop.time()
        if self._idle:
            self._send(self._idle.pop(), due, sent)
        else:
            task = self._loop.create_task(self._connect(due, sent))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, due: float, sent: float) -> None:
        order = self._order
        try:
            _, connection = await asyncio.wait_for(
                self._loop.create_connection(lambda: Connection(self), order.host, order.port),
                order.timeout,
            )
        except (OSError, TimeoutError) as error:
            self._note(due, sent, 0, f"no connection: {error!r}")
        else:
            self._send(connection, due, sent)

    def _send(self, connection: Connection, due: float, sent: float) -> None:
        connection.due, connection.sent, connection.busy = due, sent, True
        self._busy[connection] = None
        connection.transport.write(self._request)

    def answered(self, connection: Connection, status: int, entity: str, *, keep: bool) -> None:
        self._busy.pop(connection)
        self._note(connection.due, connection.sent, status, entity)
        if not keep:
            connection.transport.close()
        elif not self._stopping.is_set():
            self._idle.append(connection)
        if self._order.connections and not self._stopping.is_set():
            self._fire(self._loop.time())

    def lost(self, connection: Connection, error: Exception | None) -> None:
        if connection in self._busy:
            self._busy.pop(connection)
            self._note(connection.due, connection.sent, 0, f"hung up: {error!r}")
            if self._order.connections and not self._stopping.is_set():
                self._loop.call_later(0.05, lambda: self._fire(self._loop.time()))
        elif connection in self._idle:
            self._idle.remove(connection)

    def _give_up(self) -> None:
        """Those that have waited for too long: the oldest come first."""
        limit = self._loop.time() - self._order.timeout
        while self._busy and (oldest := next(iter(self._busy))).sent < limit:
            self._busy.pop(oldest)
            self._note(oldest.due, oldest.sent, 0, "no answer in time")
            oldest.transport.abort()

    def _note(self, due: float, sent: float, status: int, entity: str) -> None:
        self.shots.append((due, sent, self._loop.time(), status, entity))


def _request(order: Order) -> bytes:
    body = order.body.encode()
    lines = [f"POST {order.path} HTTP/1.1", f"Host: {order.host}:{order.port}"]
    lines += [f"{name}: {value}" for name, value in order.headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}"]).encode() + b"\r\n\r\n" + body


async def _ask(order: Order, until: int) -> list[Shot]:
    """`until`: a pipe whose end is the load's."""
    load = Load(order, until)
    await load.run()
    return sorted(load.shots)


def main() -> None:
    order = Order(**json.loads(sys.stdin.buffer.readline()))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection for each that waits
    gc.disable()  # a load makes little garbage in circles, and a pause would be its own lag
    print(BEGUN, flush=True)
    for shot in asyncio.run(_ask(order, sys.stdin.fileno())):
        print(json.dumps(shot))


if __name__ == "__main__":
    main()
