"""The rule that sets the number of replicas, over hours of simulated time."""

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeport.serving import autoscale
from lakeport.serving.autoscale import Bounds, Policy, Reading

WAITING = Policy(takes=4, cores=2, quiet=300.0, zero_after=1800.0)
COMPUTING = replace(WAITING, beyond=False)
WIDE = Bounds(1, 64, to_zero=False)
#: Replicas that use this many cores wait rather than compute.
LAZY = 0.1
HOUR = 3600


@dataclass(frozen=True)
class Seen:
    """One second of a deployment."""

    at: int
    load: float
    waiting: int
    wanted: int


def live(
    seconds: int,
    load_at: Callable[[int, int], float],
    *,
    bounds: Bounds = WIDE,
    policy: Policy = WAITING,
    waiting_at: Callable[[int], int] = lambda second: 0,
    cpu: float | None = LAZY,
    merging: bool = False,
) -> list[Seen]:
    """`load_at` tells the requests at a time, from the second and the replicas that there are.

    A replica that was wanted in one second is there in the next.
    """
    state = autoscale.begin(bounds.low, policy, 0.0)
    seen, idle, wanted = [], 0.0, bounds.low
    for second in range(1, seconds + 1):
        load, waiting = load_at(second, wanted), waiting_at(second)
        busy = load > 0 or waiting > 0
        idle = 0.0 if busy else idle + 1.0
        reading = Reading(
            mean=load,
            present=max(math.ceil(load), waiting),
            waiting=waiting,
            idle=idle,
            live=wanted,
            cpu=cpu,
            merging=merging,
        )
        state, wanted = autoscale.decide(state, reading, bounds, policy, float(second))
        assert wanted == state.wanted
        seen.append(Seen(second, load, waiting, wanted))
    return seen


def moves(seen: list[Seen]) -> list[tuple[int, int]]:
    """(second, replicas) of each change."""
    pairs = itertools.pairwise(seen)
    return [(after.at, after.wanted) for before, after in pairs if before.wanted != after.wanted]


@pytest.mark.parametrize(("load", "wanted"), [(0.5, 1), (4, 1), (4.5, 2), (12, 3), (61, 16)])
def test_it_goes_up_at_once(load: float, wanted: int) -> None:
    # The first second shows whether they wait or compute, where there are more than cores.
    seen = live(10, lambda second, _: load)
    assert seen[-1].wanted == wanted
    assert seen[0].wanted == min(wanted, 2)


def test_calls_that_wait_count_without_a_mean() -> None:
    state = autoscale.begin(1, WAITING, 0.0)
    reading = Reading(mean=0.0, present=7, waiting=3, idle=0.0, live=1)
    assert autoscale.decide(state, reading, WIDE, WAITING, 0.1)[1] == 2


def test_a_crowd_that_is_gone_or_held_adds_none() -> None:
    state = autoscale.begin(1, WAITING, 0.0)
    held = Reading(mean=1.0, present=8, waiting=0, idle=0.0, live=1)
    gone = Reading(mean=9.0, present=0, waiting=0, idle=0.2, live=1)
    for reading in (held, gone):
        assert autoscale.decide(state, reading, WIDE, WAITING, 1.0)[1] == 1


def test_it_goes_down_by_the_peak_of_the_quiet_time_and_not_before() -> None:
    def load(second: int, _: int) -> float:
        return 8.0 if second <= 60 else 6.0 if second == 200 else 1.0

    seen = live(HOUR, load)
    assert seen[0].wanted == 2
    # The 6 at second 200 needs two: only when it is out of the window may one go.
    ((at, wanted),) = moves(seen)
    assert wanted == 1
    assert 500 <= at <= 560


def test_it_never_goes_down_while_requests_wait() -> None:
    policy = replace(WAITING, cores=16)
    seen = live(
        HOUR,
        lambda second, _: 12.0 if second < 10 else 1.0,
        policy=policy,
        waiting_at=lambda second: 1 if second < 2000 else 0,
    )
    assert {each.wanted for each in seen if 10 <= each.at < 2000} == {3}
    assert seen[-1].wanted == 1


def test_computing_replicas_stop_at_the_cores_and_waiting_ones_at_the_maximum() -> None:
    def busy(second: int, _: int) -> float:
        return 100.0

    assert live(60, busy, cpu=1.9)[-1].wanted == 2
    assert live(60, busy, cpu=None)[-1].wanted == 2
    assert live(60, busy, cpu=LAZY, policy=COMPUTING)[-1].wanted == 2
    assert live(60, busy, cpu=LAZY, bounds=replace(WIDE, high=9))[-1].wanted == 9


def test_replicas_that_merge_are_joined_by_others_only_where_they_compute_all_the_time() -> None:
    def crowd(second: int, _: int) -> float:
        return 40.0

    policy = replace(WAITING, cores=4)
    assert live(60, crowd, policy=policy, cpu=0.3, merging=True)[-1].wanted == 1
    assert live(60, crowd, policy=policy, cpu=None, merging=True)[-1].wanted == 1
    # With 0.9 cores in use one is full, and two are not.
    assert moves(live(60, crowd, policy=policy, cpu=0.9, merging=True)) == [(3, 2)]
    assert moves(live(60, crowd, policy=policy, cpu=9.0, merging=True)) == [(3, 2), (6, 4)]


