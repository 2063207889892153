"""What happens to a change while others get in between, in virtual time."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from lakeport.auth.callers import Caller
from lakeport.control import reading
from lakeport.control.endpoints import Endpoints
from lakeport.control.validation import WishedEntity
from lakeport.errors import ApiError, NotFound
from lakeport.models.base import ModelVersion, RegistryUnavailable
from lakeport.runtimes.base import DeploymentSpec, ModelInterface
from lakeport.stores.records import ConfigUpdate, EndpointRecord, EventRecord, RouteRecord
from lakeport.wire.endpoints import CoreConfigInput, CreateEndpoint
from lakeport.wire.permissions import AccessControlRequest, PermissionsRequest
from tests.unit.control.virtual_time import run
from tests.unit.control.world import ADMIN, SimRegistry, World

ANN = Caller("2", "ann")
BOB = Caller("3", "bob")


class HeldRegistry(SimRegistry):
    """Answers when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.free = asyncio.Event()
        self.free.set()
        self.down = False

    async def resolve(self, name: str, version: str) -> ModelVersion:
        if self.down:
            raise RegistryUnavailable("The model registry does not answer.")
        found = await super().resolve(name, version)
        await self.free.wait()
        return found


async def a_world() -> tuple[World, HeldRegistry]:
    world, registry = World(), HeldRegistry()
    world.registry = registry
    await world.boot()
    return world, registry


def config(*versions: str, shares: Sequence[int] = (100,)) -> CoreConfigInput:
    return CoreConfigInput.model_validate(
        {
            "served_entities": [
                {"name": f"m{n}", "entity_name": "m", "entity_version": version}
                for n, version in enumerate(versions)
            ],
            "traffic_config": {
                "routes": [
                    {"served_entity_name": f"m{n}", "traffic_percentage": share}
                    for n, share in enumerate(shares)
                ]
            },
        }
    )


async def a_world_that_serves(
    wish: CoreConfigInput, creator: Caller = ADMIN
) -> tuple[World, HeldRegistry]:
    """Its endpoint "a" does."""
    world, registry = await a_world()
    await world.endpoints.create(creator, CreateEndpoint(name="a", config=wish))
    await asyncio.sleep(10)
    return world, registry


def record_of(world: World, name: str) -> EndpointRecord:
    record = world.reconciler.record(name)
    assert record is not None
    return record


def test_an_update_that_waited_never_reaches_another_endpoint_of_that_name() -> None:
    async def story() -> None:
        world, registry = await a_world_that_serves(config("1"), ANN)
        registry.free.clear()
        waiting = asyncio.create_task(world.endpoints.update_config(ANN, "a", config("2")))
        await asyncio.sleep(1)
        await world.endpoints.delete(ADMIN, "a")
        await world.endpoints.create(BOB, CreateEndpoint(name="a"))
        registry.free.set()

        with pytest.raises(ApiError) as refusal:
            await waiting
        assert refusal.value.error_code == "RESOURCE_DOES_NOT_EXIST"
        assert record_of(world, "a").pending is None
        await world.reconciler.close()

    run(story())


def test_an_update_that_waited_is_refused_once_the_right_to_it_is_gone() -> None:
    async def story() -> None:
        world, registry = await a_world_that_serves(config("1"), ANN)
        registry.free.clear()
        waiting = asyncio.create_task(world.endpoints.update_config(ANN, "a", config("2")))
        await asyncio.sleep(1)
        view = AccessControlRequest(user_name="ann", permission_level="CAN_VIEW")
        await world.endpoints.set_permissions(
            ADMIN, record_of(world, "a").id, PermissionsRequest(access_control_list=[view])
        )
        registry.free.set()

        with pytest.raises(ApiError) as refusal:
            await waiting
        assert refusal.value.error_code == "PERMISSION_DENIED"
        assert record_of(world, "a").update is ConfigUpdate.NOT_UPDATING
        await world.reconciler.close()

    run(story())


def test_an_alias_never_brings_back_a_config_that_was_changed_while_it_was_looked_up() -> None:
    async def story() -> None:
        both = config("@champion", "2", shares=(50, 50))
        world, registry = await a_world_that_serves(both)
        registry.aliases["champion"] = "2"
        registry.free.clear()
        following = asyncio.create_task(world.endpoints.follow(record_of(world, "a")))
        await asyncio.sleep(1)
        # A registry that answers others meanwhile; a change of traffic serves at once.
        was = record_of(world, "a").active
        assert was is not None
        shifted = replace(was, version=9, routes=(RouteRecord("m0", 0), RouteRecord("m1", 100)))
        moved = await world.reconciler.move("a", lambda r: replace(r, active=shifted))
        assert moved is not None
        registry.free.set()

        with pytest.raises(ApiError) as refusal:
            await following
        assert refusal.value.error_code == "RESOURCE_CONFLICT"
        assert record_of(world, "a").active == moved.active
        assert await world.endpoints.follow(record_of(world, "a"))
        await asyncio.sleep(10)
        active = record_of(world, "a").active
        assert active is not None
        assert [route.percentage for route in active.routes] == [0, 100]
        assert active.entities[0].resolved_version == "2"
        await world.reconciler.close()

    run(story())


