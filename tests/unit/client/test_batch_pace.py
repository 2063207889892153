"""How fast a batch goes: the rule, with the clock in our hands."""

import asyncio

import pytest

from lakeport.client.batch.pace import Gate, Pace
from lakeport.client.retry import Retry


def pace(most: int = 8, **retry: float) -> Pace:
    return Pace(most, Retry(base=1.0, cap=30.0, deadline=100.0, **retry), random=lambda: 1.0)  # type: ignore[arg-type]


def test_a_refusal_makes_all_wait_and_halves_their_number() -> None:
    rule = pace()

    rule.refused(now=10.0)

    assert rule.resumes == 12.0
    assert rule.limit == 4.0


def test_refusals_of_one_wave_count_once() -> None:
    rule = pace()

    for _ in range(5):
        rule.refused(now=10.0)

    assert rule.resumes == 12.0
    assert rule.limit == 4.0


def test_waits_grow_up_to_the_cap_and_an_answer_ends_them() -> None:
    rule = pace()
    waits = []
    now = 0.0
    for _ in range(7):
        rule.refused(now)
        waits.append(rule.resumes - now)
        now = rule.resumes
    rule.answered()
    rule.refused(now)

    assert waits == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert rule.resumes - now == 2.0


def test_a_longer_retry_after_is_honoured() -> None:
    rule = pace()

    rule.refused(now=0.0, retry_after=25.0)
    rule.refused(now=0.5, retry_after=3.0)

    assert rule.resumes == 25.0


def test_answers_give_the_limit_back_up_to_the_most() -> None:
    rule = pace(most=4)
    rule.refused(now=0.0)
    limits = []
    for _ in range(20):
        rule.answered()
        limits.append(rule.limit)

    assert limits == sorted(limits)
    assert limits[0] == 2.5
    assert limits[-1] == 4.0


def test_a_limit_never_falls_below_one() -> None:
    rule = pace(most=3)
    for now in range(0, 1000, 100):
        rule.refused(float(now))

    assert rule.limit == 1.0


@pytest.mark.parametrize(
    ("refusals", "now", "hopeless"),
    [
        ([], 1000.0, False),
        ([(0.0, None)], 99.0, False),
        ([(0.0, None), (50.0, None)], 101.0, True),
        ([(0.0, 3600.0)], 0.0, True),  # the wait itself would end after the deadline
    ],
)
def test_hopeless_after_the_deadline_without_an_answer(
    refusals: list[tuple[float, float | None]], now: float, hopeless: bool
) -> None:
    rule = pace()
    for at, retry_after in refusals:
        rule.refused(at, retry_after)

    assert rule.hopeless(now) is hopeless


def test_an_answer_brings_hope_back() -> None:
    rule = pace()
    rule.refused(0.0)
    rule.answered()

    assert not rule.hopeless(500.0)


async def test_a_gate_lets_no_more_through_than_the_limit() -> None:
    gate = Gate(pace(most=2))
    inside = most = 0

    async def visit() -> None:
        nonlocal inside, most
        async with gate.turn():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(visit() for _ in range(20)))

    assert most == 2


async def test_a_gate_waits_until_the_pace_resumes() -> None:
    clock = [0.0]
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    gate = Gate(pace(), clock=lambda: clock[0], sleep=sleep)
    gate.pace.refused(0.0, retry_after=7.0)

    async with gate.turn():
        pass

    assert slept == [7.0]


async def test_a_turn_that_is_cancelled_gives_its_place_back() -> None:
    gate = Gate(pace(most=1))
    began = asyncio.Event()

    async def hang() -> None:
        async with gate.turn():
            began.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await began.wait()
    task.cancel()
    await asyncio.wait([task])

    async with asyncio.timeout(5), gate.turn():
        pass
