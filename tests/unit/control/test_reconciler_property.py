"""Drives the reconciler and the front through whatever may happen, in virtual time.

The invariants are those at the end of docs/internals/rollout.md.
"""

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakeport.control import rollout
from lakeport.errors import ApiError
from lakeport.serving.routes import Condition, RouteTable
from lakeport.stores.records import ConfigUpdate, EndpointRecord
from lakeport.wire.endpoints import CoreConfigInput, CreateEndpoint
from tests.unit.control.virtual_time import run
from tests.unit.control.world import ADMIN, BEHAVIOUR, Probe, World

GOOD = [version for version, what in BEHAVIOUR.items() if what in ("good", "slow")]
NAMES = ["a", "b"]

versions = st.lists(st.sampled_from(sorted(BEHAVIOUR)), min_size=1, max_size=2, unique=True)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.sampled_from(NAMES), versions),
        st.tuples(st.just("update"), st.sampled_from(NAMES), versions),
        st.tuples(st.just("stop"), st.sampled_from(NAMES)),
        st.tuples(st.just("start"), st.sampled_from(NAMES)),
        st.tuples(st.just("delete"), st.sampled_from(NAMES)),
        st.tuples(st.just("kill"), st.integers(0, 3)),
        st.tuples(st.just("crash"), st.sampled_from([0.0, 0.005, 0.015, 0.5])),
        st.tuples(st.just("wait"), st.sampled_from([0.005, 1.0, 5.0, 70.0, 120.0])),
    ),
    max_size=25,
)


def config(chosen: list[str]) -> CoreConfigInput:
    share = 100 // len(chosen)
    return CoreConfigInput.model_validate(
        {
            "served_entities": [
                {"name": f"m-{v}", "entity_name": "m", "entity_version": v} for v in chosen
            ],
            "traffic_config": {
                "routes": [
                    {"served_entity_name": f"m-{v}", "traffic_percentage": share} for v in chosen
                ]
            },
        }
    )


@dataclass
class Watch:
    """Looks at every record after every moment, and keeps the history."""

    world: World
    #: Endpoint id to the stretches of time in which model versions were active: (from, versions).
    active: dict[str, list[tuple[float, frozenset[str]]]] = field(default_factory=dict)
    last: dict[str, EndpointRecord] = field(default_factory=dict)

    def attend(self) -> None:
        """Look whenever the reconciler has published, just after."""
        front = self.world.front
        publish = front.publish

        def published(routes: RouteTable) -> None:
            publish(routes)
            asyncio.get_running_loop().call_soon(self.look)

        front.publish = published  # type: ignore[method-assign]

    def look(self) -> None:
        now = asyncio.get_running_loop().time()
        for name in self.world.reconciler.names():
            record = self.world.reconciler.record(name)
            assert record is not None
            before = self.last.get(record.id)
            if before is not None and before is not record:
                check_move(before, record)
            self.last[record.id] = record
            serving = record.active is not None and not record.stopped
            found = frozenset(
                entity.resolved_version
                for entity in (record.active.entities if record.active and serving else ())
            )
            stretches = self.active.setdefault(record.id, [])
            if not stretches or stretches[-1][1] != found:
                stretches.append((now, found))
            route = self.world.front._routes[name]
            assert route == rollout.route(record), "the front's route is not the record's"
            if route.condition is Condition.SERVING:
                wanted = rollout.wanted(record)
                assert {share.deployment for share in route.shares} <= set(wanted)


def check_move(before: EndpointRecord, after: EndpointRecord) -> None:
    """The table of moves in docs/internals/rollout.md, looked at from outside."""
    if after.active != before.active and after.active is not None:
        assert before.pending is not None, "only a pending config may become active"
        if before.update is ConfigUpdate.IN_PROGRESS:
            assert after.active == before.pending or after.last_version > before.last_version
    if after.update is ConfigUpdate.UPDATE_FAILED:
        assert after.active == before.active or before.update is not ConfigUpdate.IN_PROGRESS
    assert after.last_version >= before.last_version
    assert after.revision > before.revision


