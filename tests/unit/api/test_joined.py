"""Writes of one turn leave together, in order, and nothing is held back for longer."""

import asyncio
from typing import Any, cast

import pytest

from lakeport.api.joined import LARGE, JoinedTransport


class Wire:
    """A transport that remembers what was asked of it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def write(self, data: bytes) -> None:
        self.seen.append(bytes(data))

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.seen += parts

    def __getattr__(self, name: str) -> Any:
        def asked(*_: object) -> int:
            self.seen.append(name)
            return 5

        return asked


@pytest.fixture
async def joined() -> tuple[JoinedTransport, Wire]:
    wire = Wire()
    return JoinedTransport(cast("Any", wire), asyncio.get_running_loop()), wire


async def test_writes_of_one_turn_are_one_write(joined: tuple[JoinedTransport, Wire]) -> None:
    transport, wire = joined

    transport.write(b"head ")
    transport.write(b"body")
    held = list(wire.seen)
    await asyncio.sleep(0)
    transport.write(b"next")
    await asyncio.sleep(0)

    assert held == []
    assert wire.seen == [b"head body", b"next"]


async def test_what_is_large_goes_at_once_and_in_order(
    joined: tuple[JoinedTransport, Wire],
) -> None:
    transport, wire = joined
    large = b"x" * LARGE

    transport.write(b"head ")
    transport.write(large)
    transport.write(b"tail")
    await asyncio.sleep(0)

    assert wire.seen == [b"head ", large, b"tail"]


async def test_what_goes_at_once_goes_behind_what_is_held(
    joined: tuple[JoinedTransport, Wire],
) -> None:
    transport, wire = joined

    transport.write(b"held ")
    transport.write_now(b"now")
    transport.write(b"held too ")
    transport.write_both(b"head", b"body")

    assert wire.seen == [b"held ", b"now", b"held too ", b"head", b"body"]


@pytest.mark.parametrize("end", ["close", "write_eof"])
async def test_what_is_held_leaves_before_the_end(
    joined: tuple[JoinedTransport, Wire], end: str
) -> None:
    transport, wire = joined

    transport.write(b"last words")
    getattr(transport, end)()
    await asyncio.sleep(0)

    assert wire.seen == [b"last words", end]


async def test_an_abort_throws_away_what_is_held(joined: tuple[JoinedTransport, Wire]) -> None:
    transport, wire = joined

    transport.write(b"last words")
    transport.abort()
    await asyncio.sleep(0)

    assert wire.seen == ["abort"]


async def test_what_is_held_counts_as_unsent(joined: tuple[JoinedTransport, Wire]) -> None:
    transport, _ = joined

    transport.write(b"abc")

    assert transport.get_write_buffer_size() == 5 + 3
