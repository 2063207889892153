"""Counters as Prometheus' text.

An endpoint's are named and measured as on Databricks' metrics route; three request gauges there
carry the value of the last minute although they are named `_total`. The server's own text has the
same for every endpoint, and what is named `lakeport_` and `process_` besides.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psutil
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest

from lakeport.telemetry import histogram
from lakeport.telemetry.metrics import WINDOW_S, EntityMetrics

LABELS = ("endpoint_name", "served_entity_name")

#: The queue was full, or the wait too long.
REFUSED = 429

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What a replica used when it was last looked at; None: it was not yet."""

    id: str
    pid: int | None
    #: Of one core.
    cpu_percent: float | None
    memory_bytes: int | None
    memory_limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class EntityLoad:
    """What a served entity uses now."""

    endpoint: str
    entity: str
    provisioned_concurrency: int
    queue: int
    in_flight: int
    #: Whether it has a GPU.
    gpu: bool = False
    replicas: Sequence[ReplicaLoad] = ()

    @property
    def key(self) -> Key:
        return self.endpoint, self.entity

    @property
    def cpu_percent(self) -> float:
        return sum(replica.cpu_percent or 0.0 for replica in self.replicas)

    @property
    def memory_bytes(self) -> int:
        return sum(replica.memory_bytes or 0 for replica in self.replicas)

    @property
    def memory_percent(self) -> float:
        """Of the replicas' limit; 0 where there is none."""
        limit = sum(replica.memory_limit_bytes or 0 for replica in self.replicas)
        return 100 * self.memory_bytes / limit if limit else 0.0


def of_endpoint(
    loads: Sequence[EntityLoad], entities: Sequence[EntityMetrics], now: float
) -> bytes:
    """One endpoint's metrics; samples end with their time, `now`, in milliseconds."""
    return _written([*_databricks(loads, entities, now), *_tokens(entities, now)])


def of_server(
    loads: Sequence[EntityLoad], entities: Sequence[EntityMetrics], *, loop_lag: float
) -> bytes:
    """All endpoints' metrics and the server's own; the samples are of the moment of the scrape.

    `loop_lag`: seconds by which the event loop was late, at most, in the last minute.
    """
    return _written(
        [
            *_databricks(loads, entities, None),
            *_tokens(entities, None),
            *_requests(entities),
            *_cold_starts(entities),
            *_now(loads),
            *_server(loop_lag),
        ]
    )


class _Collected:
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def _written(families: Sequence[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    return generate_latest(registry)


def _databricks(
    loads: Sequence[EntityLoad], entities: Sequence[EntityMetrics], at: float | None
) -> Iterator[Metric]:
    minutes = {load.key: (0, 0, 0) for load in loads}
    for entity in entities:
        counted, _ = entity.lately(WINDOW_S)
        minutes[(entity.endpoint, entity.entity)] = counted[:3]
    for position, (name, text) in enumerate(_REQUESTS):
        gauge = GaugeMetricFamily(name, text, labels=LABELS)
        for key, minute in sorted(minutes.items()):
            gauge.add_metric(key, minute[position], timestamp=at)
        yield gauge
    for name, text, value in _GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=LABELS)
        for load in loads:
            gauge.add_metric(load.key, value(load), timestamp=at)
        yield gauge
    for name, text in _GPU_GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=LABELS)
        for load in loads:
            if not load.gpu:
                gauge.add_metric(load.key, 0.0, timestamp=at)
        yield gauge
    for name, text, counts_of, sum_of in _HISTOGRAMS:
        family = HistogramMetricFamily(name, text, labels=LABELS)
        for entity in entities:
            family.add_metric(
                (entity.endpoint, entity.entity),
                histogram.shown(counts_of(entity)),
                sum_of(entity) * 1000,
                timestamp=at,
            )
        yield family


def _tokens(entities: Sequence[EntityMetrics], at: float | None) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "lakeport_tokens", "Tokens of chats and embeddings", labels=(*LABELS, "kind")
    )
    for entity in entities:
        for kind, count in (
            ("prompt", entity.prompt_tokens),
            ("completion", entity.completion_tokens),
        ):
            if count:
                family.add_metric((entity.endpoint, entity.entity, kind), count, timestamp=at)
    if family.samples:
        yield family


def _requests(entities: Sequence[EntityMetrics]) -> Iterator[Metric]:
    answered = CounterMetricFamily(
        "lakeport_requests", "Requests, by the status that answered them", labels=(*LABELS, "code")
    )
    batches = HistogramMetricFamily(
        "lakeport_batch_size",
        "Requests that were computed, by how many shared their predict",
        labels=LABELS,
    )
    for entity in entities:
        key = (entity.endpoint, entity.entity)
        # One that is watched for is there before it happens first: a rate needs a sample before.
        for status in sorted({REFUSED, *entity.statuses}):
            answered.add_metric((*key, str(status)), entity.statuses.get(status, 0))
        sizes = entity.batches
        batches.add_metric(
            key, histogram.batches(sizes), sum(size * count for size, count in enumerate(sizes))
        )
    yield answered
    yield batches


