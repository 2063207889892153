"""An exchange of the lane, without a door."""

import asyncio
from typing import Any, cast

from uvicorn.server import ServerState

from lakeport.api.exchange import Connection, Exchange
from lakeport.api.heads import Heads
from lakeport.api.lane import InvocationExchange
from lakeport.api.reading import Head
from tests.unit.api.fakes import World


class Wire:
    """A connection that keeps what is sent."""

    def __init__(self) -> None:
        self.heads = Heads(ServerState())
        self.sent: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def send(self, head: bytes, body: bytes) -> None:
        self.sent.set_result(body)

    def answered(self, exchange: Exchange) -> None:
        assert exchange.answered


def taken(world: World, wire: Wire, endpoint: bytes) -> InvocationExchange:
    head = Head()
    head.method, head.url = b"POST", b"/serving-endpoints/%s/invocations" % endpoint
    head.known = {b"host": b"a", b"authorization": b"Bearer ann-token"}
    assert world.built.lane is not None
    exchange = world.built.lane.take(cast("Connection", cast("Any", wire)), head)
    assert exchange is not None
    return exchange


async def test_a_body_that_comes_in_bits_is_whole_and_weighs_little_more() -> None:
    wire = Wire()
    exchange = taken(World(), wire, b"echo")
    exchange.begin()
    bits = [b"%02d" % (number % 100) for number in range(20_000)]

    for bit in bits:
        exchange.body(bit)
    assert len(exchange._pieces) < 2_000
    exchange.end()

    assert await wire.sent == b"".join(bits)
