"""What serving endpoints do now and did lately: what control knows, beside what was counted."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence

from lakeport.control.reconciler import Reconciler
from lakeport.control.validation import PER_REPLICA
from lakeport.runtimes.base import Replica
from lakeport.stores.records import EndpointRecord, EntityRecord
from lakeport.telemetry import exposition
from lakeport.telemetry.exposition import EntityLoad, ReplicaLoad
from lakeport.telemetry.histogram import quantile
from lakeport.telemetry.metrics import EntityMetrics, Metrics
from lakeport.telemetry.series import Counted, Gauges, Range, Series
from lakeport.telemetry.ticks import pause
from lakeport.wire import monitoring as wire
from lakeport.wire.endpoints import Ready

log = logging.getLogger(__name__)

#: Seconds over which rates and latencies of `live` are taken.
LATELY = 10.0
#: Seconds over which the event loop's worst delay is remembered.
LAG_WINDOW = 60


class Monitor:
    """Reads what runs; `run` keeps what was so, once a second."""

    def __init__(self, reconciler: Reconciler, metrics: Metrics) -> None:
        self._reconciler = reconciler
        self._metrics = metrics
        self._lags: deque[float] = deque([0.0], LAG_WINDOW)

    # --- as Prometheus reads it -------------------------------------------------------------

    def endpoint_text(self, record: EndpointRecord) -> bytes:
        return exposition.of_endpoint(
            self._loads(record), self._metrics.of(record.name), time.time()
        )

    def server_text(self) -> bytes:
        loads = [
            load
            for name in self._reconciler.names()
            if (record := self._reconciler.record(name)) is not None
            for load in self._loads(record)
        ]
        return exposition.of_server(loads, self._metrics.of(), loop_lag=max(self._lags))

    # --- as people read it ------------------------------------------------------------------

    def live(self, endpoints: Sequence[tuple[EndpointRecord, Ready]]) -> wire.Live:
        return wire.Live(
            at=round(time.time() * 1000),
            endpoints=[
                wire.LiveEndpoint(
                    name=record.name,
                    state=ready,
                    entities=[
                        self._live_entity(record, entity) for entity in shown_entities(record)
                    ],
                )
                for record, ready in endpoints
            ],
        )

    def series(self, endpoint: str, entity: str, range: Range) -> wire.Series:
        known = self._metrics.known(endpoint, entity)
        columns = (known.series if known and known.series else Series(0.0)).columns(range)
        return wire.Series.model_validate(
            {
                "endpoint": endpoint,
                "served_entity": entity,
                "range": range,
                "step": columns.step * 1000,
                "time": [at * 1000 for at in columns.time],
            }
            | columns.values
        )

    # --- every second -----------------------------------------------------------------------

    async def run(self) -> None:
        """Keep what is so, at the end of each second, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            wait = pause(1.0)
            due = loop.time() + wait
            await asyncio.sleep(wait)
            self._lags.append(max(loop.time() - due, 0.0))
            try:
                for counted in self._metrics.of():
                    counted.tick(self._gauges(counted))
            except Exception:  # a second without a row is better than no row ever after
                log.exception("what was so in this second could not be kept")

    def _gauges(self, counted: EntityMetrics) -> Gauges:
        record = self._reconciler.record(counted.endpoint)
        entity = next((e for e in shown_entities(record) if e.name == counted.entity), None)
        if record is None or entity is None:
            return Gauges()
        load = self._load(record, entity)
        return Gauges(
            queue=load.queue,
            in_flight=load.in_flight,
            replicas=len(load.replicas),
            cpu_percent=load.cpu_percent,
            memory_bytes=load.memory_bytes,
        )

    # --- inside -----------------------------------------------------------------------------

    def _loads(self, record: EndpointRecord) -> list[EntityLoad]:
        return [
            self._load(record, entity)
            for entity in (record.active.entities if record.active else ())
            if self._reconciler.replica_set(record, entity) is not None
        ]

    def _load(self, record: EndpointRecord, entity: EntityRecord) -> EntityLoad:
        group = self._reconciler.replica_set(record, entity)
        replicas = [*group.live.values()] if group else []
        load = self._reconciler.load(record, entity)
        return EntityLoad(
            endpoint=record.name,
            entity=entity.name,
            provisioned_concurrency=len(replicas) * PER_REPLICA,
            queue=load.waiting if load else 0,
            in_flight=load.in_flight if load else 0,
            gpu="GPU" in entity.workload_type,
            replicas=[_replica(replica) for replica in replicas],
        )

    def _live_entity(self, record: EndpointRecord, entity: EntityRecord) -> wire.LiveEntity:
        group = self._reconciler.replica_set(record, entity)
        load = self._load(record, entity)
        counted = self._metrics.known(record.name, entity.name)
        lately, seconds = counted.lately(LATELY) if counted else (Counted(), LATELY)
        return wire.LiveEntity(
            name=entity.name,
            model=entity.entity_name,
            version=entity.resolved_version,
            scaled_to_zero=group is not None and group.was_ready and group.at_zero,
            replicas=[
                wire.LiveReplica(
                    id=replica.id,
                    pid=replica.pid,
                    cpu_percent=replica.cpu_percent,
                    memory_bytes=replica.memory_bytes,
                    memory_limit_bytes=replica.memory_limit_bytes,
                )
                for replica in load.replicas
            ],
            requests_per_second=lately.requests / seconds,
            errors_per_second=(lately.errors_4xx + lately.errors_5xx) / seconds,
            p50_ms=quantile(lately.latency, 0.5),
            p99_ms=quantile(lately.latency, 0.99),
            queue=load.queue,
            in_flight=load.in_flight,
            provisioned_concurrency=load.provisioned_concurrency,
            cold_starts=counted.cold_starts if counted else 0,
        )


def shown_entities(record: EndpointRecord | None) -> Sequence[EntityRecord]:
    """The entities that serve; of an endpoint's first config, those that are about to."""
    config = record and (record.active or record.pending)
    return config.entities if config else ()


def _replica(replica: Replica) -> ReplicaLoad:
    usage = replica.usage()
    if usage is None:
        return ReplicaLoad(replica.id, None, None, None, None)
    return ReplicaLoad(
        replica.id, usage.pid, usage.cpu_percent, usage.memory_bytes, usage.memory_limit_bytes
    )
