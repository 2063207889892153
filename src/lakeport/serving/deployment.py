"""The front's side of one served entity: a bounded queue and links to its replicas.

A call goes to the replica with the fewest requests outstanding, as long as one has credit; the
others wait in order. Nothing here runs per request but a few dictionary and integer operations, and
no task: a call is a `Flight` that is told what becomes of it. Deadlines are looked after by one
timer a deployment, which runs only while something is under way.
"""

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lakeport.errors import ApiError, DeadlineExceeded, Internal, TooManyRequests, Unavailable
from lakeport.runtimes.base import Answer, Connector, Link, ReplicaLost, Stream
from lakeport.serving.flight import Flight, Slot
from lakeport.serving.pace import Pace
from lakeport.serving.ports import Load

log = logging.getLogger(__name__)

TIMED_OUT = "Request processing time exceeded limit of {limit:g} seconds."
REPLICA_LOST = (
    "The replica that held this request ended before it answered. It is being started again; the "
    "served entity's logs say why it ended."
)
#: How often deadlines are looked at, in seconds.
TICK = 0.25
#: Seconds between two attempts to reach a replica: at first, and at most.
_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
#: Seconds that a refused caller is asked to wait, at most.
_LONGEST_RETRY = 60


@dataclass(frozen=True, slots=True)
class QueueLimits:
    requests: int
    #: Of bodies, in bytes.
    bytes: int
    #: Seconds that a call waits while there is no replica at all.
    ready_wait: float
    #: Seconds from a call's arrival to its deadline.
    timeout: float