def test_the_minimum_is_honoured_beyond_the_cores() -> None:
    assert {each.wanted for each in live(HOUR, lambda *_: 0.0, bounds=Bounds(6, 8, False))} == {6}


def test_to_zero_after_the_idle_time_and_back_at_the_first_request() -> None:
    bounds = Bounds(2, 4, to_zero=True)

    def load(second: int, _: int) -> float:
        return 1.0 if second in (100, 4000) else 0.0

    seen = live(7000, load, bounds=bounds)
    assert moves(seen) == [(100 + 1800, 0), (4000, 2), (4000 + 1800, 0)]


def test_not_to_zero_where_it_may_not_or_where_none_answers() -> None:
    assert 0 not in {each.wanted for each in live(3 * HOUR, lambda *_: 0.0)}
    state = autoscale.begin(1, WAITING, 0.0)
    dead = Reading(mean=0.0, present=0, waiting=0, idle=9999.0, live=0)
    assert autoscale.decide(state, dead, Bounds(1, 1, True), WAITING, 9999.0)[1] == 1


def test_bounds_that_change_are_followed_at_once() -> None:
    state = autoscale.begin(4, WAITING, 0.0)
    reading = Reading(mean=16.0, present=16, waiting=5, idle=0.0, live=4)
    state, wanted = autoscale.decide(state, reading, Bounds(1, 2, False), WAITING, 1.0)
    assert wanted == 2
    state, wanted = autoscale.decide(state, reading, Bounds(5, 6, False), WAITING, 2.0)
    assert wanted == 5
    asleep = autoscale.begin(0, WAITING, 3.0)
    idle = Reading(mean=0.0, present=0, waiting=0, idle=99.0, live=0)
    assert autoscale.decide(asleep, idle, Bounds(3, 3, False), WAITING, 4.0)[1] == 3


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(0.1, 80), st.floats(0, 0.07), st.integers(0, 99), st.sampled_from([1, 2, 8]))
def test_a_steady_load_never_oscillates(base: float, jitter: float, seed: int, cores: int) -> None:
    draw = random.Random(seed)
    seen = live(
        HOUR // 2,
        lambda *_: base * (1 + draw.uniform(-jitter, jitter)),
        policy=replace(WAITING, cores=cores),
    )
    wanted = [each.wanted for each in seen]
    assert wanted == sorted(wanted)


def test_a_load_that_shrinks_with_more_replicas_moves_ever_more_rarely() -> None:
    """Two replicas answer so much faster that one seems enough, and it is not."""

    def load(_: int, replicas: int) -> float:
        return 9.0 if replicas == 1 else 2.5

    changes = moves(live(24 * HOUR, load))
    ups = [at for at, wanted in changes if wanted == 2]
    gaps = [after - before for before, after in itertools.pairwise(ups)]
    assert gaps == sorted(gaps)
    assert gaps[-1] > 3600
    assert len(ups) < 40  # 288 if it tried again each time


segments = st.lists(
    st.tuples(
        st.integers(1, 900),  # seconds
        st.one_of(st.just(0.0), st.floats(0, 100)),  # load
        st.integers(0, 40),  # waiting
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    segments,
    st.integers(1, 6),
    st.integers(0, 20),
    st.booleans(),
    st.sampled_from([None, LAZY, 8.0]),
)
def test_what_holds_for_every_load(
    shape: list[tuple[int, float, int]], low: int, more: int, to_zero: bool, cpu: float | None
) -> None:
    bounds, policy = Bounds(low, low + more, to_zero), replace(WAITING, zero_after=400.0)
    loads = [load for seconds, load, _ in shape for _ in range(seconds)]
    waits = [waiting for seconds, _, waiting in shape for _ in range(seconds)]
    seen = live(
        len(loads),
        lambda second, _: loads[second - 1],
        bounds=bounds,
        policy=policy,
        waiting_at=lambda second: waits[second - 1],
        cpu=cpu,
    )
    before, changed, idle = low, 0, 0
    for each in seen:
        busy = each.load > 0 or each.waiting > 0
        idle = 0 if busy else idle + 1
        assert each.wanted == 0 or bounds.low <= each.wanted <= bounds.high
        if each.wanted == 0:
            assert to_zero
            assert not busy
            assert idle >= policy.zero_after
        elif before == 0:
            assert busy
            assert each.wanted == low
        else:
            needed = math.ceil(each.load / policy.takes)
            assert each.wanted >= min(needed, max(low, min(bounds.high, policy.cores)))
            if each.wanted < before:
                assert not each.waiting
                assert each.at - changed >= policy.quiet
        if each.wanted != before:
            changed = each.at
        before = each.wanted