def test_an_alias_that_moves_back_ends_the_failure_of_what_was_tried() -> None:
    async def story() -> None:
        world, registry = await a_world_that_serves(config("@champion"))
        for _ in range(2):  # a bad version is tried again once the alias has moved on
            registry.aliases["champion"] = "4"
            assert await world.endpoints.follow(record_of(world, "a"))
            await asyncio.sleep(10)
            assert record_of(world, "a").update is ConfigUpdate.UPDATE_FAILED
            assert not await world.endpoints.follow(record_of(world, "a"))

            registry.aliases["champion"] = "1"
            starts = world.runtime.starts
            assert await world.endpoints.follow(record_of(world, "a"))
            await asyncio.sleep(1)
            assert record_of(world, "a").update is ConfigUpdate.NOT_UPDATING
            assert world.runtime.starts == starts
            assert not await world.endpoints.follow(record_of(world, "a"))
        await world.reconciler.close()

    run(story())


def test_an_alias_leaves_a_callers_failed_update_to_be_read() -> None:
    async def story() -> None:
        world, _ = await a_world_that_serves(config("@champion"))
        await world.endpoints.update_config(ADMIN, "a", config("4"))
        await asyncio.sleep(10)

        assert not await world.endpoints.follow(record_of(world, "a"))
        assert record_of(world, "a").update is ConfigUpdate.UPDATE_FAILED
        await world.reconciler.close()

    run(story())


def test_a_missing_version_is_named_where_it_stands_in_the_request() -> None:
    async def story() -> None:
        world, _ = await a_world()
        wish = config("99", "1", shares=(50, 50))
        assert wish.served_entities is not None
        wish.served_entities[0].name = "z"  # configs are sorted by name
        assert wish.traffic_config is not None
        assert wish.traffic_config.routes is not None
        wish.traffic_config.routes[0].served_entity_name = "z"

        with pytest.raises(ApiError) as refusal:
            await world.endpoints.create(ADMIN, CreateEndpoint(name="a", config=wish))
        assert refusal.value.message.startswith("config.served_entities[0]: ")
        assert "99" in refusal.value.message
        await world.reconciler.close()

    run(story())


def test_traffic_can_be_shifted_while_the_registry_cannot_be_reached() -> None:
    async def story() -> None:
        world, registry = await a_world_that_serves(config("1", "2", shares=(100, 0)))
        registry.down = True
        starts = world.runtime.starts
        await world.endpoints.update_config(ADMIN, "a", config("1", "2", shares=(0, 100)))
        await asyncio.sleep(1)
        assert (await world.invoke("a")).version == "2"
        assert world.runtime.starts == starts

        with pytest.raises(ApiError) as refusal:
            await world.endpoints.update_config(ADMIN, "a", config("3"))
        assert refusal.value.status == 503
        await world.reconciler.close()

    run(story())


# --- events -------------------------------------------------------------------------------------


def test_events_of_others_do_not_hide_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "EVENTS_READ", 3)

    async def story() -> None:
        world, _ = await a_world()
        await world.endpoints.create(BOB, CreateEndpoint(name="a"))
        await asyncio.sleep(1)
        for _ in range(10):
            await world.store.add_event(EventRecord(1_000, "a", "noise", "..."))
        await world.endpoints.create(ANN, CreateEndpoint(name="b"))
        await asyncio.sleep(1)
        await world.store.add_event(EventRecord(2_000, "b", "second", "..."))

        first = await world.endpoints.events(ANN, None, after=0, limit=1)
        rest = await world.endpoints.events(ANN, None, after=first[0].id, limit=5)
        assert [event.kind for event in [*first, *rest]] == ["created", "second"]
        assert await world.endpoints.events(ANN, None, after=rest[-1].id, limit=5) == []
        for limit in (1, 2, 5):
            newest = await world.endpoints.events(ANN, None, after=0, limit=limit, newest=True)
            assert list(newest) == [*first, *rest][-limit:]
        chosen = await world.endpoints.events(ANN, None, after=0, limit=5, kinds={"second"})
        assert list(chosen) == list(rest)
        await world.reconciler.close()

    run(story())