class Deployment:
    """Requests on their way to the replicas of one served entity."""

    def __init__(
        self,
        id: str,
        connector: Connector,
        limits: QueueLimits,
        on_hung: Callable[[str, str], None],
        *,
        on_waiting: Callable[[str], None] = lambda deployment: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_hung` gets deployment and replica when a replica let a request's deadline pass;
        `on_waiting` the deployment, at most once a turn of the loop, when calls begin to wait."""
        self.id = id
        self.leases = 0
        #: Seconds from a call's arrival to its deadline.
        self.timeout = limits.timeout
        self._connector = connector
        self._limits = limits
        self._on_hung = on_hung
        self._on_waiting = on_waiting
        self._clock = clock
        self._addresses: Mapping[str, str] = {}
        #: Replicas are on their way because calls wait.
        self._coming = False
        self._slots: dict[str, Slot] = {}
        #: Since when there has been no replica.
        self._forsaken_since = clock()
        self._leaving: set[Slot] = set()
        self._connecting: dict[str, asyncio.Task[None]] = {}
        self._waiting: OrderedDict[Flight, None] = OrderedDict()
        self._waiting_bytes = 0
        self._telling = False
        self._flights: dict[Flight, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._pace = Pace()
        #: The integral of `leases` over time up to `_changed_at`.
        self._busy = 0.0
        self._changed_at = clock()

    # --- leases -----------------------------------------------------------------------------

    def lease(self, now: float) -> None:
        """Hold the deployment: it is not drained before `release`. `now`: by the clock."""
        self._busy += self.leases * (now - self._changed_at)
        self._changed_at = now
        self.leases += 1

    def release(self, now: float) -> None:
        self._busy += self.leases * (now - self._changed_at)
        self._changed_at = now
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

    @property
    def load(self) -> Load:
        """How busy it is, and has been."""
        now = self._clock()
        passed = now - self._changed_at
        return Load(
            in_flight=self.leases - len(self._waiting),
            waiting=len(self._waiting),
            busy=self._busy + self.leases * passed,
            idle=0.0 if self.leases else passed,
            credit=max((slot.link.credit for slot in self._slots.values()), default=0),
        )

    # --- replicas ---------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._waiting)

    def set_replicas(self, addresses: Mapping[str, str], *, coming: bool = False) -> None:
        """Reach exactly these replicas from now on; the requests that others hold end normally.

        `coming`: more are being started because calls wait, which do so until their deadline.
        """
        self._addresses = dict(addresses)
        self._coming = coming
        for replica in [r for r in self._slots if r not in addresses]:
            self._leave(self._slots.pop(replica))
        for replica in [r for r in self._connecting if r not in addresses]:
            self._connecting.pop(replica).cancel()
        for replica in addresses:
            if replica not in self._slots and replica not in self._connecting:
                self._reach(replica)
        self._note_forsaken()

    def held(self, replica: str) -> int:
        """Requests that a replica holds, also one that is no longer listed."""
        slots = (*self._slots.values(), *self._leaving)
        return sum(slot.link.outstanding for slot in slots if slot.replica == replica)

    def _reach(self, replica: str, *, after: float = 0.0) -> None:
        self._connecting[replica] = self._loop.create_task(
            self._connect(replica, self._addresses[replica], after),
            name=f"connect {self.id} {replica}",
        )

    async def _connect(self, replica: str, address: str, after: float) -> None:
        if after:
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
        self._serve_waiting()

    def _lost(self, slot: Slot) -> None:
        if self._slots.get(slot.replica) is slot:
            del self._slots[slot.replica]
            self._note_forsaken()
            # Only its connection may be lost: as long as it is listed, it is to be reached.
            self._reach(slot.replica, after=_PAUSE)
        self._leaving.discard(slot)

    def _leave(self, slot: Slot) -> None:
        if slot.link.outstanding == 0:
            slot.link.close()
        else:
            self._leaving.add(slot)

    def _note_forsaken(self) -> None:
        if not self._slots:
            self._forsaken_since = self._clock()

    def close(self) -> None:
        """Let go of everything; calls under way fail."""
        for task in self._connecting.values():
            task.cancel()
        self._connecting.clear()
        slots = [*self._slots.values(), *self._leaving]
        # First: a link may fail what it holds as it closes, and no call may take its place.
        self._slots.clear()
        self._leaving.clear()
        for flight in list(self._waiting):
            self._fail(flight, Unavailable("The served entity is being shut down."))
        for slot in slots:
            slot.link.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- calls ------------------------------------------------------------------------------

    def begin(self, flight: Flight) -> None:
        """Send a flight's call to a replica, or let it wait for one.

        Raises TooManyRequests when the queue is full, or when the call would wait in it beyond its
        deadline; the flight has not begun then.
        """
        slot = None if self._waiting else self._free_slot()
        if slot is None:
            self._wait(flight)
        else:
            self._send(flight, slot)

    def cancel(self, flight: Flight) -> None:
        """The caller has gone: whatever is done for it ends. Idempotent.

        As long as its replica may be at it nevertheless, it keeps its place there, and its
        deadline: a replica is no less busy, or hung, for callers who do not wait.
        """
        if flight.over:
            return
        flight.over = True
        slot = flight.slot
        if slot is None:
            self._leave_queue(flight)
            return
        if flight.sending is None or not flight.sending.cancel():
            self._flights.pop(flight, None)
            self.freed(slot)

    def taken(self, flight: Flight, result: Answer | Stream | ReplicaLost) -> None:
        """What became of a flight at its replica; for links."""
        slot = flight.slot
        self._flights.pop(flight, None)
        if flight.over or slot is None:  # it was given up
            if not isinstance(result, (Answer, ReplicaLost)):
                result.close()
            if slot is not None:
                self.freed(slot)
            return
        flight.over = True
        flight.sending = None  # it may know the flight: no circle for the collector
        if isinstance(result, Answer):
            if self._waiting:
                self._pace.answered(self._clock())
                self._serve_waiting()
            if self._leaving:
                self._see_off(slot)
            flight.landed(result)
        elif isinstance(result, ReplicaLost):
            self.freed(slot)
            flight.failed(Internal(REPLICA_LOST))
        else:
            flight.landed(result)

    def freed(self, slot: Slot) -> None:
        """A request no longer holds its place at the replica."""
        if self._waiting:
            self._serve_waiting()
        if self._leaving:
            self._see_off(slot)

    def hangs(self, slot: Slot) -> None:
        """A stream from this replica stalled: whoever keeps replicas should hear of it."""
        self._on_hung(self.id, slot.replica)

    def _see_off(self, slot: Slot) -> None:
        if slot in self._leaving and slot.link.outstanding == 0:
            self._leaving.discard(slot)
            slot.link.close()

    def _free_slot(self) -> Slot | None:
        while True:
            best: Slot | None = None
            least = 1 << 30
            for slot in self._slots.values():
                link = slot.link
                outstanding = link.outstanding
                if outstanding < least and outstanding < link.credit:
                    best, least = slot, outstanding
            if best is None or not best.link.lost.done():
                return best
            self._lost(best)  # it died in this turn of the loop

    def _send(self, flight: Flight, slot: Slot) -> None:
        flight.slot = slot
        self._flights[flight] = None
        if self._timer is None:
            self._arm()
        flight.boarded()
        flight.sending = slot.link.send(flight.call, flight.taken)

    # --- the queue --------------------------------------------------------------------------

    def _wait(self, flight: Flight) -> None:
        now = flight.queued_at = self._clock()
        size = len(flight.call.body)
        count = len(self._waiting)
        limits = self._limits
        expected = self._pace.wait(count, now) if self._slots else None
        if (
            count >= limits.requests
            or (count and self._waiting_bytes + size > limits.bytes)
            or (expected is not None and now + expected > flight.call.deadline)
        ):
            raise TooManyRequests(
                "Too many concurrent requests. Consider increasing the provisioned concurrency of "
                "the served entity.",
                retry_after=min(_LONGEST_RETRY, max(1, math.ceil(expected or 0))),
            )
        if not count:
            self._pace.begin(now)
        self._waiting[flight] = None
        self._waiting_bytes += size
        if self._timer is None:
            self._arm()
        if not self._telling:
            self._telling = True
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        if self._waiting:
            self._on_waiting(self.id)

    def refuse_waiting(self, message: str) -> None:
        """End every call that waits with a 503."""
        for flight in list(self._waiting):
            if not flight.over:
                self._fail(flight, Unavailable(message, retry_after=1))

    def _leave_queue(self, flight: Flight) -> None:
        del self._waiting[flight]
        self._waiting_bytes -= len(flight.call.body)

    def _serve_waiting(self) -> None:
        """Give free slots to waiting calls, first come first served."""
        while self._waiting and (slot := self._free_slot()) is not None:
            flight = next(iter(self._waiting))
            self._leave_queue(flight)
            self._send(flight, slot)

    def _fail(self, flight: Flight, error: ApiError) -> None:
        flight.over = True
        if flight.slot is None:
            self._leave_queue(flight)
        flight.failed(error)

    # --- deadlines --------------------------------------------------------------------------

    def _timed_out(self) -> DeadlineExceeded:
        return DeadlineExceeded(TIMED_OUT.format(limit=self.timeout))

    def _arm(self) -> None:
        self._timer = self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock()
        hung = set()
        for flight in list(self._flights):
            slot = flight.slot
            # One may have ended in this very loop.
            if flight.expires <= now and slot is not None and flight in self._flights:
                hung.add(slot.replica)
                if not flight.over:
                    self.cancel(flight)
                    flight.failed(self._timed_out())
                self._flights.pop(flight, None)
        forsaken = not self._slots and not self._coming
        for flight in list(self._waiting):
            if flight.over:
                continue
            if flight.call.deadline <= now:
                self._fail(flight, self._timed_out())
            elif (
                forsaken
                and now - max(flight.queued_at, self._forsaken_since) >= self._limits.ready_wait
            ):
                self._fail(
                    flight,
                    Unavailable(
                        "The served entity has no replica that is ready yet.", retry_after=1
                    ),
                )
        for replica in hung:
            self._on_hung(self.id, replica)
        if self._flights or self._waiting:
            self._arm()
