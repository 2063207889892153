"""The HTTP server: uvicorn in a loop of our own, with our door."""

import asyncio
import contextlib
import errno
import math
import socket
from collections.abc import Iterator, Sequence
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from lakeport.api.door import Door, DoorConfig
from lakeport.api.exchange import Lane
from lakeport.api.heads import Heads
from lakeport.api.limits import Limits
from lakeport.telemetry.ticks import pause


class CannotListen(OSError):
    """The address cannot be had; the message says why and what to do, for people."""


class Server(uvicorn.Server):
    """`await serve()` runs it until `exit()` is called; `started` says that it listens.

    It leaves signals alone. The end: no new connections, running requests finish within the grace.
    """

    def __init__(self, config: DoorConfig, sockets: Sequence[socket.socket]) -> None:
        super().__init__(config)
        config.heads = Heads(self.server_state)
        self._sockets = list(sockets)
        self._sweep: asyncio.TimerHandle | None = None
        limits = config.limits
        shortest = min(limits.first_byte, limits.head, limits.body_idle, limits.linger)
        self._every = min(1.0, shortest / 4)
        self._asked_to_exit = asyncio.Event()

    def exit(self) -> None:
        """Ask it to end: `serve` returns once it has. On its own loop."""
        self.should_exit = True
        self._asked_to_exit.set()

    async def main_loop(self) -> None:
        """As uvicorn's, which wakes ten times a second to look whether it should exit: a core that
        computes a model feels that. Only the `Date` of answers needs a tick, once a second."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause(1.0)):
                    await self._asked_to_exit.wait()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        port: int = self._sockets[0].getsockname()[1]
        return port

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super().serve(sockets or self._sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._check_connections(asyncio.get_running_loop().time())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().shutdown(sockets)
            # Those that the grace was too short for; tasks have been cancelled.
            for door in self._doors():
                door.expire()
        finally:
            if self._sweep is not None:
                self._sweep.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def _check_connections(self, last: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._sweep = loop.call_later(pause(self._every), self._check_connections, now)
        for door in self._doors():
            door.check(now, now - last)

    def _doors(self) -> list[Door]:
        """The connections that are open now."""
        # A copy: a connection that ends leaves the set.
        return list(cast("set[Door]", self.server_state.connections))


def make_server(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    sockets: Sequence[socket.socket] | None = None,
    limits: Limits | None = None,
    grace: float = 30,
    cuttable: bool = False,
    lane: Lane | None = None,
) -> Server:
    """A server for `app` on `sockets`, or on `host` and `port` (0: a free one), bound already.

    `grace` is the time in seconds that running requests have to finish once `exit` is called.
    `cuttable`: the application may break connections (`api/cut.py`). `lane`: answers some requests
    before the application would; None: the application answers all.
    Raises CannotListen when the address cannot be had.
    """
    config = DoorConfig(
        app,
        http=Door,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=math.ceil(limits.keep_alive if limits else Limits().keep_alive),
        timeout_graceful_shutdown=math.ceil(grace),
    )
    config.limits = limits or Limits()
    config.cuttable = cuttable
    config.lane = lane
    return Server(config, sockets if sockets is not None else bind(host, port))


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on every address that `host` names, all on one port.

    Raises CannotListen when the port is taken on one of them, or none can be had.
    """
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotListen(
            f"{host} is no address of this machine ({error.strerror}); choose another with --host."
        ) from error
    for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
        chosen = sockets[0].getsockname()[1] if sockets else port
        try:
            listener = socket.create_server((str(address[0]), chosen), family=family, backlog=2048)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for opened in sockets:
                    opened.close()
                raise CannotListen(_why_not(host, chosen, error)) from error
            # `localhost` may name an IPv6 address on a machine that has none.
            missing = error
        else:
            sockets.append(listener)
    if not sockets:
        raise CannotListen(
            f"{host} is no address of this machine; choose another with --host."
        ) from missing
    return sockets


def _why_not(host: str, port: int, error: OSError) -> str:
    where = f"Port {port} of {host}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where} is in use: stop what holds it, or choose another with --port."
        case errno.EACCES:
            return f"{where} needs rights that this user lacks: choose one above 1023 with --port."
        case _:
            return f"{where} cannot be listened on: {error.strerror}."