def _cold_starts(entities: Sequence[EntityMetrics]) -> Iterator[Metric]:
    starts = CounterMetricFamily(
        "lakeport_cold_starts", "Starts from zero replicas, for requests that came", labels=LABELS
    )
    seconds = HistogramMetricFamily(
        "lakeport_cold_start_seconds", "From the first such request to a replica", labels=LABELS
    )
    for entity in entities:
        key = (entity.endpoint, entity.entity)
        starts.add_metric(key, entity.cold_starts)
        buckets = histogram.by_bounds(histogram.COLD_S, entity.cold_seconds)
        seconds.add_metric(key, buckets, entity.cold_seconds_sum)
    yield starts
    yield seconds


def _now(loads: Sequence[EntityLoad]) -> Iterator[Metric]:
    for name, text, value in _OWN_GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=LABELS)
        for load in loads:
            gauge.add_metric(load.key, value(load))
        yield gauge
    for name, text, used in _REPLICA_GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=(*LABELS, "replica"))
        for load in loads:
            for replica in load.replicas:
                if (found := used(replica)) is not None:
                    gauge.add_metric((*load.key, replica.id), found)
        yield gauge


def _server(loop_lag: float) -> Iterator[Metric]:
    """The server's process, under the names that Prometheus' own libraries use."""
    yield GaugeMetricFamily(
        "lakeport_event_loop_lag_seconds",
        "How late the server's event loop was, at most, in the last minute",
        value=loop_lag,
    )
    process = psutil.Process()
    with process.oneshot():
        times, memory = process.cpu_times(), process.memory_info()
        yield CounterMetricFamily(
            "process_cpu_seconds", "CPU of the server's process", value=times.user + times.system
        )
        yield GaugeMetricFamily(
            "process_resident_memory_bytes", "Memory of the server's process", value=memory.rss
        )
        yield GaugeMetricFamily(
            "process_start_time_seconds", "Start of the server", value=process.create_time()
        )
        yield GaugeMetricFamily(
            "process_open_fds", "Open files of the server's process", value=process.num_fds()
        )


_REQUESTS = (
    ("request_count_total", "Requests in the last minute"),
    ("request_4xx_count_total", "Requests answered 4xx in the last minute"),
    ("request_5xx_count_total", "Requests answered 5xx in the last minute"),
)
_GAUGES: tuple[tuple[str, str, Callable[[EntityLoad], float]], ...] = (
    ("cpu_usage_percentage", "CPU of all replicas", lambda load: load.cpu_percent),
    ("mem_usage_percentage", "Memory, of the replicas' limit", lambda load: load.memory_percent),
    (
        "provisioned_concurrent_requests_total",
        "Requests that the replicas take at a time",
        lambda load: load.provisioned_concurrency,
    ),
)
#: Two names of one thing are in use. What a GPU does is not measured: one that is used shows none.
_GPU_GAUGES = (
    ("gpu_usage_percentage", "GPU: 0 without one, not measured with one"),
    ("gpu_mem_usage_percentage", "GPU memory: 0 without a GPU, not measured with one"),
    ("gpu_memory_usage_percentage", "The same as gpu_mem_usage_percentage"),
)
_HISTOGRAMS: tuple[
    tuple[str, str, Callable[[EntityMetrics], Sequence[int]], Callable[[EntityMetrics], float]],
    ...,
] = (
    (
        "request_latency_ms",
        "Time from arrival to answer",
        lambda entity: entity.latency,
        lambda entity: entity.latency_sum,
    ),
    (
        "model_queue_time_ms",
        "Time not spent in the model",
        lambda entity: entity.queue,
        lambda entity: entity.latency_sum - entity.prediction_sum,
    ),
    (
        "model_prediction_latency_ms",
        "Time spent in the model",
        lambda entity: entity.prediction,
        lambda entity: entity.prediction_sum,
    ),
)
_OWN_GAUGES: tuple[tuple[str, str, Callable[[EntityLoad], float]], ...] = (
    ("lakeport_replicas", "Replicas that are ready", lambda load: len(load.replicas)),
    ("lakeport_queue_length", "Requests that wait for a replica", lambda load: load.queue),
    (
        "lakeport_requests_in_flight",
        "Requests that replicas hold",
        lambda load: load.in_flight,
    ),
)
_REPLICA_GAUGES: tuple[tuple[str, str, Callable[[ReplicaLoad], float | None]], ...] = (
    (
        "lakeport_replica_cpu_percent",
        "CPU of a replica, of one core",
        lambda replica: replica.cpu_percent,
    ),
    (
        "lakeport_replica_memory_bytes",
        "Resident memory of a replica",
        lambda replica: replica.memory_bytes,
    ),
    (
        "lakeport_replica_memory_limit_bytes",
        "Memory that a replica may use; 0: no limit",
        lambda replica: replica.memory_limit_bytes,
    ),
)
