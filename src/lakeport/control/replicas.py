"""A deployment's replicas: started, counted, started again when they die."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from lakeport.control.rollout import Observed, Phase
from lakeport.runtimes.base import DeploymentSpec, Replica, Runtime, StartFailed

log = logging.getLogger(__name__)

#: Seconds before a replica is started again: 1, 2, 4 ... up to this.
MAX_BACKOFF = 60.0
#: A replica that lived so many times as long as its start took, or longer than `LEAST` seconds
#: where that is more, has shown that it can: when it ends, another starts at once.
PROVEN = 5.0
LEAST = 1.0
STOP_GRACE = 10.0
#: Seconds that a replica which is no longer wanted may take to answer what it holds.
DRAIN = 300.0
#: Seconds between looks at whether it still holds something.
POLL = 0.05
#: Seconds that a replica lives at least before it is recycled: at first, and at most. It doubles
#: where recycling does not help.
REST = 60.0
MAX_REST = 86_400.0
#: How the reason begins when a replica ran into the limit on its memory.
OUT_OF_MEMORY = "out of memory"


class Told(Protocol):
    """Where a replica set says what happened."""

    def replicas_changed(
        self, deployment: str, addresses: Mapping[str, str], *, coming: bool
    ) -> None:
        """These replicas can be reached now. `coming`: there is none, the first is on its way."""

    def phase_changed(self, deployment: str) -> None: ...

    def happened(self, deployment: str, kind: str, message: str) -> None:
        """For the endpoint's events."""

    def woke(self, deployment: str, seconds: float) -> None:
        """The first replica after a stay at zero is ready, `seconds` after it was asked for."""

    def not_woken(self, deployment: str, message: str) -> None:
        """The first replica after a stay at zero could not be started."""


@dataclass(eq=False)
class _Keeper:
    """Looks after one place for a replica."""

    task: asyncio.Task[None] | None = None
    #: While it is ready.
    replica: Replica | None = None
    ready_at: float = 0.0
    #: Done when there is to be another replica in its place.
    gone: asyncio.Future[None] | None = None
    #: The place that it is to take over, once its replica is ready.
    relieves: "_Keeper | None" = None


