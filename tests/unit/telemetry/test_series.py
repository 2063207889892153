"""What was so lately, from counters that are looked at once a second."""

import math
import random

from lakeport.telemetry.histogram import FINE_MS, FINE_S, SHOWN_MS, batches, fine, quantile, shown
from lakeport.telemetry.metrics import Metrics
from lakeport.telemetry.series import Counted, Gauges, Range, Row, Series

#: The first second of a minute.
MINUTE = 1_000_000 * 60
QUIET = Gauges(replicas=1, memory_bytes=2**30)


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def column(series: Series, range: Range, name: str) -> dict[int, float | None]:
    """Values by the second in which their row ends."""
    columns = series.columns(range)
    return dict(zip(columns.time, columns.values[name], strict=True))


# --- histograms ---------------------------------------------------------------------------------


def test_every_bound_that_is_shown_is_one_that_is_counted_by() -> None:
    assert set(SHOWN_MS) <= set(FINE_MS)
    assert list(FINE_MS) == sorted(set(FINE_MS))


def test_what_is_shown_adds_up() -> None:
    counts = fine()
    for milliseconds in (0.05, 0.1, 0.3, 1, 1.2, 700, 600_001):
        counts[next((at for at, b in enumerate(FINE_MS) if milliseconds <= b), -1)] += 1

    rows = dict(shown(counts))

    assert rows["0.1"] == 2
    assert rows["0.25"] == 2
    assert rows["0.5"] == 3
    assert rows["1"] == 4
    assert rows["500"] == 5
    assert rows["1000"] == 6
    assert rows["600000"] == 6
    assert rows["+Inf"] == 7


def test_quantiles_are_near_those_of_the_times_themselves() -> None:
    draw = random.Random(7)
    metrics = Metrics(clock=lambda: 5.0).entity("iris", "iris-1")
    times = sorted(draw.lognormvariate(-6, 0.7) for _ in range(5000))
    for seconds in times:
        metrics.observe(200, seconds, seconds / 2)

    for fraction in (0.5, 0.9, 0.99):
        found = quantile(metrics.latency, fraction)
        true = times[int(fraction * len(times))] * 1000
        assert found is not None
        assert abs(found - true) / true < 0.15, (fraction, found, true)


def test_quantiles_at_the_edges() -> None:
    beyond = fine()
    beyond[-1] = 3
    smallest = fine()
    smallest[0] = 1

    assert quantile(fine(), 0.5) is None
    assert quantile(beyond, 0.5) == 600_000
    assert quantile(smallest, 1.0) == 0.05


def test_batches_are_counted_by_size() -> None:
    counts = [0] * 128
    for size, count in ((1, 5), (3, 6), (64, 7), (127, 1)):
        counts[size] = count

    rows = dict(batches(counts))

    assert rows == {
        "1": 5, "2": 5, "4": 11, "8": 11, "16": 11, "32": 11, "64": 18, "+Inf": 19,
    }  # fmt: skip


# --- series -------------------------------------------------------------------------------------


def test_a_second_has_what_came_in_it() -> None:
    series = Series(MINUTE)
    latency = fine()
    latency[FINE_S.index(0.002)] = 4
    series.tick(MINUTE + 1.001, Counted(4, 1, 2, 30, tuple(latency)), Gauges(3, 2, 1, 50.0, 4096))
    series.tick(MINUTE + 2.001, Counted(4, 1, 2, 30, tuple(latency)), QUIET)

    columns = series.columns("15m")

    assert columns.step == 1
    assert columns.time == [MINUTE + 1, MINUTE + 2]
    assert columns.values == {
        "requests": [4, 0],
        "errors_4xx": [1, 0],
        "errors_5xx": [2, 0],
        "p50_ms": [1.75, None],
        "p99_ms": [columns.values["p99_ms"][0], None],
        "queue": [3, 0],
        "in_flight": [2, 0],
        "replicas": [1, 1],
        "cpu_percent": [50, 0],
        "memory_bytes": [4096, 2**30],
        "tokens": [30, 0],
    }
    assert 1.9 < (columns.values["p99_ms"][0] or 0) <= 2