async def drive(script: list[tuple[object, ...]]) -> None:  # noqa: PLR0912 - a case a step
    world = World()
    await world.boot()
    watch = Watch(world)
    probes: list[Probe] = []
    disturbed: list[float] = []  # moments at which a replica was killed
    pace = itertools.cycle([0.03, 0.11, 0.37, 0.05, 0.23])  # probes of one endpoint drift apart
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    async def probe(name: str) -> None:
        while not stopping.is_set():
            record = world.reconciler.record(name)
            serving = record is not None and record.active is not None and not record.stopped
            found = await world.invoke(name)
            after = world.reconciler.record(name)
            still = after is not None and record is not None and after.id == record.id
            if serving and still and after is not None and not after.stopped:
                probes.append(found)
            await asyncio.sleep(next(pace))

    def spectators() -> list[asyncio.Task[object]]:
        watch.attend()
        return [loop.create_task(probe(name)) for name in NAMES * 3]

    watching = spectators()
    for step in [("create", "a", ["1"]), ("wait", 5.0), *script]:
        match step:
            case ("create", str(name), list(chosen)):
                await attempt(
                    world.endpoints.create(ADMIN, CreateEndpoint(name=name, config=config(chosen)))
                )
            case ("update", str(name), list(chosen)):
                await attempt(world.endpoints.update_config(ADMIN, name, config(chosen)))
            case ("stop", str(name)):
                await attempt(world.endpoints.stop(ADMIN, name))
            case ("start", str(name)):
                await attempt(world.endpoints.start(ADMIN, name))
            case ("delete", str(name)):
                await attempt(world.endpoints.delete(ADMIN, name))
            case ("kill", int(which)):
                replicas = sorted(world.runtime.replicas)
                if replicas:
                    disturbed.append(loop.time())
                    world.runtime.replicas[replicas[which % len(replicas)]].kill("killed")
            case ("crash", float(moment)):
                await asyncio.sleep(moment)
                for task in watching:
                    task.cancel()
                await asyncio.gather(*watching, return_exceptions=True)
                await world.crash()
                disturbed.append(loop.time())
                await world.boot()
                watch.last.clear()
                watching = spectators()
            case ("wait", float(seconds)):
                await asyncio.sleep(seconds)
        watch.look()
    await asyncio.sleep(300)
    stopping.set()
    await asyncio.gather(*watching)
    await asyncio.sleep(3600)
    watch.look()

    # Whatever was begun has ended, and exactly what is wanted runs.
    running: set[str] = set()
    for name in world.reconciler.names():
        record = world.reconciler.record(name)
        assert record is not None
        assert record.update is not ConfigUpdate.IN_PROGRESS
        wanted = rollout.wanted(record)
        for id, entity in wanted.items():
            group = world.reconciler.replica_set(record, entity)
            assert group is not None
            assert len(group.live) == group.count
            running |= {f"{id}/{replica}" for replica in group.live}
    assert set(world.runtime.replicas) == running

    # No request was lost, but those that a killed replica held or that came while none lived.
    for found in probes:
        near = any(found.began - 75 <= at <= found.ended for at in disturbed)
        if found.status != 200 and not near:
            raise AssertionError(f"{found} was refused although the endpoint served")
    await world.reconciler.close()
    assert not world.runtime.replicas


async def attempt(operation: object) -> None:
    """A refusal is a fine outcome here; the invariants judge what follows."""
    with contextlib.suppress(ApiError):
        await operation  # type: ignore[misc]


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(steps)
def test_nothing_is_lost_and_everything_ends(script: list[tuple[object, ...]]) -> None:
    run(drive(script))


def test_an_update_answers_from_the_old_config_until_the_new_one_is_ready() -> None:
    async def story() -> None:
        world = World()
        await world.boot()
        await world.endpoints.create(ADMIN, CreateEndpoint(name="a", config=config(["1"])))
        await asyncio.sleep(10)

        await world.endpoints.update_config(ADMIN, "a", config(["3"]))
        answers = []
        for _ in range(200):
            answers.append(await world.invoke("a"))
            await asyncio.sleep(0.4)

        assert {answer.status for answer in answers} == {200}
        order = [version for version, _ in itertools.groupby(a.version for a in answers)]
        assert order == ["1", "3"]
        await world.reconciler.close()

    run(story())


