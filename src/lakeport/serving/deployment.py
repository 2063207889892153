"""The front's side of one served entity: a bounded queue and links to its replicas.

A call goes to the replica with the fewest requests outstanding, as long as one has credit; the
others wait in order. Nothing here runs per request but a few dictionary and integer operations:
deadlines are looked after by one timer a deployment, which runs only while something is under way.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lakeport.errors import DeadlineExceeded, TooManyRequests, Unavailable
from lakeport.runtimes.base import Answer, Call, Connector, Link, ReplicaLost, Stream

log = logging.getLogger(__name__)

TIMED_OUT = "Request processing time exceeded limit of {limit:g} seconds."
#: How often deadlines are looked at, in seconds.
TICK = 0.25
#: Links on the OpenAI wire end a call at its deadline themselves, without blame for the replica,
#: which may hold many others. This many seconds later the link has failed, and with it the replica.
LATE = 2.0
#: Seconds between two attempts to reach a replica: at first, and at most.
_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class QueueLimits:
    requests: int
    #: Of bodies, in bytes.
    bytes: int
    #: Seconds that a call waits while there is no replica at all.
    ready_wait: float
    #: Seconds from a call's arrival to its deadline.
    timeout: float


class Slot:
    """A place at one replica: one request that it may hold."""

    __slots__ = ("link", "replica")

    def __init__(self, replica: str, link: Link) -> None:
        self.replica = replica
        self.link = link


@dataclass(slots=True, eq=False)
class _Flight:
    """A call that a replica holds."""

    deadline: float
    answer: "asyncio.Future[Answer | Stream]"
    replica: str
    expired: bool = False


@dataclass(slots=True, eq=False)
class _Waiter:
    """A call that waits for a replica with credit."""

    slot: "asyncio.Future[Slot]"
    deadline: float
    size: int
    #: Since when it has waited without any replica; None while there is one.
    forsaken_since: float | None


class Deployment:
    """Requests on their way to the replicas of one served entity."""

    def __init__(
        self,
        id: str,
        connector: Connector,
        limits: QueueLimits,
        on_hung: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_hung` gets deployment and replica when a replica let a request's deadline pass."""
        self.id = id
        self.leases = 0
        #: Seconds from a call's arrival to its deadline.
        self.timeout = limits.timeout
        self._connector = connector
        self._limits = limits
        self._on_hung = on_hung
        self._clock = clock
        self._addresses: Mapping[str, str] = {}
        self._slots: dict[str, Slot] = {}
        self._leaving: set[Slot] = set()
        self._connecting: dict[str, asyncio.Task[None]] = {}
        self._waiting: deque[_Waiter] = deque()
        self._waiting_count = 0
        self._waiting_bytes = 0
        self._flights: dict[int, _Flight] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()

    # --- leases -----------------------------------------------------------------------------

    def lease(self) -> None:
        """Hold the deployment: it is not drained before `release`."""
        self.leases += 1

    def release(self) -> None:
        self.leases -= 1
        if self.leases == 0 and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def drained(self) -> None:
        """Wait until no request holds a lease. Call it once routes no longer lead here."""
        if self.leases == 0:
            return
        if self._drained is None:
            self._drained = self._loop.create_future()
        await asyncio.shield(self._drained)

    # --- replicas ---------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return self._waiting_count

    def set_replicas(self, addresses: Mapping[str, str]) -> None:
        """Reach exactly these replicas from now on; the requests that others hold end normally."""
        self._addresses = dict(addresses)
        for replica in [r for r in self._slots if r not in addresses]:
            self._leave(self._slots.pop(replica))
        for replica in [r for r in self._connecting if r not in addresses]:
            self._connecting.pop(replica).cancel()
        for replica in addresses:
            if replica not in self._slots and replica not in self._connecting:
                self._reach(replica)
        self._note_forsaken()

    def _reach(self, replica: str, *, after: float = 0.0) -> None:
        self._connecting[replica] = self._loop.create_task(
            self._connect(replica, self._addresses[replica], after),
            name=f"connect {self.id} {replica}",
        )

    async def _connect(self, replica: str, address: str, after: float) -> None:
        await asyncio.sleep(after)
        pause = _PAUSE
        link: Link | None = None
        while link is None:
            try:
                link = await self._connector.connect(address)
            except ReplicaLost as problem:
                # It is listed, so control believes that it lives: either it comes, or the list
                # changes and cancels this task.
                log.debug("replica %s of %s does not answer: %s", replica, self.id, problem)
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
        slot = Slot(replica, link)
        self._connecting.pop(replica, None)
        self._slots[replica] = slot
        link.lost.add_done_callback(lambda _: self._lost(slot))
        for waiter in self._waiting:
            waiter.forsaken_since = None
        self._serve_waiting()

    def _lost(self, slot: Slot) -> None:
        if self._slots.get(slot.replica) is slot:
            del self._slots[slot.replica]
            # Only its connection may be lost: as long as it is listed, it is to be reached.
            self._reach(slot.replica, after=_PAUSE)
        self._leaving.discard(slot)
        self._note_forsaken()

    def _leave(self, slot: Slot) -> None:
        if slot.link.outstanding == 0:
            slot.link.close()
        else:
            self._leaving.add(slot)

    def _note_forsaken(self) -> None:
        if not self._slots:
            now = self._clock()
            for waiter in self._waiting:
                if waiter.forsaken_since is None:
                    waiter.forsaken_since = now

    def close(self) -> None:
        """Let go of everything; calls under way fail."""
        for task in self._connecting.values():
            task.cancel()
        self._connecting.clear()
        for slot in [*self._slots.values(), *self._leaving]:
            slot.link.close()
        self._slots.clear()
        self._leaving.clear()
        for waiter in self._waiting:
            if not waiter.slot.done():
                waiter.slot.set_exception(Unavailable("The served entity is being shut down."))
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- calls ------------------------------------------------------------------------------

    async def call(self, call: Call) -> tuple[Answer | Stream, Slot]:
        """Send a call to a replica and wait for its answer, or for its stream to begin.

        A stream keeps its slot: give it back with `freed` when it has ended. Raises
        TooManyRequests when the queue is full, Unavailable when no replica came, DeadlineExceeded,
        ReplicaLost.
        """
        slot = self._free_slot() if not self._waiting_count else None
        while slot is None or slot.link.lost.done():
            if slot is None:
                slot = await self._wait_for_slot(call)
            else:  # it died since it was chosen, and nobody may be left to wake this call
                self._lost(slot)
                slot = self._free_slot()
        try:
            answer = slot.link.send(call)
            late = 0.0 if call.operation is None else LATE
            flight = _Flight(call.deadline + late, answer, slot.replica)
            key = id(flight)
            self._flights[key] = flight
            if self._timer is None:
                self._arm()
            try:
                result = await answer
            except asyncio.CancelledError:
                _let_go(answer)
                if flight.expired:
                    raise self._timed_out() from None
                raise
            finally:
                del self._flights[key]
        except BaseException:
            self.freed(slot)
            raise
        if isinstance(result, Answer):
            self.freed(slot)
        return result, slot

    def freed(self, slot: Slot) -> None:
        """A request no longer holds its place at the replica."""
        if self._waiting_count:
            self._serve_waiting()
        if self._leaving and slot in self._leaving and slot.link.outstanding == 0:
            self._leaving.discard(slot)
            slot.link.close()

    def _free_slot(self) -> Slot | None:
        best: Slot | None = None
        least = 1 << 30
        for slot in self._slots.values():
            outstanding = slot.link.outstanding
            if outstanding < least and outstanding < slot.link.credit:
                best, least = slot, outstanding
        return best

    async def _wait_for_slot(self, call: Call) -> Slot:
        size = len(call.body)
        limits = self._limits
        if self._waiting_count >= limits.requests or (
            self._waiting_count and self._waiting_bytes + size > limits.bytes
        ):
            raise TooManyRequests(
                "Too many concurrent requests. Consider increasing the provisioned concurrency of "
                "the served entity.",
                retry_after=1,
            )
        waiter = _Waiter(
            self._loop.create_future(),
            call.deadline,
            size,
            None if self._slots else self._clock(),
        )
        self._waiting.append(waiter)
        self._waiting_count += 1
        self._waiting_bytes += size
        if self._timer is None:
            self._arm()
        try:
            return await waiter.slot
        except asyncio.CancelledError:
            if waiter.slot.done() and not waiter.slot.cancelled():
                self._serve_waiting()  # it was given a slot and does not use it
            raise
        finally:
            self._waiting_count -= 1
            self._waiting_bytes -= size

    def _serve_waiting(self) -> None:
        """Give free slots to waiting calls, first come first served.

        A slot counts as taken only once its call is sent, so at most as many are woken here as
        there is credit for.
        """
        granted: dict[str, int] = {}
        while self._waiting:
            waiter = self._waiting[0]
            if waiter.slot.done():
                self._waiting.popleft()
                continue
            best: Slot | None = None
            least = 1 << 30
            for slot in self._slots.values():
                load = slot.link.outstanding + granted.get(slot.replica, 0)
                if load < least and load < slot.link.credit:
                    best, least = slot, load
            if best is None:
                return
            granted[best.replica] = granted.get(best.replica, 0) + 1
            self._waiting.popleft()
            waiter.slot.set_result(best)

    def hangs(self, slot: Slot) -> None:
        """A stream from this replica stalled: whoever keeps replicas should hear of it."""
        self._on_hung(self.id, slot.replica)

    # --- deadlines --------------------------------------------------------------------------

    def _timed_out(self) -> DeadlineExceeded:
        return DeadlineExceeded(TIMED_OUT.format(limit=self._limits.timeout))

    def _arm(self) -> None:
        self._timer = self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock()
        hung = set()
        for flight in list(self._flights.values()):
            if flight.deadline > now:
                break  # flights leave in the order of their deadlines: all have the same timeout
            if not flight.answer.done():
                flight.expired = True
                flight.answer.cancel()
                hung.add(flight.replica)
        for waiter in self._waiting:
            if waiter.slot.done():
                continue
            if waiter.deadline <= now:
                waiter.slot.set_exception(self._timed_out())
            elif (
                waiter.forsaken_since is not None
                and now - waiter.forsaken_since >= self._limits.ready_wait
            ):
                waiter.slot.set_exception(
                    Unavailable(
                        "The served entity has no replica that is ready yet.", retry_after=1
                    )
                )
        while self._waiting and self._waiting[0].slot.done():
            self._waiting.popleft()
        for replica in hung:
            self._on_hung(self.id, replica)
        if self._flights or self._waiting:
            self._arm()


def _let_go(answer: "asyncio.Future[Answer | Stream]") -> None:
    """Close the stream that came in the moment in which its caller gave up."""
    if answer.done() and not answer.cancelled() and answer.exception() is None:
        result = answer.result()
        if not isinstance(result, Answer):
            result.close()