def test_a_minute_sums_requests_and_keeps_the_highest_queue() -> None:
    series = Series(MINUTE)
    for second in range(1, 121):
        busy = Gauges(queue=second % 60, in_flight=2, replicas=1, cpu_percent=second % 2 * 100.0)
        series.tick(MINUTE + second, Counted(requests=10 * second), busy)

    assert column(series, "24h", "requests") == {MINUTE + 60: 600, MINUTE + 120: 600}
    assert column(series, "24h", "queue") == {MINUTE + 60: 59, MINUTE + 120: 59}
    assert column(series, "24h", "cpu_percent") == {MINUTE + 60: 50, MINUTE + 120: 50}


def test_a_minute_whose_last_second_was_missed_has_its_row() -> None:
    series = Series(MINUTE)
    series.tick(MINUTE + 59, Counted(requests=7), QUIET)
    series.tick(MINUTE + 63, Counted(requests=9), QUIET)
    series.tick(MINUTE + 120, Counted(requests=9), QUIET)

    assert column(series, "24h", "requests") == {MINUTE + 60: 7, MINUTE + 120: 2}
    assert column(series, "15m", "requests") == {
        MINUTE + 59: 7, MINUTE + 60: None, MINUTE + 61: None, MINUTE + 62: None, MINUTE + 63: 2,
        **dict.fromkeys(range(MINUTE + 64, MINUTE + 120)), MINUTE + 120: 0,
    }  # fmt: skip


def test_only_the_newest_rows_are_kept() -> None:
    series = Series(MINUTE)
    for second in range(1, 2001):
        series.tick(MINUTE + second, Counted(requests=second * (second + 1) // 2), QUIET)

    rows = column(series, "15m", "requests")

    assert list(rows) == list(range(MINUTE + 1101, MINUTE + 2001))
    assert all(count == at - MINUTE for at, count in rows.items())
    assert len(column(series, "24h", "requests")) == 33


def test_a_clock_that_is_set_back_does_no_harm() -> None:
    series = Series(MINUTE)
    for second in range(1, 200):
        series.tick(MINUTE + second, Counted(requests=second), QUIET)
    for second in range(100, 130):
        series.tick(MINUTE + second, Counted(requests=100 + second), QUIET)

    rows = column(series, "15m", "requests")

    assert max(rows) == MINUTE + 129
    assert rows[MINUTE + 129] == 1


def test_rows_say_null_and_not_a_number_without_requests() -> None:
    series = Series(MINUTE)
    series.tick(MINUTE + 1, Counted(), QUIET)

    values = series.columns("15m").values

    assert not any(math.isnan(v) for row in values.values() for v in row if v is not None)
    assert list(values) == list(Row._fields)


# --- lately -------------------------------------------------------------------------------------


def test_the_last_minute_needs_no_clock_while_requests_come() -> None:
    clock = Clock(MINUTE)
    entity = Metrics(clock).entity("iris", "iris-1")
    for second in range(1, 101):
        for status in (200, 200, 404, 503):
            entity.observe(status, 0.001, 0.0005)
        clock.now = MINUTE + second
        entity.tick(QUIET)
    entity.observe(429, 0.001, 0.0)

    minute, seconds = entity.lately(60)

    assert (minute.requests, minute.errors_4xx, minute.errors_5xx) == (241, 61, 60)
    assert seconds == 60
    assert entity.lately(10)[0].requests == 41


def test_a_young_entity_counts_what_it_has() -> None:
    clock = Clock(MINUTE)
    entity = Metrics(clock).entity("iris", "iris-1")
    entity.observe(200, 0.001, 0.0005)

    assert entity.lately(60)[0].requests == 1
    clock.now += 2
    entity.tick(QUIET)
    assert entity.lately(60)[0].requests == 1
    clock.now += 61
    for _ in range(70):
        clock.now += 1
        entity.tick(QUIET)
    assert entity.lately(60)[0].requests == 0
