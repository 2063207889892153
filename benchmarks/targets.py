"""What Lakeport wants to reach, and whether a run did: pure functions of its records."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import peers

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Point:
    """Medians of one server's rounds at one point."""

    per_second: float
    p50: float
    p99: float
    cpu_ms: float
    errors: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Verdict:
    what: str
    target: str
    found: str
    met: bool


class Medians:
    """The points of a run by model, server, rows and connections.

    A round in which a server answered nothing in time says nothing of its times, and is left out.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        rounds: dict[tuple[str, str, int, int], list[Record]] = {}
        for r in records:
            if r["kind"] == "load" and r["per_second"]:
                key = (r["model"], r["server"], r["rows"], r["connections"])
                rounds.setdefault(key, []).append(r)
        self._points = {
            key: Point(
                per_second=median(found, "per_second"),
                p50=median(found, "p50"),
                p99=median(found, "p99"),
                cpu_ms=median(found, "cpu_ms"),
                errors=sum(r["errors"] for r in found),
                rounds=len(found),
            )
            for key, found in rounds.items()
        }

    def point(self, model: str, server: str, rows: int, connections: int) -> Point | None:
        return self._points.get((model, server, rows, connections))

    def models(self) -> list[str]:
        return list(dict.fromkeys(key[0] for key in self._points))

    def places(self, model: str) -> list[tuple[int, int]]:
        """Rows and connections that were measured with a model."""
        return list(dict.fromkeys(key[2:] for key in self._points if key[0] == model))

    def servers(self, model: str) -> list[str]:
        """Those that were measured with a model, in the order of peers.SERVERS."""
        found = {key[1] for key in self._points if key[0] == model}
        return [server for server in peers.SERVERS if server in found]

    def best(
        self, model: str, servers: Sequence[str], rows: int, connections: int
    ) -> tuple[str, Point] | None:
        """The one with the most requests a second."""
        found = [
            (server, point)
            for server in servers
            if (point := self.point(model, server, rows, connections))
        ]
        return max(found, key=lambda pair: pair[1].per_second, default=None)


def median(records: Sequence[Record], key: str) -> float:
    """NaN where the value could not be measured."""
    values = [record[key] for record in records if record.get(key) is not None]
    return statistics.median(values) if values else math.nan


#: Requests of one row over 32 connections: so many times those of the others, by model.
TIMES: dict[str, dict[str, float]] = {
    "iris": {"mlflow": 20, "frameworks": 6, "fastapi-tuned-2": 2, "lean": 0.5},
    "forest": {"mlflow": 20, "peers": 4},
    "xgboost": {"mlflow": 40, "peers": 5},
    "mixed": {"mlflow": 8},
    "python-rows": {"mlflow": 8},
    "python": {"mlflow": 3},
}
_GROUPS = {"frameworks": peers.FRAMEWORKS, "peers": peers.PEERS}


def verdicts(records: Sequence[Record]) -> list[Verdict]:
    """For each target that the records say something about."""
    medians = Medians(records)
    found: list[Verdict] = []
    for model in medians.models():
        for other, times in TIMES.get(model, {}).items():
            found += _times(medians, model, other, times)
    found += _waiting(medians) + _alone(medians) + _crowd(medians)
    for model in medians.models():
        found += _many_rows(medians, model)
    return found + _memory(records)


def _times(medians: Medians, model: str, other: str, times: float) -> list[Verdict]:
    ours = medians.point(model, "lakeport", 1, 32)
    best = medians.best(model, _GROUPS.get(other, (other,)), 1, 32)
    if ours is None or best is None:
        return []
    name, theirs = best
    ratio = ours.per_second / theirs.per_second
    named = f"the best of the {other}, {name}" if other in _GROUPS else name
    what = f"{model}, 32 connections, beside {named}"
    return [Verdict(what, f"at least {times:g} times", f"{ratio:.2f} times", ratio >= times)]


def _waiting(medians: Medians) -> list[Verdict]:
    ours = medians.point("sleep", "lakeport", 1, 32)
    if ours is None:
        return []
    target, found = "at least 1,440 requests/s", f"{ours.per_second:,.0f} requests/s"
    return [Verdict("sleep, 32 connections", target, found, ours.per_second >= 1440)]


def _alone(medians: Medians) -> list[Verdict]:
    """The small classifier over one connection."""
    ours = medians.point("iris", "lakeport", 1, 1)
    if ours is None:
        return []
    what = "iris, 1 connection, p50"
    found = [Verdict(what, "under 0.5 ms", f"{ours.p50:.2f} ms", ours.p50 < 0.5)]
    others = [
        (point.p50, name)
        for name in peers.FRAMEWORKS
        if (point := medians.point("iris", name, 1, 1))
    ]
    if others:
        best, name = min(others)
        beside = f"{ours.p50:.2f} ms beside {best:.2f} ms"
        target = f"below every framework, the best is {name}"
        found.append(Verdict(what, target, beside, ours.p50 < best))
    if lean := medians.point("iris", peers.LIMIT, 1, 1):
        ratio = ours.p50 / lean.p50
        found.append(Verdict(what, "at most 2 times lean's", f"{ratio:.2f} times", ratio <= 2))
    return found


def _crowd(medians: Medians) -> list[Verdict]:
    ours = medians.point("iris", "lakeport", 1, 128)
    if ours is None:
        return []
    what = "iris, 128 connections, p99"
    return [Verdict(what, "under 20 ms", f"{ours.p99:.1f} ms", ours.p99 < 20)]


def _many_rows(medians: Medians, model: str) -> list[Verdict]:
    """With one replica, and with as many as the others have processes."""
    best = medians.best(model, peers.PEERS, 1000, 4)
    found = []
    for server, count in peers.OURS.items():
        ours = medians.point(model, server, 1000, 4)
        if ours is None or best is None:
            continue
        name, theirs = best
        ratio = ours.per_second / theirs.per_second
        replicas = "" if count == 1 else f", {count} replicas"
        what = f"{model}, 1,000 rows, 4 connections{replicas}"
        target = f"above every peer, the best is {name}"
        found.append(Verdict(what, target, f"{ratio:.2f} times", ratio > 1))
    return found


def _memory(records: Sequence[Record]) -> list[Verdict]:
    """In the MB that the targets are written in."""
    ours = [r for r in records if r.get("server") == "lakeport" and r.get("model") == "iris"]
    started = [r for r in ours if r["kind"] == "start"]
    further = [r for r in records if r["kind"] == "replicas"]
    found = []
    checks: list[tuple[str, Sequence[Record], str, float]] = [
        ("server process, PSS", started, "first_pss", 150),
        ("each further replica of iris, PSS", further, "further_pss", 60),
    ]
    for what, of, key, limit in checks:
        size = median(of, key) * 2**20 / 1e6
        if not math.isnan(size):
            found.append(Verdict(what, f"under {limit:g} MB", f"{size:.0f} MB", size < limit))
    return found
