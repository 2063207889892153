"""Workers killed under load: who else was asking notices nothing."""

import random
import re

import psutil
import pytest

from tests.integration.conftest import Stock
from tests.integration.load import load
from tests.integration.server import PATIENCE, ServerProcess, wait_for

COLUMNS = [f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width")]
BODY = {"dataframe_split": {"columns": COLUMNS, "data": [[5.1, 3.5, 1.4, 0.2]]}}
THREADS = 8
#: Of an endpoint with two replicas, four requests each.
FULL = 8.0
#: Seconds: a replica that dies again and again is started after ever longer waits.
MAX_BACKOFF = 60.0
_CONCURRENCY = re.compile(r"^provisioned_concurrent_requests_total\{.*\} (\S+)", re.MULTILINE)


def strength(server: ServerProcess, endpoint: str) -> float:
    """Requests that the replicas of an endpoint take at a time."""
    answer = server.client.get(f"/api/2.0/serving-endpoints/{endpoint}/metrics")
    found = _CONCURRENCY.search(answer.text)
    assert found, answer.text
    return float(found[1])


def kill_workers(server: ServerProcess, stock: Stock, endpoint: str, *, kills: int) -> str:
    """Kill workers of an endpoint with two replicas under load; returns figures for people."""
    seed = 20260131
    draw = random.Random(seed)
    others = set(server.workers())
    two = {"min_provisioned_concurrency": 8, "max_provisioned_concurrency": 8}
    server.create(endpoint, stock.entity("iris", "iris", workload_size=None, **two))

    def mine() -> list[psutil.Process]:
        return [process for process in server.workers() if process not in others]

    def restored(victim: psutil.Process) -> bool:
        # In this order: once another worker is there, the strength is no longer that of before.
        alive = mine()
        return victim not in alive and len(alive) == 2 and strength(server, endpoint) == FULL

    with load(server, endpoint, BODY, threads=THREADS, pause=0.005) as tally:
        for number in range(1, kills + 1):
            tally.grows_by(100)
            before = len(tally.failed)
            victim = draw.choice(mine())
            victim.kill()
            wait_for(
                lambda: restored(victim),  # noqa: B023 - waited for
                within=PATIENCE + MAX_BACKOFF,
                what="two replicas",
            )
            tally.grows_by(100)
            lost = tally.failed[before:]
            assert len(lost) <= THREADS, f"kill {number} with seed {seed}: {lost}"
    for answer in tally.failed:
        assert answer.status == 500, answer
        assert b"ended before it answered" in answer.body
        assert answer.entity == "iris"
    server.call("DELETE", f"serving-endpoints/{endpoint}")
    return f"{kills} workers killed under {THREADS} connections: {tally}"


@pytest.mark.timeout(240)
def test_a_killed_worker_takes_only_the_requests_that_it_held(
    shared: ServerProcess, stock: Stock
) -> None:
    print(kill_workers(shared, stock, "killed", kills=1))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_many_killed_workers(shared: ServerProcess, stock: Stock) -> None:
    print(kill_workers(shared, stock, "killed-often", kills=10))
