"""What the door and those who answer its requests know of each other."""

import asyncio
from typing import Any, Protocol

from lakeport.api.heads import Heads
from lakeport.api.joined import JoinedTransport
from lakeport.api.reading import Head


class Exchange(Protocol):
    """One request and its answer. The door calls, in this order: `begin` once it is its turn to be
    answered, `body` and `end` as the request arrives, before or after that; `lost` at the most
    once, and nothing after it."""

    #: It is its turn.
    begun: bool
    #: The first byte of its answer is out.
    started: bool
    #: Its answer is out; the door no longer holds it.
    answered: bool
    #: Whether the connection lives on after its answer.
    keep_alive: bool

    @property
    def full(self) -> bool:
        """Whether more of the body should be left unread for now."""

    @property
    def holds_back(self) -> bool:
        """Whether the client waits to be asked for its body."""

    def begin(self) -> None: ...
    def body(self, piece: bytes) -> None: ...
    def end(self) -> None: ...
    def lost(self) -> None:
        """The client has gone, or is not to be answered."""

    def expire(self) -> None:
        """The server ends: answer now, if it is its turn."""


class Connection(Protocol):
    """The door, as an exchange sees it."""

    heads: Heads
    transport: JoinedTransport
    #: Of the connection, for a request's scope.
    scope: dict[str, Any]
    tasks: set[asyncio.Task[None]]
    loop: asyncio.AbstractEventLoop
    #: Whether the client takes what is written too slowly.
    write_paused: bool

    def send(self, head: bytes, body: bytes) -> None:
        """A whole answer."""

    async def writable(self) -> None:
        """Wait while `write_paused`."""

    def answered(self, exchange: Exchange) -> None:
        """The exchange's answer is out: the next one's turn."""

    def flow(self) -> None:
        """An exchange's `full` may have changed."""

    def replace(self, exchange: Exchange, other: Exchange) -> None:
        """`other` goes on where `exchange` began."""


class Lane(Protocol):
    """Answers some requests without ASGI."""

    def take(self, connection: Connection, head: Head) -> Exchange | None:
        """The exchange for a request; None: it is not for the lane."""
