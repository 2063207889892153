"""Makes fact follow wish: one task an endpoint, as docs/internals/rollout.md says.

The records here are the ones in the store: a move is stored first and replaces the record in
memory only then. All writers of one endpoint take its lock.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from lakeport.control import rollout, updates
from lakeport.control.kept import FrontPort, Kept, spec_of
from lakeport.control.replicas import ReplicaSet
from lakeport.control.rollout import Observed
from lakeport.control.validation import bounds
from lakeport.runtimes.base import Kind, Runtime
from lakeport.serving.ports import Load
from lakeport.serving.routes import EndpointRoute
from lakeport.stores.base import Store, StoreError
from lakeport.stores.records import ConfigUpdate, EndpointRecord, EntityRecord, EventRecord

log = logging.getLogger(__name__)

#: Seconds before a look that failed, since the store refused a move, say, is taken again.
RETRY = 1.0
#: Kinds of events that somebody should look at.
TROUBLE = frozenset(
    ("start_failed", "replica_ended", "replica_hung", "out_of_memory", "unavailable")
)


class Reconciler:
    """Holds every endpoint's record and what runs for it."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        front: FrontPort,
        *,
        now_ms: Callable[[], int],
        drain_timeout: float,
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._front = front
        self._now_ms = now_ms
        self._drain_timeout = drain_timeout
        self._kept: dict[str, Kept] = {}
        self._by_deployment: dict[str, Kept] = {}
        self._routes: dict[str, EndpointRoute] = {}
        self._background: set[asyncio.Task[None]] = set()
        #: Called after every move of a record.
        self.on_moved: Callable[[], None] = lambda: None
        #: Gets endpoint, served entity and the seconds that waking it from zero took.
        self.on_woke: Callable[[str, str, float], None] = lambda endpoint, entity, seconds: None

    # --- life -------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take up every stored endpoint where it was left."""
        for record in await self._store.endpoints():
            self._adopt(record)
        self._publish()

    async def close(self) -> None:
        """Stop everything that runs; what is stored stays as it is."""
        tasks = [kept.task for kept in self._kept.values() if kept.task]
        for task in [*tasks, *self._background]:
            task.cancel()
        await asyncio.gather(*tasks, *self._background, return_exceptions=True)
        sets = [group for kept in self._kept.values() for group in kept.sets.values()]
        await asyncio.gather(*(group.close() for group in sets))

    def _adopt(self, record: EndpointRecord) -> Kept:
        kept = Kept(record)
        self._kept[record.name] = kept
        self._routes[record.name] = rollout.route(record)
        kept.task = asyncio.get_running_loop().create_task(
            self._keep(kept), name=f"endpoint {record.name}"
        )
        return kept

    # --- reading ----------------------------------------------------------------------------

    def names(self) -> list[str]:
        return sorted(self._kept)

    def record(self, name: str) -> EndpointRecord | None:
        kept = self._kept.get(name)
        return kept.record if kept else None

    def by_id(self, id: str) -> EndpointRecord | None:
        return next((k.record for k in self._kept.values() if k.record.id == id), None)

    def replica_set(self, record: EndpointRecord, entity: EntityRecord) -> ReplicaSet | None:
        kept = self._kept.get(record.name)
        return kept.sets.get(rollout.deployment_id(record.id, entity)) if kept else None

    def load(self, record: EndpointRecord, entity: EntityRecord) -> Load | None:
        """How busy the entity's deployment is; None where it has no requests and no replicas."""
        return self._front.load(rollout.deployment_id(record.id, entity))

    def serving(self) -> Iterator[tuple[EndpointRecord, EntityRecord, ReplicaSet]]:
        """Every deployment of an active config."""
        for kept in self._kept.values():
            record = kept.record
            if record.active is None or record.stopped:
                continue
            for entity in record.active.entities:
                group = kept.sets.get(rollout.deployment_id(record.id, entity))
                if group is not None:
                    yield record, entity, group

    async def settled(self, name: str) -> EndpointRecord | None:
        """The endpoint once no update of it is under way; None when it is gone by then."""
        kept = self._kept.get(name)
        while kept is not None and not kept.deleted:
            if kept.record.update is not ConfigUpdate.IN_PROGRESS:
                return kept.record
            if kept.moved is None:
                kept.moved = asyncio.get_running_loop().create_future()
            await asyncio.shield(kept.moved)
        return None

    # --- moves ------------------------------------------------------------------------------

    async def create(self, record: EndpointRecord, *events: EventRecord) -> EndpointRecord:
        """Store a new endpoint and begin to care for it. Raises AlreadyExists."""
        stored = await self._store.insert_endpoint(record)
        self._adopt(stored)
        self._publish()
        for event in events:
            self._note(event)
        return stored

    def pin(self, record: EndpointRecord) -> None:
        """Begin to care for an endpoint that is not stored."""
        self._adopt(record)
        self._publish()

    async def move(
        self,
        name: str,
        change: Callable[[EndpointRecord], EndpointRecord],
        *events: EventRecord,
    ) -> EndpointRecord | None:
        """Store what `change` makes of the record, and act on it; None when the endpoint is gone.

        Whatever `change` raises leaves everything as it was.
        """
        kept = self._kept.get(name)
        if kept is None:
            return None
        async with kept.lock:
            if kept.deleted:
                return None
            await self._save(kept, change(kept.record), *events)
            return kept.record

    async def delete(self, name: str, *events: EventRecord) -> bool:
        """The name is free when this returns; running requests end. False when there was none."""
        kept = self._kept.get(name)
        if kept is None:
            return False
        async with kept.lock:
            if kept.deleted:
                return False
            if kept.record.temporary:
                for event in events:
                    self._note(event)
            else:
                await self._store.delete_endpoint(kept.record.id, *events)
            kept.deleted = True
            kept.tell()
            del self._kept[name]
            self._routes.pop(name, None)
            self._publish()
        if kept.task:
            kept.task.cancel()
            await asyncio.gather(kept.task, return_exceptions=True)
        for id in list(kept.sets):
            self._retire(kept, id)
        return True

    async def _save(self, kept: Kept, record: EndpointRecord, *events: EventRecord) -> None:
        if record.fixed or record.temporary:
            kept.record = record
            for event in events:
                self._note(event)
        else:
            kept.record = await self._store.save_endpoint(record, *events)
        self._routes[record.name] = rollout.route(kept.record)
        self._publish()
        kept.changed.set()
        kept.tell()
        self.on_moved()

    def _publish(self) -> None:
        self._front.publish(dict(self._routes))

    # --- the loop ---------------------------------------------------------------------------

    async def _keep(self, kept: Kept) -> None:
        while True:
            kept.changed.clear()
            try:
                settled = await self._look(kept)
            except StoreError as problem:
                log.warning("%s: the store refused: %s; trying again", kept.record.name, problem)
                await asyncio.sleep(RETRY)
                continue
            except Exception:  # an endpoint that nobody cares for any more would be worse
                log.exception("%s: the reconciler failed; trying again", kept.record.name)
                await asyncio.sleep(RETRY)
                continue
            if settled:
                await kept.changed.wait()

    async def _look(self, kept: Kept) -> bool:
        """One look and what follows from it; False when there is more to do at once."""
        observed: dict[str, Observed] = {id: group.observed for id, group in kept.sets.items()}
        for id, kind, message in rollout.news(kept.observed, observed):
            self.happened(id, kind, message)
        kept.observed = observed
        pending = kept.record.pending
        step = rollout.decide(kept.record, observed)
        for entity in step.start:
            self._start(kept, entity)
        if step.promote or step.failures:
            async with kept.lock:
                if kept.deleted:
                    return True
                if kept.record.pending != pending:  # another took its place while we waited
                    return False
                name, now = kept.record.name, self._now_ms()
                if step.failures:
                    reasons = "; ".join(f"{entity}: {why}" for entity, why in step.failures.items())
                    await self._save(
                        kept,
                        updates.fail(kept.record, step.failures, now=now),
                        EventRecord(now, name, "update_failed", reasons),
                    )
                else:
                    version = pending.version if pending else 0
                    await self._save(
                        kept,
                        updates.promote(kept.record, now=now),
                        EventRecord(
                            now, name, "update_succeeded", f"Config version {version} serves."
                        ),
                    )
            return False
        for id in step.retire:
            self._retire(kept, id)
        return True

    def _start(self, kept: Kept, entity: EntityRecord) -> None:
        spec = spec_of(kept.record, entity)
        id = spec.id
        self._by_deployment[id] = kept
        if entity.kind is Kind.JOINED:  # it may wait in a breakpoint
            self._front.unhurried(id)
        self._front.set_replicas(id, {})
        kept.sets[id] = ReplicaSet(
            spec,
            bounds(entity).low,
            self._runtime,
            self,
            held=partial(self._front.held, id),
            drain=self._drain_timeout,
        )

    def _retire(self, kept: Kept, id: str) -> None:
        group = kept.sets.pop(id)
        task = asyncio.get_running_loop().create_task(self._end(id, group), name=f"retire {id}")
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _end(self, id: str, group: ReplicaSet) -> None:
        try:
            await self._front.drain(id, self._drain_timeout)
        finally:
            self._by_deployment.pop(id, None)
            await group.close()
            self._runtime.forget(id)

    # --- what replica sets tell -------------------------------------------------------------

    def replicas_changed(
        self, deployment: str, addresses: Mapping[str, str], *, coming: bool
    ) -> None:
        if deployment in self._by_deployment:
            self._front.set_replicas(deployment, addresses, coming=coming)

    def phase_changed(self, deployment: str) -> None:
        kept = self._by_deployment.get(deployment)
        if kept is not None:
            kept.changed.set()

    def happened(self, deployment: str, kind: str, message: str) -> None:
        kept = self._by_deployment.get(deployment)
        if kept is None:
            return
        name = kept.record.name
        group = kept.sets.get(deployment)
        entity = group.spec.entity if group else None
        level = logging.WARNING if kind in TROUBLE else logging.INFO
        log.log(level, "%s/%s: %s: %s", name, entity, kind, message)
        self._note(EventRecord(self._now_ms(), name, kind, message, entity=entity))

    def woke(self, deployment: str, seconds: float) -> None:
        self.happened(deployment, "woke", f"Started from zero in {seconds:.2f} s, for a request.")
        kept = self._by_deployment.get(deployment)
        group = kept.sets.get(deployment) if kept else None
        if kept is not None and group is not None:
            self.on_woke(kept.record.name, group.spec.entity, seconds)

    def not_woken(self, deployment: str, message: str) -> None:
        self._front.refuse_waiting(
            deployment, f"The served entity was scaled to zero and could not be started: {message}"
        )

    def hung(self, deployment: str, replica: str) -> None:
        """A front says that a replica let a request's deadline pass."""
        kept = self._by_deployment.get(deployment)
        group = kept.sets.get(deployment) if kept else None
        if group is not None:
            group.replace(replica)

    def _note(self, event: EventRecord) -> None:
        async def write() -> None:
            try:
                await self._store.add_event(event)
            except StoreError as problem:
                log.warning("an event could not be stored: %s", problem)

        task = asyncio.get_running_loop().create_task(write())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
