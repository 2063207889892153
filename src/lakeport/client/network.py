"""Sockets that keep to one deadline for a whole request, and know whether it was sent.

httpcore's timeouts are for each read and write alone: a server that drips a byte now and then
would hold a caller for ever. So a `Watch` is given to httpcore as its timeout, which it hands on
untouched to the streams below; these know how much time is left.
"""

import os
import socket
import ssl
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import httpcore2

#: Seconds: sockets take no endless number.
_LONGEST = 10.0**8


class Watch:
    """The deadline of one request, and how far the request got."""

    __slots__ = ("connect", "cut", "until", "wrote")

    def __init__(self, seconds: float, connect: float) -> None:
        self.restart(seconds)
        #: Seconds for a connection alone.
        self.connect = connect
        #: Something of the request was written.
        self.wrote = False
        #: A write failed, so the server cannot have the whole request.
        self.cut = False

    def restart(self, seconds: float) -> None:
        """So many seconds from now."""
        self.until = time.monotonic() + min(seconds, _LONGEST)

    @property
    def left(self) -> float:
        return self.until - time.monotonic()

    @property
    def sent(self) -> bool:
        """The server may have the request, and so may have run it."""
        return self.wrote and not self.cut

    @property
    def timeouts(self) -> dict[str, Any]:
        """For httpcore; its pool waits by itself, and wants a number."""
        return {"connect": self, "read": self, "write": self, "pool": max(0.0, self.left)}

    def to_connect(self) -> float:
        """Seconds, at least a moment: 0 would mean not to wait at all."""
        return max(0.001, min(self.connect, self.left))

    def to_read(self) -> float:
        """Raises ReadTimeout when nothing is left."""
        left = self.left
        if left <= 0:
            raise httpcore2.ReadTimeout
        return left

    def to_write(self) -> float:
        """Raises WriteTimeout when nothing is left."""
        left = self.left
        if left <= 0:
            raise httpcore2.WriteTimeout
        return left


class Stream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner
        self._process = os.getpid()

    def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        return self._inner.read(max_bytes, timeout.to_read())

    def write(self, buffer: bytes, timeout: Any = None) -> None:
        timeout.wrote = True
        try:
            self._inner.write(buffer, timeout.to_write())
        except BaseException:
            timeout.cut = True
            raise

    def close(self) -> None:
        held = self._inner.get_extra_info("socket")
        # Wakes a thread that reads. In a forked child it would end the parent's connection as well.
        if held is not None and self._process == os.getpid():
            with suppress(OSError):
                socket.socket.shutdown(held, socket.SHUT_RDWR)
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Any = None
    ) -> httpcore2.NetworkStream:
        return Stream(self._inner.start_tls(ssl_context, server_hostname, timeout.to_connect()))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class Backend(httpcore2.NetworkBackend):
    def __init__(self) -> None:
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Any = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        return Stream(
            self._inner.connect_tcp(
                host, port, timeout.to_connect(), local_address, socket_options or ()
            )
        )


class AsyncStream(httpcore2.AsyncNetworkStream):
    def __init__(self, inner: httpcore2.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        return await self._inner.read(max_bytes, timeout.to_read())

    async def write(self, buffer: bytes, timeout: Any = None) -> None:
        timeout.wrote = True
        try:
            await self._inner.write(buffer, timeout.to_write())
        except BaseException:
            timeout.cut = True
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Any = None
    ) -> httpcore2.AsyncNetworkStream:
        return AsyncStream(
            await self._inner.start_tls(ssl_context, server_hostname, timeout.to_connect())
        )

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class AsyncBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self) -> None:
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Any = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return AsyncStream(
            await self._inner.connect_tcp(
                host, port, timeout.to_connect(), local_address, socket_options or ()
            )
        )
