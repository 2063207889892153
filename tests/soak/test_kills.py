"""`kill -9` of a random replica every two seconds: only what it held may fail."""

import contextlib
import os
import random
import signal
import statistics
import time

import pytest

from benchmarks.open_loop import flow
from tests.integration.server import wait_for
from tests.soak.conftest import SCALE, Bench, Tell, met, sized

SECONDS = 120 * SCALE
EVERY = 2.0
REPLICAS = 3
RATE = 300.0
#: Seconds by which clocks and wires may blur the moment of a kill.
BLUR = 0.1
#: Requests that one replica may hold: four at a time, and as many sent ahead to it.
HELD = 8
SEED = 20261125

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]


def test_kills(bench: Bench, tell: Tell) -> None:
    bench.server.create("killed", sized("sleep", "sleep", 4 * REPLICAS))
    bench.wait_for_replicas("killed", REPLICAS)
    draw = random.Random(SEED)
    kills: list[float] = []
    recoveries: list[float] = []

    with flow(bench.target("killed", "sleep"), rate=RATE, limit=SECONDS + 300) as found:
        time.sleep(1.0)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            victim, pid = draw.choice(wait_for(lambda: killable(bench), what="a replica to kill"))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            kills.append(time.monotonic())
            recoveries.append(full_strength(bench, victim) - kills[-1])
            time.sleep(max(0.0, kills[-1] + EVERY - time.monotonic()))

    unexplained = [
        shot
        for shot in found.result.failed
        if not any(shot.sent - BLUR <= kill <= shot.ended + BLUR for kill in kills)
    ]
    tell(
        f"{len(kills)} kills of one of {REPLICAS} replicas",
        **found.result.summary(),
        failed=len(found.result.failed),
        full_strength_after_median=f"{statistics.median(recoveries):.2f} s",
        full_strength_after_at_most=met(max(recoveries), 5, "s"),
    )
    assert not unexplained, unexplained[:5]
    assert len(found.result.failed) <= HELD * len(kills)
    assert found.result.statuses[200] > RATE * SECONDS / 2


def killable(bench: Bench) -> list[tuple[str, int]]:
    return [(name, pid) for name, pid in bench.replicas("killed").items() if pid is not None]


def full_strength(bench: Bench, victim: str) -> float:
    """When all replicas are there again, without the one that was killed."""

    def whole() -> bool:
        replicas = bench.replicas("killed")
        return len(replicas) == REPLICAS and victim not in replicas

    wait_for(whole, what=f"{REPLICAS} replicas")
    return time.monotonic()
