"""What is counted, a served entity at a time, and how Prometheus reads it.

Names and units are those of Databricks' metrics route; three request gauges there carry the value
of the last minute although they are named `_total`. Observing costs about a microsecond, so it is
done with plain lists and not with `prometheus_client`'s locked children; `prometheus_client` writes
the text.
"""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import generate_latest

#: Upper bounds of the latency histograms, in milliseconds.
BOUNDS_MS = (
    1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000,
    300_000, 600_000,
)  # fmt: skip
WINDOW_S = 60
LABELS = ("endpoint_name", "served_entity_name")


class Histogram:
    """Counts by upper bound, in milliseconds."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_MS) + 1)
        self.sum = 0.0

    def observe(self, milliseconds: float) -> None:
        self.counts[bisect_left(BOUNDS_MS, milliseconds)] += 1
        self.sum += milliseconds

    def buckets(self) -> list[tuple[str, float]]:
        total, rows = 0, []
        for bound, count in zip((*map(str, BOUNDS_MS), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((bound, float(total)))
        return rows


@dataclass(slots=True)
class _Second:
    at: int
    requests: int = 0
    client_errors: int = 0
    server_errors: int = 0


class EntityMetrics:
    """One served entity's counters."""

    def __init__(self, endpoint: str, entity: str, clock: Callable[[], float]) -> None:
        self.endpoint = endpoint
        self.entity = entity
        self.latency = Histogram()
        self.queue = Histogram()
        self.prediction = Histogram()
        #: Since the server started, by status class: "2xx", "4xx", "5xx".
        self.totals: dict[str, int] = {}
        #: Since the server started, as the models counted them.
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._clock = clock
        self._seconds: deque[_Second] = deque()

    def observe(self, status: int, seconds: float, compute: float) -> None:
        """One request ended: its status, seconds in all, and seconds that the model computed."""
        self.latency.observe(seconds * 1000)
        self.prediction.observe(compute * 1000)
        self.queue.observe((seconds - compute) * 1000)
        kind = f"{status // 100}xx"
        self.totals[kind] = self.totals.get(kind, 0) + 1
        now = int(self._clock())
        if not self._seconds or self._seconds[-1].at != now:
            self._seconds.append(_Second(now))
            while self._seconds[0].at <= now - WINDOW_S:
                self._seconds.popleft()
        second = self._seconds[-1]
        second.requests += 1
        if status >= 500:
            second.server_errors += 1
        elif status >= 400:
            second.client_errors += 1

    def last_minute(self) -> tuple[int, int, int]:
        """Requests, those answered 4xx, those answered 5xx."""
        since = int(self._clock()) - WINDOW_S
        recent = [second for second in self._seconds if second.at > since]
        return (
            sum(second.requests for second in recent),
            sum(second.client_errors for second in recent),
            sum(second.server_errors for second in recent),
        )


@dataclass(frozen=True, slots=True)
class EntityLoad:
    """What a deployment uses now."""

    endpoint: str
    entity: str
    cpu_percent: float
    memory_percent: float
    provisioned_concurrency: int
    replicas: int


class Metrics:
    """Every served entity's counters."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._entities: dict[tuple[str, str], EntityMetrics] = {}

    def entity(self, endpoint: str, entity: str) -> EntityMetrics:
        found = self._entities.get((endpoint, entity))
        if found is None:
            found = self._entities[(endpoint, entity)] = EntityMetrics(
                endpoint, entity, self._clock
            )
        return found

    def forget(self, endpoint: str) -> None:
        """The endpoint is deleted."""
        for key in [key for key in self._entities if key[0] == endpoint]:
            del self._entities[key]

    def keep(self, endpoint: str, entities: Collection[str]) -> None:
        """The endpoint has these served entities now; what was counted of others goes."""
        for key in [k for k in self._entities if k[0] == endpoint and k[1] not in entities]:
            del self._entities[key]

    def of(self, endpoint: str | None = None) -> list[EntityMetrics]:
        return [m for (name, _), m in self._entities.items() if endpoint in (None, name)]

    def exposition(self, loads: Sequence[EntityLoad], endpoint: str | None = None) -> bytes:
        """Prometheus text of one endpoint, or of all; samples end with their time in ms."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Exposed(loads, self.of(endpoint), self._clock()))
        return generate_latest(registry)


class _Exposed:
    def __init__(
        self, loads: Sequence[EntityLoad], entities: Iterable[EntityMetrics], now: float
    ) -> None:
        self._loads = loads
        self._entities = list(entities)
        self._now = now

    def collect(self) -> Iterator[Metric]:
        seen = {(load.endpoint, load.entity) for load in self._loads}
        seen |= {(m.endpoint, m.entity) for m in self._entities}
        minutes = {(m.endpoint, m.entity): m.last_minute() for m in self._entities}
        for position, (name, text) in enumerate(
            (
                ("request_count_total", "Requests in the last minute"),
                ("request_4xx_count_total", "Requests answered 4xx in the last minute"),
                ("request_5xx_count_total", "Requests answered 5xx in the last minute"),
            )
        ):
            gauge = GaugeMetricFamily(name, text, labels=LABELS)
            for key in sorted(seen):
                gauge.add_metric(key, minutes.get(key, (0, 0, 0))[position], timestamp=self._now)
            yield gauge
        for name, text, value in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=LABELS)
            for load in self._loads:
                gauge.add_metric((load.endpoint, load.entity), value(load), timestamp=self._now)
            yield gauge
        for name, text, histogram_of in _HISTOGRAMS:
            family = HistogramMetricFamily(name, text, labels=LABELS)
            for entity in self._entities:
                histogram = histogram_of(entity)
                family.add_metric(
                    (entity.endpoint, entity.entity),
                    histogram.buckets(),
                    histogram.sum,
                    timestamp=self._now,
                )
            yield family
        tokens = CounterMetricFamily(
            "lakeport_tokens", "Tokens of chats and embeddings", labels=(*LABELS, "kind")
        )
        for entity in self._entities:
            key = (entity.endpoint, entity.entity)
            for kind, count in (
                ("prompt", entity.prompt_tokens),
                ("completion", entity.completion_tokens),
            ):
                if count:
                    tokens.add_metric((*key, kind), count, timestamp=self._now)
        if tokens.samples:
            yield tokens


_GAUGES: tuple[tuple[str, str, Callable[[EntityLoad], float]], ...] = (
    ("cpu_usage_percentage", "CPU of all replicas", lambda load: load.cpu_percent),
    ("mem_usage_percentage", "Memory, of the replicas' limit", lambda load: load.memory_percent),
    (
        "provisioned_concurrent_requests_total",
        "Requests that the replicas take at a time",
        lambda load: load.provisioned_concurrency,
    ),
)
_HISTOGRAMS: tuple[tuple[str, str, Callable[[EntityMetrics], Histogram]], ...] = (
    ("request_latency_ms", "Time from arrival to answer", lambda entity: entity.latency),
    ("model_queue_time_ms", "Time not spent in the model", lambda entity: entity.queue),
    ("model_prediction_latency_ms", "Time spent in the model", lambda entity: entity.prediction),
)
