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
        self.coming = False
        #: Seconds that waking took; None: it failed.
        self.woken: list[float | None] = []

    def replicas_changed(
        self, deployment: str, addresses: Mapping[str, str], *, coming: bool
    ) -> None:
        self.addresses.append((asyncio.get_running_loop().time(), sorted(addresses)))
        self.coming = coming

    def phase_changed(self, deployment: str) -> None: ...

    def happened(self, deployment: str, kind: str, message: str) -> None:
        self.events.append(kind)

    def woke(self, deployment: str, seconds: float) -> None:
        self.woken.append(seconds)

    def not_woken(self, deployment: str, message: str) -> None:
        self.woken.append(None)


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


def test_a_replica_that_has_lived_for_a_while_is_started_again_at_once() -> None:
    async def story() -> None:
        runtime, diary = SimRuntime(), Diary()
        group = ReplicaSet(spec(), 1, runtime, diary)
        for _ in range(6):
            await asyncio.sleep(20)  # starts take three
            next(iter(runtime.replicas.values())).kill("gone")
        await asyncio.sleep(20)
        gaps = [
            after[0] - before[0]
            for before, after in itertools.pairwise(diary.addresses)
            if not before[1]
        ]
        assert [round(gap, 3) for gap in gaps] == [3.0] * 6
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


def test_more_are_started_and_the_youngest_go_again() -> None:
    async def story() -> None:
        runtime, diary = SimRuntime(), Diary()
        group = ReplicaSet(spec(), 1, runtime, diary)
        await asyncio.sleep(10)
        group.scale(3)
        await asyncio.sleep(5)
        assert list(group.live) == ["r1", "r2", "r3"]

        group.scale(1)
        assert list(group.live) == ["r1"]
        assert diary.addresses[-1][1] == ["r1"]
        await asyncio.sleep(1)
        assert [replica.id for replica in runtime.replicas.values()] == ["r1"]
        assert diary.events == []
        await group.close()

    run(story())


def test_one_that_goes_is_stopped_once_it_holds_nothing() -> None:
    async def story() -> None:
        runtime = SimRuntime()
        held = {"r2": 1}
        group = ReplicaSet(
            spec(), 2, runtime, Diary(), held=lambda replica: held.get(replica, 0), drain=60
        )
        await asyncio.sleep(10)
        group.scale(1)
        await asyncio.sleep(30)
        assert len(runtime.replicas) == 2
        del held["r2"]
        await asyncio.sleep(1)
        assert len(runtime.replicas) == 1

        # One that never lets go is stopped when its time is over.
        group.scale(2)
        await asyncio.sleep(10)
        held["r3"] = 1
        group.scale(1)
        await asyncio.sleep(59)
        assert len(runtime.replicas) == 2
        await asyncio.sleep(2)
        assert len(runtime.replicas) == 1
        await group.close()
        assert not runtime.replicas

    run(story())


def test_a_start_that_is_not_wanted_any_more_is_broken_off() -> None:
    async def story() -> None:
        runtime = SimRuntime()
        group = ReplicaSet(spec(), 1, runtime, Diary())
        await asyncio.sleep(10)
        group.scale(4)
        await asyncio.sleep(1)
        group.scale(2)
        await asyncio.sleep(10)
        assert len(group.live) == len(runtime.replicas) == 2
        assert "r1" in group.live
        await group.close()

    run(story())


def phase(group: ReplicaSet) -> Phase:
    return group.observed.phase


def coming(diary: Diary) -> bool:
    return diary.coming


def test_at_zero_it_is_ready_and_wakes() -> None:
    async def story() -> None:
        runtime, diary = SimRuntime(), Diary()
        group = ReplicaSet(spec(), 1, runtime, diary)
        await asyncio.sleep(10)
        group.scale(0)
        await asyncio.sleep(1)
        assert not runtime.replicas
        assert phase(group) is Phase.READY
        assert group.at_zero
        assert not coming(diary)

        group.scale(2)
        assert coming(diary)
        assert phase(group) is Phase.READY
        await asyncio.sleep(5)
        assert diary.woken == [3.0]
        assert not coming(diary)
        assert len(group.live) == 2
        await group.close()

    run(story())


def test_one_that_does_not_wake_is_told_and_goes_on_trying() -> None:
    async def story() -> None:
        runtime, diary = SimRuntime(), Diary()
        group = ReplicaSet(spec(), 1, runtime, diary)
        await asyncio.sleep(10)
        group.scale(0)
        runtime.broken = True
        group.scale(1)
        await asyncio.sleep(1.5)
        assert diary.woken == [None]
        assert not coming(diary)
        assert phase(group) is Phase.RECOVERING
        assert "disk is full" in group.observed.message

        before = runtime.starts
        await asyncio.sleep(60)
        assert 2 <= runtime.starts - before <= 6  # with the back-off
        runtime.broken = False
        await asyncio.sleep(60)
        assert phase(group) is Phase.READY
        assert diary.woken == [None]
        await group.close()

    run(story())


def test_a_recycled_replica_goes_when_its_successor_is_ready() -> None:
    async def story() -> None:
        runtime, diary = SimRuntime(), Diary()
        group = ReplicaSet(spec(), 1, runtime, diary)
        await asyncio.sleep(10)
        assert not group.recycle("r1")  # it is new
        await asyncio.sleep(200)
        assert group.recycle("r1")
        assert not group.recycle("r1")
        await asyncio.sleep(1)
        assert list(group.live) == ["r1"]
        await asyncio.sleep(5)
        assert list(group.live) == ["r2"]
        assert len(runtime.replicas) == 1
        assert all(addresses for _, addresses in diary.addresses)
        await group.close()

    run(story())


def test_recycling_that_does_not_help_becomes_rare() -> None:
    async def story() -> None:
        group = ReplicaSet(spec(), 1, SimRuntime(), Diary())
        times = []
        for second in range(5000):
            await asyncio.sleep(1)
            if any([group.recycle(replica) for replica in group.live]):  # noqa: C419
                times.append(second)
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert gaps == sorted(gaps)
        assert len(gaps) < 8
        await group.close()

    run(story())


def test_a_replica_that_ran_out_of_memory_is_told_apart() -> None:
    async def story() -> None:
        runtime, diary = SimRuntime(), Diary()
        group = ReplicaSet(spec(), 1, runtime, diary)
        await asyncio.sleep(10)
        next(iter(runtime.replicas.values())).kill("out of memory: used more than 4 GB")
        await asyncio.sleep(10)
        assert diary.events == ["out_of_memory"]
        assert len(group.live) == 1
        await group.close()

    run(story())
