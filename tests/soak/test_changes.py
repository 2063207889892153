"""A client at a fixed rate while everything about its endpoint changes: it must not notice."""

import time

import pytest

from benchmarks.open_loop import Result, flow, steady
from tests.soak.conftest import SCALE, Bench, Tell, met, sized

ROUNDS = max(3, round(30 * SCALE))
RATE = 100.0
#: Seconds that no change may outlast.
LIMIT = 1800.0
#: Requests over which a split is counted, and the points by which it may be off.
COUNTED = 10_000
POINTS = 2.0
ENDPOINT = "changing"
#: Seconds in which what was asked for sees some requests.
PAUSE = 0.5

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]


@pytest.fixture
def changing(bench: Bench) -> str:
    """An endpoint that is made anew for each test."""
    names = {each["name"] for each in bench.server.call("GET", "serving-endpoints")["endpoints"]}
    if ENDPOINT in names:
        bench.server.call("DELETE", f"serving-endpoints/{ENDPOINT}")
    bench.server.create(ENDPOINT, sized("first", "iris", 4))
    return ENDPOINT


def unharmed(what: str, found: Result, tell: Tell, **figures: object) -> None:
    tell(what, **found.summary(), **figures)
    assert found.shots
    assert set(found.statuses) == {200}


def test_updates(bench: Bench, changing: str, tell: Tell) -> None:
    """Each brings another version up, moves the traffic and takes the old one down."""
    with flow(bench.target(changing, "iris"), rate=RATE, limit=LIMIT) as found:
        for number in range(ROUNDS):
            version = str(2 - number % 2)
            entity = sized(f"round-{number}", "iris", 4, entity_version=version)
            bench.server.update(changing, entity)
            bench.server.updated(changing)
            time.sleep(PAUSE)

    unharmed(f"{ROUNDS} updates", found.result, tell, entities=len(found.result.entities))
    assert f"round-{ROUNDS - 1}" in found.result.entities


def test_traffic_shifts(bench: Bench, changing: str, tell: Tell) -> None:
    pair = [sized(name, "iris", 4, entity_version=v) for name, v in (("a", "1"), ("b", "2"))]
    bench.server.update(changing, *pair, a=100, b=0)
    bench.server.updated(changing)

    with flow(bench.target(changing, "iris"), rate=RATE, limit=LIMIT) as found:
        for number in range(ROUNDS):
            share = number * 37 % 101
            bench.server.update(changing, *pair, a=share, b=100 - share)
            bench.server.updated(changing)
            time.sleep(PAUSE)

    unharmed(f"{ROUNDS} traffic shifts", found.result, tell, split=dict(found.result.entities))
    assert set(found.result.entities) == {"a", "b"}


@pytest.mark.parametrize("share", [10, 37])
def test_the_split_is_what_was_asked_for(
    bench: Bench, changing: str, share: int, tell: Tell
) -> None:
    pair = [sized(name, "iris", 4, entity_version=v) for name, v in (("a", "1"), ("b", "2"))]
    bench.server.update(changing, *pair, a=share, b=100 - share)
    bench.server.updated(changing)

    found = steady(bench.target(changing, "iris"), rate=500, seconds=COUNTED / 500)

    off = abs(100 * found.entities["a"] / len(found.shots) - share)
    unharmed(f"{share} % of {COUNTED}", found, tell, off_by=met(off, POINTS, "points"))
    assert off <= POINTS


def test_one_replica_three_and_one_again(bench: Bench, changing: str, tell: Tell) -> None:
    with flow(bench.target(changing, "iris"), rate=RATE, limit=LIMIT) as found:
        for replicas in [1, 3] * max(1, ROUNDS // 10) + [1]:
            bench.server.update(changing, sized("first", "iris", 4 * replicas))
            bench.server.updated(changing)
            bench.wait_for_replicas(changing, replicas)

    unharmed("1-3-1 replicas", found.result, tell)


def test_to_zero_and_back(bench: Bench, changing: str, tell: Tell) -> None:
    """Slower than the server's patience: each request finds nothing there, and is answered."""
    entity = sized("first", "iris", 4, min_provisioned_concurrency=0, scale_to_zero_enabled=True)
    bench.server.update(changing, entity)
    bench.server.updated(changing)

    found: list[Result] = []
    for _ in range(max(3, ROUNDS // 3)):
        bench.wait_for_replicas(changing, 0)
        assert bench.server.get(changing)["state"]["ready"] == "READY"
        found.append(steady(bench.target(changing, "iris"), rate=20, seconds=1))

    firsts = [each.shots[0].latency * 1000 for each in found]
    everything = Result([shot for each in found for shot in each.shots])
    woken = met(max(firsts), 100, "ms")
    unharmed("to zero and back", everything, tell, times=len(found), slowest_first=woken)
