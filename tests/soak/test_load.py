"""Half of what a model can take for ten minutes, and twice as much for one.

On models that are limited by what they compute or wait for: a forest whose requests are not merged,
and one that waits 10 ms. How fast it goes is printed; what is asserted does not depend on speed.
"""

import time

import pytest

from benchmarks.open_loop import Result, closed, flow, steady
from tests.soak.conftest import SCALE, Bench, Tell, met, sized

HALF_LOAD = 600 * SCALE
OVERLOAD = 60 * SCALE
#: Requests that may wait for one served entity, by default.
QUEUE = 1024
#: Seconds that show what is normal, and in which it comes back.
NORMAL = 20 * max(SCALE, 0.1)
#: Seconds that are looked at together to see when it does.
STEP = 0.25
#: Part of the capacity that is asked for after an overload.
AFTERWARDS = 0.25
#: The load cannot do more.
MOST = 3000.0
GROWTH = 0.03

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

ENTITIES = {
    "forest": sized("forest", "forest", 4, environment_vars={"LAKEPORT_MERGE": "false"}),
    "sleep": sized("sleep", "sleep", 8),
}


@pytest.fixture(scope="module", params=list(ENTITIES))
def model(request: pytest.FixtureRequest, bench: Bench) -> str:
    name: str = request.param
    bench.server.create(name, ENTITIES[name])
    return name


@pytest.fixture(scope="module")
def capacity(bench: Bench, model: str) -> float:
    """Requests a second that it answers when enough of them wait."""
    target = bench.target(model, model)
    closed(target, connections=16, seconds=3)
    found = closed(target, connections=16, seconds=10)
    assert set(found.statuses) == {200}
    return found.per_second()


def test_half_load(bench: Bench, model: str, capacity: float, tell: Tell) -> None:
    target = bench.target(model, model)
    steady(target, rate=capacity / 2, seconds=HALF_LOAD / 10)
    before = bench.memory()

    found = steady(target, rate=capacity / 2, seconds=HALF_LOAD)
    growth = bench.memory() / before - 1

    times = found.latency(0.99) / found.latency(0.5)
    tell(
        f"half load of {model}",
        **found.summary(),
        p99_by_p50=met(times, 5, "times"),
        memory_growth=met(growth * 100, GROWTH * 100, "%"),
    )
    assert set(found.statuses) == {200}
    assert growth < GROWTH


def test_overload(bench: Bench, model: str, capacity: float, tell: Tell) -> None:
    """Beyond what waits, requests are refused at once; afterwards all is as it was."""
    rate = 2 * capacity
    assert rate <= MOST, "the load cannot overload this model"
    seconds = max(OVERLOAD, 1.5 * QUEUE / capacity)  # the queue is to be full
    target = bench.target(model, model)
    normal = steady(target, rate=AFTERWARDS * capacity, seconds=NORMAL)

    with flow(target, rate=rate, limit=seconds) as flood:
        time.sleep(seconds)
        # What is in the queue is answered meanwhile.
        after = steady(target, rate=AFTERWARDS * capacity, seconds=NORMAL)

    ended = flood.result.shots[0].due + seconds
    answered = [s for s in flood.result.shots if s.status == 200 and s.ended <= ended]
    refusals = flood.result.with_status(429)
    tell(
        f"twice the capacity of {model}",
        capacity=round(capacity, 1),
        **flood.result.summary(),
        answered_share=met(100 * len(answered) / seconds / capacity, 80, "%", least=True),
        refused_within=met(refusals.latency(0.99), 50, "ms"),
        normal_after=met(settled(after, normal) - ended, 5, "s"),
    )
    assert set(flood.result.statuses) <= {200, 429}
    assert refusals.shots, "nothing was refused: it was no overload"
    assert set(normal.statuses) == {200}
    assert set(after.between(after.shots[-1].due - NORMAL / 2, float("inf")).statuses) == {200}


def settled(after: Result, normal: Result) -> float:
    """When it begins to be as it used to be: all answered with 200, nine in ten in usual time."""
    limit = 2 * normal.latency(0.99)
    begun = last = after.shots[0].due
    for step in range(int((after.shots[-1].due - begun) / STEP) + 1):
        found = after.between(begun + step * STEP, begun + (step + 1) * STEP)
        if found.shots and (found.failed or found.latency(0.9) > limit):
            last = begun + (step + 1) * STEP
    return last
