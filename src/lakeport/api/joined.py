"""Writes of one turn of the loop, sent together.

An application sends an answer's head and its body one after the other, and a stream's events one by
one; each would be a call to the system of its own, at once. Joined, a small answer costs one.
"""

import asyncio
from typing import Any

#: Bytes from which on nothing is gained by joining.
LARGE = 64 * 1024


class JoinedTransport(asyncio.Transport):
    """Stands before a connection's transport; everything but writing goes straight through."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0
        # What is asked for often goes without a detour.
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]

    def write(self, data: Any) -> None:
        size = len(data)
        if size >= LARGE:
            self.flush()
            self._transport.write(data)
            return
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._size += size
        if self._size >= LARGE:
            self.flush()

    def write_now(self, data: bytes) -> None:
        """Without waiting for what may come yet in this turn."""
        if self._held:
            self.flush()
        self._transport.write(data)

    def write_both(self, head: bytes, body: bytes) -> None:
        """A large body behind its head, in one call to the system and uncopied."""
        if self._held:
            self.flush()
        self._transport.writelines((head, body))

    def flush(self) -> None:
        """Hand on what is held."""
        held = self._held
        if held:
            self._held, self._size = [], 0
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size() + self._size

    def can_write_eof(self) -> bool:
        return self._transport.can_write_eof()

    def write_eof(self) -> None:
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        self._held, self._size = [], 0
        self._transport.abort()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()
