"""A replica set keeps its replicas, in virtual time."""

import asyncio
import itertools
from collections.abc import Mapping

from lakeport.control.replicas import ReplicaSet
from lakeport.control.rollout import Phase
from lakeport.runtimes.base import DeploymentSpec, StartFailed
from tests.unit.control.virtual_time import run
from tests.unit.control.world import SimReplica, SimRuntime


def spec(version: str = "1") -> DeploymentSpec:
    return DeploymentSpec(
        id="d",
        endpoint="a",
        entity="m",
        model_name="m",
        model_version=version,
        model_key="k",
        path=None,
        workload_type="CPU",
        concurrency=4,
    )


class Diary:
    """Writes down what a replica set tells, with the time."""

    def __init__(self) -> None:
        self.addresses: list[tuple[float, list[str]]] = []
        self.events: list[str] = []

    def replicas_changed(self, deployment: str, addresses: Mapping[str, str]) -> None:
        self.addresses.append((asyncio.get_running_loop().time(), sorted(addresses)))

    def phase_changed(self, deployment: str) -> None: ...

    def happened(self, deployment: str, kind: str, message: str) -> None:
        self.events.append(kind)


class Fragile(SimRuntime):
    """Every replica dies as soon as it is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.started_at: list[float] = []

    async def start(self, spec: DeploymentSpec, replica_id: str) -> SimReplica:
        self.started_at.append(asyncio.get_running_loop().time())
        replica = await super().start(spec, replica_id)
        asyncio.get_running_loop().call_soon(replica.kill, "crashed")
        return replica


def test_a_replica_that_dies_is_started_again() -> None:
    async def story() -> None:
        runtime, diary = SimRuntime(), Diary()
        group = ReplicaSet(spec(), 2, runtime, diary)
        await asyncio.sleep(10)
        assert group.observed.phase is Phase.READY
        assert len(group.live) == 2

        next(iter(runtime.replicas.values())).kill("killed by SIGKILL")
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        assert len(group.live) == 1
        assert group.observed.phase is Phase.READY
        assert "SIGKILL" in group.observed.message

        await asyncio.sleep(10)
        assert len(group.live) == 2
        assert group.observed.message == ""
        await group.close()
        assert not runtime.replicas

    run(story())


def test_the_back_off_doubles_from_one_second_to_sixty() -> None:
    async def story() -> None:
        runtime = Fragile()
        group = ReplicaSet(spec(), 1, runtime, Diary())
        await asyncio.sleep(400)
        starts = runtime.started_at
        pauses = [b - a - 3 for a, b in itertools.pairwise(starts)]
        assert [round(pause) for pause in pauses[:8]] == [1, 2, 4, 8, 16, 32, 60, 60]
        await group.close()

    run(story())


def test_a_replica_that_has_lived_a_minute_is_started_again_after_a_second() -> None:
    async def story() -> None:
        runtime, diary = SimRuntime(), Diary()
        group = ReplicaSet(spec(), 1, runtime, diary)
        for _ in range(3):
            await asyncio.sleep(100)
            next(iter(runtime.replicas.values())).kill("gone")
        gaps = [
            after[0] - before[0]
            for before, after in itertools.pairwise(diary.addresses)
            if not before[1]
        ]
        assert all(round(gap) == 4 for gap in gaps)  # one second of pause, three of start
        await group.close()

    run(story())


def test_a_first_start_that_fails_says_why_and_is_tried_again() -> None:
    async def story() -> None:
        runtime, diary = SimRuntime(), Diary()
        group = ReplicaSet(spec("4"), 1, runtime, diary)
        await asyncio.sleep(2)
        assert group.observed.phase is Phase.FAILED
        assert "ValueError" in group.observed.message
        await asyncio.sleep(20)
        assert diary.events.count("start_failed") > 2
        await group.close()

    run(story())


def test_a_model_that_cannot_be_prepared_says_why() -> None:
    class Unprepared(SimRuntime):
        async def prepare(self, spec: DeploymentSpec) -> None:
            raise StartFailed("no such wheel")

    async def story() -> None:
        group = ReplicaSet(spec(), 1, Unprepared(), Diary())
        await asyncio.sleep(1)
        assert group.observed.phase is Phase.FAILED
        assert group.observed.message == "no such wheel"
        await group.close()

    run(story())


def test_a_hung_replica_is_replaced_at_once() -> None:
    async def story() -> None:
        runtime, diary = SimRuntime(), Diary()
        group = ReplicaSet(spec(), 1, runtime, diary)
        await asyncio.sleep(10)
        (old,) = group.live

        group.replace(old)
        assert not group.live
        await asyncio.sleep(3.5)
        assert group.live
        assert old not in group.live
        assert diary.events == ["replica_hung"]
        await group.close()

    run(story())


def test_closing_while_a_replica_starts_leaves_none() -> None:
    async def story() -> None:
        runtime = SimRuntime()
        group = ReplicaSet(spec(), 3, runtime, Diary())
        await asyncio.sleep(2)
        await group.close()
        await asyncio.sleep(10)
        assert not runtime.replicas

    run(story())
