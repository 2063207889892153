"""What a served entity did lately: 15 minutes by the second, 24 hours by the minute.

Fed once a second from counters, never by a request. Memory is fixed: a number of four bytes for
each column and row, about 120 KiB in all, taken when the first request has come; and up to as much
again for the counters of the last minute.
"""

import math
from array import array
from collections import deque
from dataclasses import dataclass
from operator import sub
from typing import Literal, NamedTuple

from lakeport.telemetry.histogram import fine, quantile

Range = Literal["15m", "24h"]
#: Seconds of a row, and rows.
RINGS: dict[Range, tuple[int, int]] = {"15m": (1, 900), "24h": (60, 1440)}
#: The newest counters that are kept as they were, one a second.
KEPT = 61


class Counted(NamedTuple):
    """Counters at a moment, since the server started."""

    requests: int = 0
    errors_4xx: int = 0
    errors_5xx: int = 0
    tokens: int = 0
    #: Latencies by FINE_S.
    latency: tuple[int, ...] = tuple(fine())

    def since(self, before: "Counted") -> "Counted":
        if self is before:
            return NOTHING
        return Counted(
            self.requests - before.requests,
            self.errors_4xx - before.errors_4xx,
            self.errors_5xx - before.errors_5xx,
            self.tokens - before.tokens,
            tuple(map(sub, self.latency, before.latency)),
        )


#: Shared by all seconds without a request.
NOTHING = Counted()


class Gauges(NamedTuple):
    """What is so at a moment."""

    queue: int = 0
    in_flight: int = 0
    replicas: int = 0
    cpu_percent: float = 0.0
    memory_bytes: int = 0


class Row(NamedTuple):
    """One second's or one minute's."""

    requests: float
    errors_4xx: float
    errors_5xx: float
    #: Not a number without requests.
    p50_ms: float
    p99_ms: float
    queue: float
    in_flight: float
    replicas: float
    cpu_percent: float
    memory_bytes: float
    tokens: float


@dataclass(frozen=True, slots=True)
class Columns:
    """All of one length, oldest first; None: nothing was counted at that moment."""

    #: Seconds that a row stands for.
    step: int
    #: The end of each row, seconds since the epoch.
    time: list[int]
    #: By the names of `Row`.
    values: dict[str, list[float | None]]


class Ring:
    """The newest rows of one step."""

    def __init__(self, step: int, length: int) -> None:
        self._step = step
        self._length = length
        self._times = array("q", bytes(8 * length))
        self._columns = [array("f", bytes(4 * length)) for _ in Row._fields]
        self._first = 0
        self._last = 0

    def put(self, at: int, row: Row) -> None:
        """`at`: seconds since the epoch, a multiple of the step."""
        slot = at // self._step % self._length
        self._times[slot] = at
        for column, value in zip(self._columns, row, strict=True):
            column[slot] = value
        self._first = min(self._first or at, at)
        self._last = at

    def read(self) -> Columns:
        """Up to the newest row that was put, without what came before the first."""
        begin = max(self._last - (self._length - 1) * self._step, self._first)
        times = list(range(begin, self._last + 1, self._step)) if self._last else []
        slots = [at // self._step % self._length for at in times]
        there = [self._times[slot] == at for slot, at in zip(slots, times, strict=True)]
        return Columns(
            self._step,
            times,
            {
                name: [
                    _number(column[slot]) if known else None
                    for slot, known in zip(slots, there, strict=True)
                ]
                for name, column in zip(Row._fields, self._columns, strict=True)
            },
        )


class Series:
    """One served entity's."""

    def __init__(self, at: float) -> None:
        """`at`: since when its counters count from zero, seconds since the epoch."""
        self._rings: dict[Range, Ring] = {name: Ring(*shape) for name, shape in RINGS.items()}
        self._kept: deque[tuple[float, Counted]] = deque([(at, Counted())], KEPT)
        self._minute = _Minute(_minute_of(int(at) + 1), Counted())

    def tick(self, at: float, counted: Counted, gauges: Gauges) -> None:
        """A second has passed: the row of the second that ends now. A tick that is late makes one
        row of all that came meanwhile."""
        second = int(at)
        _, last = self._kept[-1]
        self._kept.append((at, counted))
        self._rings["15m"].put(second, _row(counted.since(last), gauges))
        if self._minute.number != _minute_of(second):  # its last second had no tick
            self._end_minute(last, _minute_of(second))
        self._minute.add(gauges)
        if second % 60 == 0:
            self._end_minute(counted, self._minute.number + 1)

    def _end_minute(self, counted: Counted, next: int) -> None:
        self._rings["24h"].put(self._minute.number * 60, self._minute.row(counted))
        self._minute = _Minute(next, counted)

    def lately(self, now: float, counted: Counted, seconds: float) -> tuple[Counted, float]:
        """What was counted in about the last `seconds` (60 at most), and how many they were."""
        at, before = self._kept[0]
        for kept in reversed(self._kept):
            if kept[0] <= now - seconds:
                at, before = kept
                break
        return counted.since(before), max(now - at, 0.001)

    def columns(self, range: Range) -> Columns:
        return self._rings[range].read()


def _minute_of(second: int) -> int:
    """The minute that a second's row belongs to, numbered by its end."""
    return (second + 59) // 60


class _Minute:
    """A minute that is not over: the highest queue, in-flight count and memory of its seconds, the
    mean of their CPU, and the last count of replicas."""

    def __init__(self, number: int, began: Counted) -> None:
        self.number = number
        self._began = began
        self._ticks = 0
        self._cpu = 0.0
        self._highest = Gauges()

    def add(self, gauges: Gauges) -> None:
        self._ticks += 1
        self._cpu += gauges.cpu_percent
        highest = self._highest
        self._highest = Gauges(
            max(gauges.queue, highest.queue),
            max(gauges.in_flight, highest.in_flight),
            gauges.replicas,
            0.0,
            max(gauges.memory_bytes, highest.memory_bytes),
        )

    def row(self, counted: Counted) -> Row:
        cpu = self._cpu / max(self._ticks, 1)
        return _row(counted.since(self._began), self._highest._replace(cpu_percent=cpu))


def _row(counted: Counted, gauges: Gauges) -> Row:
    half = rare = None
    if counted.requests:
        half, rare = quantile(counted.latency, 0.5), quantile(counted.latency, 0.99)
    return Row(
        counted.requests,
        counted.errors_4xx,
        counted.errors_5xx,
        _or_nan(half),
        _or_nan(rare),
        gauges.queue,
        gauges.in_flight,
        gauges.replicas,
        gauges.cpu_percent,
        gauges.memory_bytes,
        counted.tokens,
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
