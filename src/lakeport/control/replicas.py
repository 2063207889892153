"""A deployment's replicas: started, counted, started again when they die."""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Protocol

from lakeport.control.rollout import Observed, Phase
from lakeport.runtimes.base import DeploymentSpec, Replica, Runtime, StartFailed

log = logging.getLogger(__name__)

#: Seconds before a replica is started again: 1, 2, 4 ... up to this.
MAX_BACKOFF = 60.0
#: A replica that lived this many seconds has shown that it can: the back-off starts anew.
PROVEN = 60.0
STOP_GRACE = 10.0


class Told(Protocol):
    """Where a replica set says what happened."""

    def replicas_changed(self, deployment: str, addresses: Mapping[str, str]) -> None:
        """These replicas can be reached now."""

    def phase_changed(self, deployment: str) -> None: ...

    def happened(self, deployment: str, kind: str, message: str) -> None:
        """For the endpoint's events."""


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
    ) -> None:
        self.spec = spec
        self.count = count
        self._runtime = runtime
        self._told = told
        self._grace = grace
        self._live: dict[str, Replica] = {}
        #: Done, by replica id, when its keeper should look after a new one.
        self._gone: dict[str, asyncio.Future[None]] = {}
        self._serial = 0
        self._was_ready = False
        self._failure = ""
        self._failed = False
        self._stopping: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name=f"deployment {spec.id}")

    @property
    def observed(self) -> Observed:
        if not self._was_ready:
            return Observed(Phase.FAILED if self._failed else Phase.STARTING, self._failure)
        return Observed(Phase.READY if self._live else Phase.RECOVERING, self._failure)

    @property
    def was_ready(self) -> bool:
        return self._was_ready

    @property
    def live(self) -> Mapping[str, Replica]:
        """Replicas that are ready, by id."""
        return self._live

    def replace(self, replica_id: str) -> None:
        """A replica hangs: take it out at once, let its other requests finish, start another."""
        replica = self._live.pop(replica_id, None)
        if replica is None:
            return
        self._told.happened(
            self.spec.id,
            "replica_hung",
            "A request ran into its time limit; the replica is replaced.",
        )
        self._publish()
        self._stop_soon(replica)
        _settle(self._gone[replica_id])

    async def close(self) -> None:
        """Stop every replica; returns when they are gone."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        replicas = list(self._live.values())
        self._live.clear()
        self._publish()
        await asyncio.gather(*(replica.stop(grace=self._grace) for replica in replicas))
        await asyncio.gather(*self._stopping)

    # --- the life of it ---------------------------------------------------------------------

    async def _run(self) -> None:
        await self._prepare()
        async with asyncio.TaskGroup() as group:
            for position in range(self.count):
                group.create_task(self._keep_one(), name=f"{self.spec.id} #{position}")

    async def _prepare(self) -> None:
        failures = 0
        while True:
            try:
                await self._runtime.prepare(self.spec)
                return
            except Exception as failure:  # noqa: BLE001 - see _note_failure
                self._note_failure(failure)
                failures = await self._back_off(failures)

    async def _keep_one(self) -> None:
        failures = 0
        while True:
            self._serial += 1
            replica_id = f"r{self._serial}"
            try:
                replica = await self._runtime.start(self.spec, replica_id)
            except Exception as failure:  # noqa: BLE001 - see _note_failure
                self._note_failure(failure)
                failures = await self._back_off(failures)
                continue
            ready_at = self._loop.time()
            gone = self._gone[replica_id] = self._loop.create_future()
            replica.exited.add_done_callback(partial(_settle, gone))
            self._live[replica_id] = replica
            self._note_ready()
            try:
                await gone
            finally:
                del self._gone[replica_id]
            if self._live.pop(replica_id, None) is None:
                continue  # it was replaced: the next one starts while it ends
            self._failure = f"A replica ended: {replica.exited.result()}."
            self._told.happened(self.spec.id, "replica_ended", self._failure)
            self._publish()
            if self._loop.time() - ready_at >= PROVEN:
                failures = 0
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
        self._told.phase_changed(self.spec.id)

    def _note_ready(self) -> None:
        if len(self._live) >= self.count and not self._was_ready:
            self._was_ready = True
            self._failed = False
        if self._was_ready:
            self._failure = ""
        self._publish()

    def _publish(self) -> None:
        self._told.replicas_changed(
            self.spec.id, {id: replica.address for id, replica in self._live.items()}
        )
        self._told.phase_changed(self.spec.id)

    def _stop_soon(self, replica: Replica) -> None:
        task = self._loop.create_task(replica.stop(grace=self._grace))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)


def _settle(future: asyncio.Future[None], _: object = None) -> None:
    if not future.done():
        future.set_result(None)
