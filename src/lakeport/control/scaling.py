"""Reads how busy served entities are, and has as many replicas run as `serving/autoscale.py` says.

One task for all of them. It looks once a second where there is something to decide, at once when
calls wait for a replica, and not at all where nothing can change.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from lakeport.control.reconciler import Reconciler
from lakeport.control.replicas import ReplicaSet
from lakeport.control.validation import PER_REPLICA, bounds
from lakeport.runtimes.base import Kind
from lakeport.serving import autoscale
from lakeport.serving.autoscale import Bounds, Policy, Reading, State
from lakeport.serving.ports import Load
from lakeport.stores.records import EntityRecord

log = logging.getLogger(__name__)

#: Seconds between two looks where something may scale, and where only memory is looked at.
TICK = 1.0
SLOW = 10.0
#: Seconds from a call that waits, while replicas run, to a look at it: a moment's crowd is none.
CROWD = 0.1
MIB = 1024 * 1024
#: A mean over fewer seconds says little.
LEAST = 0.5


@dataclass(frozen=True, slots=True)
class Scaling:
    """The settings of scaling; times in seconds."""

    #: Cores that replicas may use.
    cores: int
    #: Replicas up to which entities grow beyond their minimum; None: see `policy`.
    up_to: int | None = None
    down_after: float = 300.0
    to_zero_after: float = 1800.0
    #: Requests that one replica of an engine works on at a time.
    engine_slots: int = 8

    def policy(self, kind: Kind) -> Policy:
        """One replica of a model has one core's worth of work; one engine keeps all cores busy."""
        engine = kind is Kind.ENGINE
        return Policy(
            takes=self.engine_slots if engine else PER_REPLICA,
            cores=self.up_to or (1 if engine else self.cores),
            beyond=self.up_to is None and not engine,
            quiet=self.down_after,
            zero_after=self.to_zero_after,
        )


@dataclass(eq=False, slots=True)
class _Scaled:
    """One deployment that may scale."""

    group: ReplicaSet
    bounds: Bounds
    policy: Policy
    state: State
    #: Of the last look at its load: when, and `Load.busy` then.
    at: float
    busy: float
    #: A look that was asked for and is still to come.
    soon: asyncio.TimerHandle | None = None

    def reading(self, load: Load, now: float) -> Reading:
        passed = now - self.at
        mean = 0.0
        if passed >= LEAST:
            mean = (load.busy - self.busy) / passed
            self.at, self.busy = now, load.busy
        return Reading(
            mean=mean,
            present=load.in_flight + load.waiting,
            waiting=load.waiting,
            idle=load.idle,
            live=len(self.group.live),
            cpu=_cpu(self.group),
            # Others may hold as many again as they compute.
            merging=load.credit > 2 * self.policy.takes,
        )

    def forget(self) -> None:
        if self.soon is not None:
            self.soon.cancel()
            self.soon = None


class Scaler:
    """Scales what a reconciler serves: `run` until it is cancelled."""

    def __init__(
        self,
        reconciler: Reconciler,
        load: Callable[[str], Load | None],
        scaling: Scaling,
    ) -> None:
        """`load` tells how busy a deployment is (`Front.load`)."""
        self._reconciler = reconciler
        self._load = load
        self._scaling = scaling
        self._scaled: dict[str, _Scaled] = {}
        self._poked = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def poke(self) -> None:
        """Something has changed: there may be something to look at."""
        self._poked.set()

    def waiting(self, deployment: str) -> None:
        """Calls of a deployment begin to wait for a replica."""
        scaled = self._scaled.get(deployment)
        if scaled is None or scaled.soon is not None:
            return
        if scaled.group.count == 0:
            self._decide(deployment, scaled)
        elif scaled.group.count < scaled.bounds.high:
            scaled.soon = self._loop.call_later(CROWD, self._crowded, deployment, scaled)

    async def run(self) -> None:
        try:
            while True:
                self._poked.clear()
                try:
                    pause = self._look()
                except Exception:  # servers that no longer scale would be worse
                    log.exception("scaling failed; trying again")
                    pause = TICK
                try:
                    async with asyncio.timeout(pause):
                        await self._poked.wait()
                except TimeoutError:
                    continue
        finally:
            for scaled in self._scaled.values():
                scaled.forget()

    def _look(self) -> float | None:
        """Look at everything; seconds until the next look, None: until something changes."""
        now = self._loop.time()
        pause: float | None = None
        seen: set[str] = set()
        for _, entity, group in self._reconciler.serving():
            if entity.kind not in (Kind.MODEL, Kind.ENGINE):
                continue
            scaled = self._take_up(entity, group, now)
            if scaled is not None:
                seen.add(group.spec.id)
                self._decide(group.spec.id, scaled)
            self._recycle(group)
            soon = scaled is not None or not group.was_ready
            pause = TICK if soon else pause or SLOW
        for id in self._scaled.keys() - seen:
            self._scaled.pop(id).forget()
        return pause

    def _take_up(self, entity: EntityRecord, group: ReplicaSet, now: float) -> _Scaled | None:
        """What is known of a deployment; None where its number of replicas is settled."""
        asked = bounds(entity)
        known = self._scaled.get(group.spec.id)
        settled = asked.low == asked.high == group.count and not asked.to_zero
        if settled or not group.was_ready:
            return None
        if known is not None and known.group is group:
            known.bounds = asked
            return known
        load = self._load(group.spec.id)
        policy = self._scaling.policy(entity.kind)
        state = autoscale.begin(group.count, policy, now)
        scaled = _Scaled(group, asked, policy, state, now, load.busy if load else 0.0)
        self._scaled[group.spec.id] = scaled
        return scaled

    def _crowded(self, deployment: str, scaled: _Scaled) -> None:
        scaled.soon = None
        self._decide(deployment, scaled)

    def _decide(self, deployment: str, scaled: _Scaled) -> None:
        load = self._load(deployment)
        if load is None:
            return
        now = self._loop.time()
        reading = scaled.reading(load, now)
        before, quiet, policy = scaled.state.wanted, scaled.state.quiet, scaled.policy
        scaled.state, wanted = autoscale.decide(scaled.state, reading, scaled.bounds, policy, now)
        if wanted == before:
            return
        scaled.group.scale(wanted)
        change, least = f"From {before} to {wanted} replicas", scaled.bounds.low
        if wanted == 0:
            kind, message = "scaled_to_zero", f"No request for {policy.zero_after:g} s."
        elif before == 0:
            return  # what comes of it is told: `woke`, or why not
        elif wanted > before:
            most = max(reading.mean, reading.present)
            why = "the minimum" if wanted == least else f"{most:.0f} requests at a time"
            kind, message = "scaled_up", f"{change}: {why}."
        else:
            kind, message = "scaled_down", f"{change}: the last {quiet:g} s needed no more."
        self._reconciler.happened(deployment, kind, message)

    def _recycle(self, group: ReplicaSet) -> None:
        for id, replica in group.live.items():
            usage = replica.usage()
            if usage is not None and usage.recycle and group.recycle(id):
                used = usage.memory_bytes // MIB
                self._reconciler.happened(
                    group.spec.id,
                    "replica_recycled",
                    f"A replica uses {used} MiB of memory; a new one takes its place.",
                )
                return


def _cpu(group: ReplicaSet) -> float | None:
    """Cores that a deployment's replicas use; None: not known of all of them."""
    usages = [replica.usage() for replica in group.live.values()]
    known = [usage.cpu_percent for usage in usages if usage is not None]
    return sum(known) / 100 if len(known) == len(usages) else None
