"""A small world in virtual time: a store that takes a while, a runtime and a connector of fakes.

The fakes keep the contracts of `stores.base` and `runtimes.base`; what a model does is told by its
version number (`BEHAVIOUR`).
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lakeport.auth.callers import Caller
from lakeport.control.chat_entities import Known
from lakeport.control.endpoints import Endpoints
from lakeport.control.reconciler import Reconciler
from lakeport.control.scaling import Scaler, Scaling
from lakeport.errors import ApiError
from lakeport.models.base import ModelNotFound, ModelVersion
from lakeport.runtimes.base import (
    Answer,
    Call,
    DeploymentSpec,
    ModelInterface,
    ReplicaLost,
    StartFailed,
    Taken,
    Usage,
)
from lakeport.serving.deployment import QueueLimits
from lakeport.serving.invoke import Front
from lakeport.serving.ports import Invocation, Reply
from lakeport.stores.memory import MemoryStore
from lakeport.stores.records import EndpointRecord, EventRecord
from lakeport.telemetry.metrics import Metrics

ADMIN = Caller("1", "admin", frozenset({"admins"}))
START_TIMEOUT = 100.0
#: Model version: what its replicas do.
BEHAVIOUR = {
    "1": "good",
    "2": "good",
    "3": "slow",  # takes a minute to start
    "4": "raises",
    "5": "hangs",  # never becomes ready
    "6": "dies",  # while it loads
}


class PlainVault:
    """A vault that marks what it was given, so that tests see what went through it."""

    async def reveal(self, reference: str) -> str:
        return reference.removeprefix("sealed:")

    def seal(self, value: str) -> str:
        return f"sealed:{value[::-1]}"

    def check(self, caller: Caller, reference: str, at: str) -> None: ...


@dataclass(eq=False)
class SimReplica:
    id: str
    address: str
    version: str
    exited: "asyncio.Future[str]"
    links: "list[SimLink]" = field(default_factory=list)
    #: Whether it uses more memory than it should.
    bloated: bool = False
    #: How long it takes to answer.
    seconds: float = 0.1

    def usage(self) -> Usage | None:
        return Usage(1.0, 100, 1000, recycle=self.bloated)

    def kill(self, reason: str) -> None:
        if not self.exited.done():
            self.exited.set_result(reason)
            for link in self.links:
                link.lose()

    async def stop(self, *, grace: float) -> None:
        await asyncio.sleep(0.1)
        self.kill("stopped")


class SimRuntime:
    def __init__(self) -> None:
        self.replicas: dict[str, SimReplica] = {}
        self.forgotten: list[str] = []
        self.starts = 0
        #: Nothing starts while it is.
        self.broken = False

    async def open(self) -> None: ...

    async def close(self) -> None:
        for replica in list(self.replicas.values()):
            replica.kill("closed")

    async def prepare(self, spec: DeploymentSpec) -> None:
        await asyncio.sleep(0.5)

    async def start(self, spec: DeploymentSpec, replica_id: str) -> SimReplica:
        self.starts += 1
        if self.broken:
            await asyncio.sleep(1)
            raise StartFailed("the disk is full")
        match BEHAVIOUR[spec.model_version]:
            case "good":
                await asyncio.sleep(3)
            case "slow":
                await asyncio.sleep(60)
            case "raises":
                await asyncio.sleep(1)
                raise StartFailed("the model raised ValueError")
            case "dies":
                await asyncio.sleep(1)
                raise StartFailed("the worker was killed while it loaded")
            case "hangs":
                await asyncio.sleep(START_TIMEOUT)
                raise StartFailed("did not become ready")
        address = f"{spec.id}/{replica_id}"
        replica = SimReplica(
            replica_id, address, spec.model_version, asyncio.get_running_loop().create_future()
        )
        self.replicas[address] = replica
        replica.exited.add_done_callback(lambda _: self.replicas.pop(address, None))
        return replica

    def logs(self, deployment_id: str) -> str:
        return ""

    def build_logs(self, deployment_id: str) -> str:
        return ""

    def forget(self, deployment_id: str) -> None:
        self.forgotten.append(deployment_id)

    def signature(self, spec: DeploymentSpec) -> ModelInterface | None:
        return None


class SimLink:
    """Answers with its replica's model version after the time that this one takes."""

    credit = 2

    def __init__(self, replica: SimReplica) -> None:
        self.replica = replica
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held: set[SimSent] = set()
        replica.links.append(self)

    @property
    def outstanding(self) -> int:
        return len(self._held)

    def send(self, call: Call, taken: Taken) -> "SimSent":
        sent = SimSent(self, taken)
        if self.lost.done():
            taken(ReplicaLost("gone"))
            return sent
        self._held.add(sent)
        answer = Answer(200, self.replica.version.encode())
        asyncio.get_running_loop().call_later(self.replica.seconds, sent.give, answer)
        return sent

    def drop(self, sent: "SimSent") -> bool:
        """Whether it was held until now."""
        held = sent in self._held
        self._held.discard(sent)
        return held

    def lose(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        for sent in list(self._held):
            sent.give(ReplicaLost("died"))

    close = lose


class SimSent:
    """A call that a link holds."""

    def __init__(self, link: SimLink, taken: Taken) -> None:
        self._link = link
        self._taken = taken

    def give(self, result: Answer | ReplicaLost) -> None:
        if self._link.drop(self):
            self._taken(result)

    def cancel(self) -> bool:
        self._link.drop(self)
        return False


class SimConnector:
    def __init__(self, runtime: SimRuntime) -> None:
        self._runtime = runtime

    async def connect(self, address: str) -> SimLink:
        await asyncio.sleep(0.01)
        replica = self._runtime.replicas.get(address)
        if replica is None:
            raise ReplicaLost("nobody there")
        return SimLink(replica)


class SlowStore(MemoryStore):
    """Every write takes a while before and after it is durable, so that a crash can hit both."""

    async def insert_endpoint(self, record: EndpointRecord) -> EndpointRecord:
        await asyncio.sleep(0.01)
        stored = await super().insert_endpoint(record)
        await asyncio.sleep(0.01)
        return stored

    async def save_endpoint(self, record: EndpointRecord, *events: EventRecord) -> EndpointRecord:
        await asyncio.sleep(0.01)
        stored = await super().save_endpoint(record, *events)
        await asyncio.sleep(0.01)
        return stored

    async def delete_endpoint(self, id: str, *events: EventRecord) -> None:
        await asyncio.sleep(0.01)
        await super().delete_endpoint(id, *events)
        await asyncio.sleep(0.01)


class SimRegistry:
    running = True

    def __init__(self) -> None:
        self.aliases = {"champion": "1"}

    async def resolve(self, name: str, version: str) -> ModelVersion:
        number = self.aliases.get(version[1:]) if version.startswith("@") else version
        if number not in BEHAVIOUR:
            raise ModelNotFound(f"Model '{name}' has no version {version}")
        return ModelVersion(name, number, f"{name}-{number}")

    async def fetch(self, model: ModelVersion, into: object, log: Callable[[str], None]) -> None:
        raise NotImplementedError


@dataclass
class Probe:
    """One request and what became of it."""

    endpoint: str
    began: float
    ended: float
    #: The version that answered, or the status that refused.
    version: str | None
    status: int


class World:
    """A server's inner half, that can crash and start again on the same store.

    It scales where `scaling` is given.
    """

    def __init__(self, scaling: Scaling | None = None) -> None:
        self._scaling = scaling
        self._background: asyncio.Task[None] | None = None
        self.store = SlowStore()
        self.registry = SimRegistry()
        self._ids = itertools.count()
        self.kills: list[float] = []

    async def boot(self) -> None:
        loop = asyncio.get_running_loop()
        self.runtime = SimRuntime()
        self.metrics = Metrics(clock=loop.time)
        self.front = Front(
            SimConnector(self.runtime),
            QueueLimits(requests=1024, bytes=1 << 26, ready_wait=10, timeout=297),
            self.metrics,
            draw=itertools.cycle([i / 10 for i in range(10)]).__next__,
            clock=loop.time,
        )
        self.reconciler = Reconciler(
            self.store,
            self.runtime,
            self.front,
            now_ms=lambda: int(loop.time() * 1000),
            drain_timeout=297,
        )
        self.front.on_hung = self.reconciler.hung
        self.endpoints = Endpoints(
            reconciler=self.reconciler,
            store=self.store,
            runtime=self.runtime,
            registry=self.registry,
            metrics=self.metrics,
            now_ms=lambda: int(loop.time() * 1000),
            max_entities=15,
            max_endpoints=1000,
            known=Known({}, max_tokens=1024),
            vault=PlainVault(),
        )
        await self.reconciler.open()
        if self._scaling is not None:
            scaler = Scaler(self.reconciler, self.front.load, self._scaling)
            self.front.on_waiting = scaler.waiting
            self.reconciler.on_moved = scaler.poke
            self.reconciler.on_woke = self.metrics.cold_start
            self._background = loop.create_task(scaler.run())

    async def close(self) -> None:
        if self._background is not None:
            self._background.cancel()
        await self.reconciler.close()

    async def crash(self, others: Sequence["asyncio.Task[object]"] = ()) -> None:
        """kill -9: no task of the server runs on, no replica outlives it."""
        mine = asyncio.current_task()
        keep = {mine, *others}
        doomed = [task for task in asyncio.all_tasks() if task not in keep]
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)
        await self.runtime.close()
        self.kills.append(asyncio.get_running_loop().time())

    async def invoke(self, name: str) -> Probe:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            reply = await self.front.invoke(
                ADMIN, Invocation(name, None, b"{}", "application/json", None, "r")
            )
        except ApiError as error:
            return Probe(name, began, loop.time(), None, error.status)
        assert isinstance(reply, Reply)
        return Probe(name, began, loop.time(), reply.body.decode(), 200)