class ReplicaSet:
    """Keeps `count` replicas of one deployment running until it is closed."""

    def __init__(
        self,
        spec: DeploymentSpec,
        count: int,
        runtime: Runtime,
        told: Told,
        *,
        grace: float = STOP_GRACE,
        held: Callable[[str], int] = lambda replica: 0,
        drain: float = DRAIN,
    ) -> None:
        """`held` tells how many requests a replica holds; one that is not wanted any more is
        stopped when it holds none, or after `drain` seconds."""
        self.spec = spec
        #: Replicas that should run; see `scale`.
        self.count = count
        self._runtime = runtime
        self._told = told
        self._grace = grace
        self._held = held
        self._drain = drain
        self._live: dict[str, Replica] = {}
        self._keepers: list[_Keeper] = []
        #: Whether the model is prepared, so that replicas can start.
        self._prepared = False
        self._serial = 0
        self._was_ready = False
        #: Since when the first replica after a stay at zero is on its way.
        self._waking_since: float | None = None
        self._rest = REST
        self._failure = ""
        self._failed = False
        self._stopping: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name=f"deployment {spec.id}")

    @property
    def observed(self) -> Observed:
        if not self._was_ready:
            return Observed(Phase.FAILED if self._failed else Phase.STARTING, self._failure)
        ready = self._live or self.at_zero
        return Observed(Phase.READY if ready else Phase.RECOVERING, self._failure)

    @property
    def was_ready(self) -> bool:
        return self._was_ready

    @property
    def live(self) -> Mapping[str, Replica]:
        """Replicas that are ready, by id."""
        return self._live

    @property
    def at_zero(self) -> bool:
        """No replica answers because none was needed; one may be on its way."""
        return self.count == 0 or (self._waking_since is not None and not self._live)

    def scale(self, count: int) -> None:
        """Keep so many replicas from now on.

        Of those that are too many, the youngest get no new requests and are stopped once they hold
        none. After 0 nothing runs until the next call, which wakes the deployment.
        """
        if count == self.count:
            return
        if self.count == 0 and self._was_ready:
            self._waking_since = self._loop.time()
        elif count == 0:
            self._waking_since = None
        self.count = count
        if self._prepared:
            self._fit()
            self._publish()

    def recycle(self, replica_id: str) -> bool:
        """Start a replica in place of this one, which is stopped when the new one is ready.

        False when nothing is done: another takes the place of one already, or this one is new.
        """
        keeper = self._keeper_of(replica_id)
        if keeper is None or any(each.relieves for each in self._keepers):
            return False
        age = self._loop.time() - keeper.ready_at
        if age < self._rest:
            return False
        # One that gave no reason for longer than that leaks; the others are just large.
        self._rest = REST if age >= 2 * self._rest else min(MAX_REST, 2 * self._rest)
        self._keep(relieves=keeper)
        return True

    def replace(self, replica_id: str) -> None:
        """A replica hangs: take it out at once, let its other requests finish, start another."""
        keeper = self._keeper_of(replica_id)
        if keeper is None:
            return
        replica = self._live.pop(replica_id)
        keeper.replica = None
        self._told.happened(
            self.spec.id,
            "replica_hung",
            "A request ran into its time limit; the replica is replaced.",
        )
        self._publish()
        self._finish(replica.stop(grace=self._grace))
        if keeper.gone is not None:
            _settle(keeper.gone)

    async def close(self) -> None:
        """Stop every replica; returns when they are gone."""
        self._prepared = False
        tasks = [self._task, *(each.task for each in self._keepers if each.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._keepers.clear()
        replicas = list(self._live.values())
        self._live.clear()
        self._publish()
        self._drain = 0.0  # whoever drains has done so before
        await asyncio.gather(*(replica.stop(grace=self._grace) for replica in replicas))
        await asyncio.gather(*self._stopping, return_exceptions=True)

    # --- how many -----------------------------------------------------------------------------

    async def _run(self) -> None:
        failures = 0
        while not self._prepared:
            try:
                await self._runtime.prepare(self.spec)
                self._prepared = True
            except Exception as failure:  # noqa: BLE001 - see _note_failure
                self._note_failure(failure)
                failures = await self._back_off(failures)
        self._fit()

    def _fit(self) -> None:
        """Have as many keepers as replicas are wanted."""
        kept = [each for each in self._keepers if each.relieves is None]
        for _ in range(len(kept), self.count):
            self._keep()
        # The first to go are those that have no replica yet, then the youngest.
        kept.sort(key=lambda each: each.ready_at if each.replica else float("inf"))
        for keeper in kept[self.count :]:
            self._drop(keeper)

    def _keep(self, relieves: _Keeper | None = None) -> None:
        keeper = _Keeper(relieves=relieves)
        self._keepers.append(keeper)
        keeper.task = self._loop.create_task(self._keep_one(keeper), name=f"{self.spec.id} keeper")

    def _drop(self, keeper: _Keeper) -> None:
        """Give up a place, and what was to take it over."""
        self._keepers.remove(keeper)
        if keeper.task is not None:
            keeper.task.cancel()
            self._finish(keeper.task)  # a start that is broken off takes a moment
        if keeper.replica is not None:
            del self._live[keeper.replica.id]
            self._finish(self._see_off(keeper.replica))
        for other in [each for each in self._keepers if each.relieves is keeper]:
            self._drop(other)

    def _keeper_of(self, replica_id: str) -> _Keeper | None:
        return next((k for k in self._keepers if k.replica and k.replica.id == replica_id), None)

    # --- the life of one ----------------------------------------------------------------------

    async def _keep_one(self, keeper: _Keeper) -> None:
        failures = 0
        while True:
            self._serial += 1
            replica_id = f"r{self._serial}"
            began = self._loop.time()
            try:
                replica = await self._runtime.start(self.spec, replica_id)
            except Exception as failure:  # noqa: BLE001 - see _note_failure
                self._note_failure(failure)
                failures = await self._back_off(failures)
                continue
            keeper.ready_at = self._loop.time()
            gone = keeper.gone = self._loop.create_future()
            replica.exited.add_done_callback(partial(_settle, gone))
            keeper.replica = self._live[replica_id] = replica
            self._note_ready(keeper)
            await gone
            keeper.replica = None
            if self._live.pop(replica_id, None) is None:
                continue  # it was replaced: the next one starts while it ends
            self._note_end(replica.exited.result())
            took, lived = keeper.ready_at - began, self._loop.time() - keeper.ready_at
            if lived >= max(LEAST, PROVEN * took):
                failures = 0
            else:
                failures = await self._back_off(failures)

    async def _back_off(self, failures: int) -> int:
        await asyncio.sleep(min(MAX_BACKOFF, 2.0**failures))
        return min(failures + 1, 10)

    def _note_failure(self, failure: Exception) -> None:
        """Whatever went wrong, a runtime out of file descriptors included, the set goes on."""
        if isinstance(failure, StartFailed):
            message = str(failure)
        else:
            log.error("%s: a replica could not be started", self.spec.id, exc_info=failure)
            message = "A replica could not be started; the server's log says why."
        self._failure, self._failed = message, True
        self._told.happened(self.spec.id, "start_failed", message)
        if self.at_zero and self.count:
            self._waking_since = None
            self._publish()
            self._told.not_woken(self.spec.id, message)
        self._told.phase_changed(self.spec.id)

    def _note_ready(self, keeper: _Keeper) -> None:
        old, keeper.relieves = keeper.relieves, None
        if old is not None:
            self._drop(old)
        if len(self._live) >= self.count and not self._was_ready:
            self._was_ready = True
            self._failed = False
        if self._was_ready:
            self._failure = ""
        self._publish()
        if self._waking_since is not None:
            seconds, self._waking_since = self._loop.time() - self._waking_since, None
            self._told.woke(self.spec.id, seconds)

    def _note_end(self, reason: str) -> None:
        self._failure = f"A replica ended: {reason}."
        kind = "out_of_memory" if reason.startswith(OUT_OF_MEMORY) else "replica_ended"
        self._told.happened(self.spec.id, kind, self._failure)
        self._publish()

    def _publish(self) -> None:
        self._told.replicas_changed(
            self.spec.id,
            {id: replica.address for id, replica in self._live.items()},
            coming=self.at_zero and self.count > 0,
        )
        self._told.phase_changed(self.spec.id)

    # --- its end ------------------------------------------------------------------------------

    async def _see_off(self, replica: Replica) -> None:
        """Stop a replica that gets no new requests, once it holds none."""
        began, exited = self._loop.time(), replica.exited
        await asyncio.sleep(0)  # until it is known that it gets none
        while self._held(replica.id) and not exited.done():
            if self._loop.time() - began >= self._drain:
                log.warning("%s %s still holds requests, which are cut", self.spec.id, replica.id)
                break
            await asyncio.sleep(POLL)
        await replica.stop(grace=self._grace)

    def _finish(self, work: "Coroutine[None, None, None] | asyncio.Task[None]") -> None:
        """See to it that something ends, without a wait; `close` waits for it."""
        task = work if isinstance(work, asyncio.Task) else self._loop.create_task(work)
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)


def _settle(future: asyncio.Future[None], _: object = None) -> None:
    if not future.done():
        future.set_result(None)
