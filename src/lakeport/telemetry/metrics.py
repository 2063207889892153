"""What is counted, a served entity at a time. `telemetry/exposition.py` writes it down.

Observing costs well under a microsecond, so it is done with plain lists and not with
`prometheus_client`'s locked children, and looks at no clock: what was so in the last minute is told
from counters that `tick` keeps once a second.
"""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection

from lakeport.telemetry import histogram
from lakeport.telemetry.histogram import FINE_S
from lakeport.telemetry.series import NOTHING, Counted, Gauges, Series

WINDOW_S = 60


class EntityMetrics:
    """One served entity's counters, since the server started."""

    __slots__ = (
        "_clock",
        "_last",
        "batches",
        "cold_seconds",
        "cold_seconds_sum",
        "cold_starts",
        "completion_tokens",
        "endpoint",
        "entity",
        "latency",
        "latency_sum",
        "prediction",
        "prediction_sum",
        "prompt_tokens",
        "queue",
        "series",
        "since",
        "statuses",
    )

    def __init__(self, endpoint: str, entity: str, clock: Callable[[], float]) -> None:
        self.endpoint = endpoint
        self.entity = entity
        #: Requests by the status that answered them.
        self.statuses: defaultdict[int, int] = defaultdict(int)
        #: Requests by FINE_S of their time in all, not in the model, in the model.
        self.latency = histogram.fine()
        self.queue = histogram.fine()
        self.prediction = histogram.fine()
        #: Seconds.
        self.latency_sum = 0.0
        self.prediction_sum = 0.0
        #: Requests that were computed, by how many shared their predict.
        self.batches = [0] * (histogram.LARGEST_BATCH + 1)
        #: As the models counted them.
        self.prompt_tokens = 0
        self.completion_tokens = 0
        #: Times that a replica was started since requests came while there was none.
        self.cold_starts = 0
        self.cold_seconds = [0] * (len(histogram.COLD_S) + 1)
        self.cold_seconds_sum = 0.0
        #: Made by the first tick.
        self.series: Series | None = None
        self.since = clock()
        self._clock = clock
        self._last = NOTHING

    def observe(self, status: int, seconds: float, compute: float, batch: int = 1) -> None:
        """One request ended: its status, seconds in all, seconds that the model computed (0: it did
        not come to that), and the requests that shared its predict, LARGEST_BATCH at most."""
        self.statuses[status] += 1
        self.latency[bisect_left(FINE_S, seconds)] += 1
        self.latency_sum += seconds
        self.prediction[bisect_left(FINE_S, compute)] += 1
        self.queue[bisect_left(FINE_S, seconds - compute)] += 1
        if compute:
            self.prediction_sum += compute
            self.batches[batch] += 1

    def cold_start(self, seconds: float) -> None:
        """A replica came `seconds` after it was asked for, with none there before."""
        self.cold_starts += 1
        self.cold_seconds[bisect_left(histogram.COLD_S, seconds)] += 1
        self.cold_seconds_sum += seconds

    def counted(self) -> Counted:
        """The counters as they are; the same as the last time, where nothing was counted since."""
        last = self._last
        tokens = self.prompt_tokens + self.completion_tokens
        if sum(self.statuses.values()) == last.requests and tokens == last.tokens:
            return last
        requests = client_errors = server_errors = 0
        for status, count in self.statuses.items():
            requests += count
            if status >= 500:
                server_errors += count
            elif status >= 400:
                client_errors += count
        self._last = Counted(requests, client_errors, server_errors, tokens, tuple(self.latency))
        return self._last

    def tick(self, gauges: Gauges) -> None:
        """Keep what is so now; once a second."""
        now = self._clock()
        if self.series is None:
            self.series = Series(max(self.since, now - 1))
        self.series.tick(now, self.counted(), gauges)

    def lately(self, seconds: float) -> tuple[Counted, float]:
        """What was counted in about the last `seconds` (60 at most), and how many they were:
        fewer, where it is younger."""
        now = self._clock()
        if self.series is None:
            return self.counted(), max(now - self.since, 1.0)
        return self.series.lately(now, self.counted(), seconds)


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

    def cold_start(self, endpoint: str, entity: str, seconds: float) -> None:
        """A replica came `seconds` after requests had asked for it, with none there before."""
        self.entity(endpoint, entity).cold_start(seconds)

    def forget(self, endpoint: str) -> None:
        """The endpoint is deleted."""
        for key in [key for key in self._entities if key[0] == endpoint]:
            del self._entities[key]

    def keep(self, endpoint: str, entities: Collection[str]) -> None:
        """The endpoint has these served entities now; what was counted of others goes."""
        for key in [k for k in self._entities if k[0] == endpoint and k[1] not in entities]:
            del self._entities[key]

    def known(self, endpoint: str, entity: str) -> EntityMetrics | None:
        """None: nothing was counted of it."""
        return self._entities.get((endpoint, entity))

    def of(self, endpoint: str | None = None) -> list[EntityMetrics]:
        return [m for (name, _), m in self._entities.items() if endpoint in (None, name)]
