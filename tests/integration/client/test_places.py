"""One client in several processes and on several event loops."""

import asyncio
import os
import threading
from typing import Any

import pytest

from lakeport import AsyncClient, Client
from tests.integration.client.calls import ANSWER, TOKEN
from tests.integration.raw_server import RawServer

BODY = {"inputs": [1]}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(server: RawServer) -> None:
    server.answers(ANSWER)

    with Client(server.url, TOKEN) as client:
        client.query("iris", body=BODY)
        child = os.fork()
        if child == 0:
            try:
                client.query("iris", body=BODY)
                client.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        client.query("iris", body=BODY)

    assert [asked.connection for asked in server.asked] == [0, 1, 0]


def test_loops_one_after_the_other(server: RawServer) -> None:
    server.answers(ANSWER)
    client = AsyncClient(server.url, TOKEN)

    async def twice() -> list[Any]:
        return [(await client.query("iris", body=BODY)).body for _ in range(2)]

    answers = [asyncio.run(twice()) for _ in range(3)]
    asyncio.run(client.close())

    assert answers == [[{"predictions": [1]}] * 2] * 3
    assert [asked.connection for asked in server.asked] == [0, 0, 1, 1, 2, 2]


def test_loops_side_by_side(server: RawServer) -> None:
    server.answers(ANSWER)
    client = AsyncClient(server.url, TOKEN)
    answered: list[int] = []
    both = threading.Barrier(2)

    async def several() -> None:
        for _ in range(5):
            await asyncio.to_thread(both.wait, 10)
            await client.query("iris", body=BODY)
            answered.append(1)

    threads = [threading.Thread(target=asyncio.run, args=(several(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answered) == 10
    assert {asked.connection for asked in server.asked} == {0, 1}