def test_a_failed_update_is_never_noticed_by_callers() -> None:
    async def story() -> None:
        world = World()
        await world.boot()
        await world.endpoints.create(ADMIN, CreateEndpoint(name="a", config=config(["1"])))
        await asyncio.sleep(10)

        for bad in ("4", "5", "6"):
            await world.endpoints.update_config(ADMIN, "a", config([bad]))
            for _ in range(100):
                answer = await world.invoke("a")
                assert (answer.status, answer.version) == (200, "1")
                await asyncio.sleep(20)
            shown = await world.endpoints.get(ADMIN, "a")
            assert shown.state.config_update == "UPDATE_FAILED"
            assert shown.pending_config is not None
            state = shown.pending_config.served_entities[0].state
            assert state.deployment == "DEPLOYMENT_FAILED"
            assert state.deployment_state_message
            assert shown.config is not None
            assert shown.config.config_version == 1
        await world.reconciler.close()

    run(story())


def test_a_change_of_traffic_alone_starts_nothing() -> None:
    async def story() -> None:
        world = World()
        await world.boot()
        await world.endpoints.create(ADMIN, CreateEndpoint(name="a", config=config(["1", "2"])))
        await asyncio.sleep(10)
        starts = world.runtime.starts

        wish = config(["1", "2"])
        assert wish.traffic_config is not None
        assert wish.traffic_config.routes is not None
        wish.traffic_config.routes[0].traffic_percentage = 90
        wish.traffic_config.routes[1].traffic_percentage = 10
        await world.endpoints.update_config(ADMIN, "a", wish)
        await asyncio.sleep(1)

        shown = await world.endpoints.get(ADMIN, "a")
        assert shown.state.config_update == "NOT_UPDATING"
        assert shown.config is not None
        assert [r.traffic_percentage for r in shown.config.traffic_config.routes] == [90, 10]
        assert world.runtime.starts == starts
        await world.reconciler.close()

    run(story())


def test_a_second_update_while_one_runs_is_a_conflict() -> None:
    async def story() -> None:
        world = World()
        await world.boot()
        await world.endpoints.create(ADMIN, CreateEndpoint(name="a", config=config(["1"])))
        await asyncio.sleep(10)
        await world.endpoints.update_config(ADMIN, "a", config(["3"]))

        with pytest.raises(ApiError) as refusal:
            await world.endpoints.update_config(ADMIN, "a", config(["2"]))
        assert (refusal.value.status, refusal.value.error_code) == (409, "RESOURCE_CONFLICT")
        await world.reconciler.close()

    run(story())


def test_an_alias_that_moves_is_rolled_out_once_and_a_bad_version_is_not_tried_again() -> None:
    async def story() -> None:
        world = World()
        await world.boot()
        wish = config(["1"])
        assert wish.served_entities is not None
        wish.served_entities[0].entity_version = "@champion"
        await world.endpoints.create(ADMIN, CreateEndpoint(name="a", config=wish))
        await asyncio.sleep(10)
        assert (await world.invoke("a")).version == "1"

        async def follow() -> bool:
            record = world.reconciler.record("a")
            assert record is not None
            return await world.endpoints.follow(record)

        world.registry.aliases["champion"] = "2"
        assert await follow()
        await asyncio.sleep(10)
        assert (await world.invoke("a")).version == "2"
        assert not await follow()
        shown = await world.endpoints.get(ADMIN, "a")
        assert shown.config is not None
        (entity,) = shown.config.served_entities
        assert entity.entity_version == "@champion"
        assert "version 2" in entity.state.deployment_state_message

        world.registry.aliases["champion"] = "4"
        assert await follow()
        await asyncio.sleep(10)
        assert (await world.invoke("a")).version == "2"
        assert not await follow()
        kinds = [event.kind for event in await world.store.events("a")]
        assert kinds.count("alias_moved") == 2
        await world.reconciler.close()

    run(story())
