"""Served entities grow, shrink and sleep, in virtual time; no request of theirs is lost."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeport.control.scaling import Scaling
from lakeport.control.validation import bounds
from lakeport.runtimes.base import Kind
from lakeport.serving.autoscale import Bounds
from lakeport.stores.records import EntityRecord
from lakeport.wire.endpoints import CoreConfigInput, CreateEndpoint, ServedEntityInput
from tests.unit.control.virtual_time import run
from tests.unit.control.world import ADMIN, Probe, World

IDLE, QUIET = 120, 60
SCALING = Scaling(cores=4, down_after=QUIET, to_zero_after=IDLE)


def wish(**size: object) -> CoreConfigInput:
    entity = ServedEntityInput.model_validate(
        {"name": "m", "entity_name": "m", "entity_version": "1", **size}
    )
    return CoreConfigInput(served_entities=[entity])


async def serve(**size: object) -> World:
    """A world whose endpoint "a" is ready."""
    world = World(SCALING)
    await world.boot()
    await world.endpoints.create(ADMIN, CreateEndpoint(name="a", config=wish(**size)))
    await asyncio.sleep(10)
    return world


async def ask(world: World, count: int, *, pause: float = 0.0) -> list[Probe]:
    """So many requests at once, or one each `pause` seconds."""
    asked = []
    for _ in range(count):
        asked.append(asyncio.ensure_future(world.invoke("a")))
        await asyncio.sleep(pause)
    return await asyncio.gather(*asked)


def statuses(probes: Sequence[Probe]) -> set[int]:
    return {probe.status for probe in probes}


async def kinds(world: World) -> list[str]:
    await asyncio.sleep(1)  # they are stored in the background
    return [event.kind for event in await world.store.events("a")]


def test_to_zero_and_back_loses_no_request() -> None:
    async def story() -> None:
        world = await serve(scale_to_zero_enabled=True)
        for _ in range(3):
            await asyncio.sleep(IDLE + 2)
            assert not world.runtime.replicas
            shown = await world.endpoints.get(ADMIN, "a")
            assert shown.state.ready == "READY"
            assert shown.config is not None
            state = shown.config.served_entities[0].state
            assert state.deployment == "DEPLOYMENT_READY"
            assert "zero" in state.deployment_state_message

            answers = await ask(world, 30, pause=0.1)
            assert statuses(answers) == {200}
            assert answers[0].ended - answers[0].began < 4  # a start takes 3
        found = await kinds(world)
        assert found.count("scaled_to_zero") == found.count("woke") == 3
        assert "scaled_up" not in found  # those that waited for the first need no second
        assert world.metrics.entity("a", "m").cold_starts == 3
        await world.close()
        assert not world.runtime.replicas

    run(story())


def test_requests_at_the_very_moment_of_going_to_zero_are_answered() -> None:
    async def story() -> None:
        world = await serve(scale_to_zero_enabled=True)
        for step in range(40):
            await asyncio.sleep(IDLE - 1 + step * 0.05)
            assert statuses(await ask(world, 2)) == {200}
        await world.close()

    run(story())


def test_it_stays_up_under_a_trickle_and_without_the_wish() -> None:
    async def story() -> None:
        world = await serve(scale_to_zero_enabled=True)
        assert statuses(await ask(world, 20, pause=IDLE / 2)) == {200}
        assert world.runtime.starts == 1
        await world.endpoints.update_config(ADMIN, "a", wish(scale_to_zero_enabled=False))
        await asyncio.sleep(10 * IDLE)
        assert len(world.runtime.replicas) == 1
        await world.close()

    run(story())


def test_more_under_load_and_fewer_after_it() -> None:
    async def story() -> None:
        world = await serve(min_provisioned_concurrency=4, max_provisioned_concurrency=12)
        stop = asyncio.Event()
        answers: list[Probe] = []

        async def caller() -> None:
            while not stop.is_set():
                answers.append(await world.invoke("a"))

        callers = [asyncio.ensure_future(caller()) for _ in range(16)]
        await asyncio.sleep(5)
        assert len(world.runtime.replicas) == 3
        stop.set()
        await asyncio.gather(*callers)
        answers += await ask(world, 2 * QUIET, pause=1)
        assert statuses(answers) == {200}
        assert len(world.runtime.replicas) == 1
        found = await kinds(world)
        assert "scaled_up" in found
        assert "scaled_down" in found
        await world.close()

    run(story())


def test_what_a_replica_that_goes_still_holds_is_answered() -> None:
    async def story() -> None:
        world = await serve(workload_size="Medium")
        assert len(world.runtime.replicas) == 2
        for replica in world.runtime.replicas.values():
            replica.seconds = 100.0
        long = asyncio.ensure_future(ask(world, 4))  # as many as both take
        await asyncio.sleep(1)
        await world.endpoints.update_config(ADMIN, "a", wish(workload_size="Small"))
        await asyncio.sleep(10)
        assert len(world.runtime.replicas) == 2
        assert statuses(await long) == {200}
        await asyncio.sleep(1)
        assert len(world.runtime.replicas) == 1
        await world.close()

    run(story())


def test_one_that_cannot_be_woken_answers_why() -> None:
    async def story() -> None:
        world = await serve(scale_to_zero_enabled=True)
        await asyncio.sleep(IDLE + 2)
        world.runtime.broken = True
        began = asyncio.get_running_loop().time()
        answers = await ask(world, 5)
        assert statuses(answers) == {503}
        assert asyncio.get_running_loop().time() - began < 2
        assert (await world.endpoints.get(ADMIN, "a")).state.ready == "NOT_READY"
        await asyncio.sleep(5 * IDLE)  # it does not fall asleep over it
        assert (await world.endpoints.get(ADMIN, "a")).state.ready == "NOT_READY"
        world.runtime.broken = False
        await asyncio.sleep(100)
        assert statuses(await ask(world, 5)) == {200}
        await world.close()

    run(story())


def test_a_change_of_size_keeps_the_replicas() -> None:
    async def story() -> None:
        world = await serve(workload_size="Small")
        (first,) = world.runtime.replicas
        await world.endpoints.update_config(ADMIN, "a", wish(workload_size="Medium"))
        await asyncio.sleep(10)
        shown = await world.endpoints.get(ADMIN, "a")
        assert shown.state.config_update == "NOT_UPDATING"
        assert shown.config is not None
        assert shown.config.served_entities[0].workload_size == "Medium"
        assert len(world.runtime.replicas) == world.runtime.starts == 2
        assert first in world.runtime.replicas

        await world.endpoints.update_config(ADMIN, "a", wish(workload_size="Small"))
        await asyncio.sleep(10)
        assert list(world.runtime.replicas) == [first]
        await world.close()

    run(story())


def test_one_at_zero_that_may_no_longer_be_there_starts() -> None:
    async def story() -> None:
        world = await serve(scale_to_zero_enabled=True)
        await asyncio.sleep(IDLE + 2)
        assert not world.runtime.replicas
        await world.endpoints.update_config(ADMIN, "a", wish(workload_size="Medium"))
        await asyncio.sleep(10)
        assert len(world.runtime.replicas) == 2
        await world.close()

    run(story())


def test_after_a_restart_one_at_zero_starts_and_sleeps_again() -> None:
    async def story() -> None:
        world = await serve(scale_to_zero_enabled=True)
        await asyncio.sleep(IDLE + 2)
        await world.crash()
        await world.boot()
        await asyncio.sleep(10)
        assert len(world.runtime.replicas) == 1
        assert statuses(await ask(world, 3)) == {200}
        await asyncio.sleep(IDLE + 2)
        assert not world.runtime.replicas
        await world.close()

    run(story())


def test_a_bloated_replica_is_replaced_without_a_gap() -> None:
    async def story() -> None:
        world = await serve(workload_size="Small")
        await asyncio.sleep(300)
        (old,) = world.runtime.replicas.values()
        old.bloated = True
        answers = await ask(world, 300, pause=0.1)
        assert statuses(answers) == {200}
        (new,) = world.runtime.replicas.values()
        assert new is not old
        assert "replica_recycled" in await kinds(world)
        await world.close()

    run(story())


SIZES: list[dict[str, object]] = [
    {"scale_to_zero_enabled": True},
    {"workload_size": "Medium", "scale_to_zero_enabled": True},
    {"min_provisioned_concurrency": 4, "max_provisioned_concurrency": 16},
    {"min_provisioned_concurrency": 12, "max_provisioned_concurrency": 12},
]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0.0, 1.5 * IDLE)),
        st.tuples(st.just("crowd"), st.integers(1, 60)),
        st.tuples(st.just("trickle"), st.integers(1, 60)),
        st.tuples(st.just("size"), st.sampled_from(SIZES)),
    ),
    min_size=3,
    max_size=10,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(SIZES), steps)
def test_whatever_comes_is_answered_and_nothing_is_left(
    size: dict[str, object], script: list[tuple[str, object]]
) -> None:
    async def story() -> None:
        world = await serve(**size)
        asked: list[asyncio.Future[list[Probe]]] = []
        for step in script:
            match step:
                case ("wait", float(seconds)):
                    await asyncio.sleep(seconds)
                case ("crowd", int(count)):
                    asked.append(asyncio.ensure_future(ask(world, count)))
                case ("trickle", int(count)):
                    asked.append(asyncio.ensure_future(ask(world, count, pause=0.3)))
                case ("size", dict(other)):
                    await world.endpoints.update_config(ADMIN, "a", wish(**other))
                    await asyncio.sleep(1)  # until it is promoted
        for answers in await asyncio.gather(*asked):
            assert statuses(answers) == {200}

        await asyncio.sleep(QUIET + IDLE + 100)
        record = world.reconciler.record("a")
        assert record is not None
        assert record.active is not None
        group = world.reconciler.replica_set(record, record.active.entities[0])
        assert group is not None
        at_rest = bounds(record.active.entities[0])
        assert group.count == len(group.live) == (0 if at_rest.to_zero else at_rest.low)
        assert len(world.runtime.replicas) == group.count
        await world.close()
        assert not world.runtime.replicas

    run(story())


@pytest.mark.parametrize(
    ("size", "low", "high", "expected"),
    [
        ("Small", None, None, (1, 1)),
        ("Medium", None, None, (2, 4)),
        ("Large", None, None, (4, 16)),
        (None, 12, 12, (3, 3)),
        (None, 4, 64, (1, 16)),
        (None, 0, 8, (1, 2)),
    ],
)
def test_sizes_set_the_bounds(
    size: str | None, low: int | None, high: int | None, expected: tuple[int, int]
) -> None:
    entity = EntityRecord(
        *("m", "m", "1", "1", "k"),
        workload_size=size,
        min_concurrency=low,
        max_concurrency=high,
        scale_to_zero=True,
    )
    assert bounds(entity) == Bounds(*expected, to_zero=True)


def test_what_does_not_run_here_is_not_scaled() -> None:
    entity = EntityRecord("m", "", "", "", "", workload_size=None, kind=Kind.EXTERNAL)
    assert bounds(entity) == Bounds(1, 1, to_zero=False)


def test_an_engine_keeps_all_cores_busy() -> None:
    assert Scaling(cores=8, engine_slots=8).policy(Kind.ENGINE).cores == 1
    assert Scaling(cores=8).policy(Kind.MODEL).cores == 8
    limited = Scaling(cores=8, up_to=3).policy(Kind.MODEL)
    assert (limited.cores, limited.beyond) == (3, False)