def test_events_of_an_earlier_endpoint_of_that_name_are_not_shown() -> None:
    async def story() -> None:
        world, _ = await a_world()
        await world.endpoints.create(BOB, CreateEndpoint(name="a"))
        await asyncio.sleep(1)
        await world.endpoints.delete(BOB, "a")
        await asyncio.sleep(1)
        await world.endpoints.create(ANN, CreateEndpoint(name="a"))
        await asyncio.sleep(1)

        shown = await world.endpoints.events(ANN, "a", after=0, limit=100)
        assert [(event.kind, event.actor) for event in shown] == [("created", "ann")]
        everything = await world.endpoints.events(ADMIN, "a", after=0, limit=100)
        assert [event.kind for event in everything] == ["created", "deleted", "created"]
        await world.endpoints.delete(ANN, "a")
        gone = await world.endpoints.events(ADMIN, "a", after=everything[-1].id, limit=100)
        assert [(event.kind, event.actor) for event in gone] == [("deleted", "ann")]
        for caller, name in ((ANN, "a"), (ADMIN, "never")):
            with pytest.raises(NotFound):
                await world.endpoints.events(caller, name, after=0, limit=1)
        await world.reconciler.close()

    run(story())


# --- the schema ---------------------------------------------------------------------------------


def test_a_schema_that_is_not_known_yet_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        world, _ = await a_world_that_serves(config("1"))

        with pytest.raises(ApiError) as refusal:  # this world's runtime never knows one
            await world.endpoints.openapi(ADMIN, "a", "http://h")
        assert refusal.value.status == 503

        def unsigned(spec: DeploymentSpec) -> ModelInterface:
            return ModelInterface(None, None, None, None)

        monkeypatch.setattr(world.runtime, "signature", unsigned)
        with pytest.raises(ApiError) as refusal:
            await world.endpoints.openapi(ADMIN, "a", "http://h")
        assert refusal.value.status == 404
        await world.reconciler.close()

    run(story())


# --- `--model` ----------------------------------------------------------------------------------


def flag(version: str) -> WishedEntity:
    return WishedEntity(
        name="a",
        entity_name="m",
        entity_version=version,
        workload_type="CPU",
        workload_size="Small",
        min_concurrency=None,
        max_concurrency=None,
        scale_to_zero=False,
        environment={},
    )


async def ask_for(endpoints: Endpoints, version: str) -> None:
    await endpoints.ensure(ADMIN, name="a", wish=flag(version), path=None)


@pytest.mark.parametrize("before", ["5", "3", "4", "1"], ids=["hangs", "slow", "fails", "serves"])
def test_the_flags_next_version_takes_the_place_of_whatever_the_last_one_did(before: str) -> None:
    async def story() -> None:
        world, _ = await a_world()
        await ask_for(world.endpoints, before)
        await asyncio.sleep(20)
        await world.crash()
        await world.boot()
        await ask_for(world.endpoints, "2")
        await asyncio.sleep(20)

        assert (await world.invoke("a")).version == "2"
        record = record_of(world, "a")
        assert record.update is ConfigUpdate.NOT_UPDATING
        assert [replica.version for replica in world.runtime.replicas.values()] == ["2"]
        await world.reconciler.close()

    run(story())


def test_the_flags_next_version_starts_an_endpoint_that_was_stopped() -> None:
    async def story() -> None:
        world, _ = await a_world()
        await ask_for(world.endpoints, "1")
        await asyncio.sleep(10)
        await world.endpoints.stop(ADMIN, "a")
        await world.crash()
        await world.boot()
        await ask_for(world.endpoints, "1")
        assert record_of(world, "a").stopped  # the same as before: no change

        await ask_for(world.endpoints, "2")
        await asyncio.sleep(20)
        assert (await world.invoke("a")).version == "2"
        await world.reconciler.close()

    run(story())


def test_a_flag_whose_model_failed_is_tried_again_at_the_next_start() -> None:
    async def story() -> None:
        world, _ = await a_world()
        await ask_for(world.endpoints, "4")
        await asyncio.sleep(20)
        assert record_of(world, "a").update is ConfigUpdate.UPDATE_FAILED
        await world.crash()
        await world.boot()

        await ask_for(world.endpoints, "4")
        assert record_of(world, "a").update is ConfigUpdate.IN_PROGRESS
        await world.reconciler.close()

    run(story())


def test_a_rollout_that_is_superseded_as_it_ends_promotes_nothing_unready() -> None:
    async def story(wait: float) -> None:
        world, _ = await a_world()
        await ask_for(world.endpoints, "1")  # ready after 3.5 seconds
        await asyncio.sleep(wait)
        await ask_for(world.endpoints, "3")  # it takes a minute to start
        await asyncio.sleep(10)
        assert record_of(world, "a").update is ConfigUpdate.IN_PROGRESS
        await asyncio.sleep(100)
        assert (await world.invoke("a")).version == "3"
        await world.reconciler.close()

    for hundredth in range(340, 360):
        run(story(hundredth / 100))
