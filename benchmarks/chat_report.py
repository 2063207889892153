"""Figures of chats as Markdown: `python benchmarks/chat_report.py FILE.jsonl ...`.

Differences and ratios are those of each round, in which the two stood beside each other, and then
the median of the rounds.
"""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Figure = Callable[[Record], float]

#: At MANY connections, Lakeport's rate is to be so many times that of another.
TIMES = {"litellm": 20, "mlflow-server": 20, "mlflow-gateway": 4}
MANY = 64


def markdown(records: Sequence[Record]) -> str:
    """The tables of one run of gateway.py or engine.py, and the targets that it meets."""
    parts = [_conditions(records)]
    parts += [_gateways(records), _engines(records), _memory(records), _targets(records)]
    return "\n\n".join(part for part in parts if part)


def _conditions(records: Sequence[Record]) -> str:
    r = next(record for record in records if record["kind"] == "run")
    others = f", LiteLLM {r['litellm']}, MLflow {r['mlflow']}" if "litellm" in r else ""
    engine = f", {r['engine']}" if "engine" in r else ""
    rounds = f"{r['rounds']} rounds, medians; " if r["rounds"] else ""
    return (
        f"{r['date']}, {r['cores']} cores ({r['cpu']}), {r['memory_gib']} GiB, {r['system']}, "
        f"Python {r['python']}, Lakeport {r['lakeport']}{others}{engine}; {rounds}"
        f"load average at the start {r['load_average']:.2f}."
    )


# --- gateways -----------------------------------------------------------------------------------


def _gateways(records: Sequence[Record]) -> str:
    if not _of(records, "unary"):
        return ""
    lines = _head(
        ["gateway", "1 connection: p50 / p99 ms", "added", "stream: first event p50 ms", "added",
         f"{MANY} connections: requests/s", "p50 / p99 ms", "CPU ms", "times less than Lakeport",
         "first answer s", "RSS MiB", "errors"]
    )  # fmt: skip
    for name in dict.fromkeys(r["server"] for r in _of(records, "unary")):
        one = _of(records, "unary", server=name, connections=1)
        many = _of(records, "unary", server=name, connections=MANY)
        streams = _of(records, "stream", server=name)
        added = first_added = times = weight = ""
        if name != "direct":
            p50, p99, first = (_added(records, name, of) for of in ("p50", "p99", "first"))
            added, first_added = f"{p50:.2f} / {p99:.2f}", f"{first:.2f}"
            weight = "".join(f"{r['rss']:,}" for r in _of(records, "weight", server=name))
        if name not in {"direct", "lakeport"} and _of(records, "unary", server="lakeport"):
            times = f"{_times(records, name):.1f}"
        start = "".join(f"{r['first_answer']:.1f}" for r in _of(records, "start", server=name))
        lines.append(
            f"| {name} | {_median(one, 'p50'):.2f} / {_median(one, 'p99'):.2f} | {added} "
            f"| {_median(streams, 'first_p50'):.2f} | {first_added} "
            f"| {_median(many, 'per_second'):,.0f} "
            f"| {_median(many, 'p50'):.1f} / {_median(many, 'p99'):.1f} "
            f"| {_median(many, 'cpu_ms'):.2f} | {times} | {start} | {weight} "
            f"| {sum(r['errors'] for r in one + many + streams)} |"
        )
    return "\n".join(lines)


def _added(records: Sequence[Record], name: str, what: str) -> float:
    """Milliseconds on top of a direct call over 1 connection."""
    if what == "first":
        pairs = _pairs(_of(records, "stream"), name, "direct", lambda r: r["first_p50"])
    else:
        alone = _of(records, "unary", connections=1)
        pairs = _pairs(alone, name, "direct", lambda r: r[what])
    return statistics.median(ours - plain for ours, plain in pairs)


def _times(records: Sequence[Record], rival: str) -> float:
    points = _of(records, "unary", connections=MANY)
    pairs = _pairs(points, "lakeport", rival, lambda r: r["per_second"])
    return statistics.median(ours / max(theirs, 1e-9) for ours, theirs in pairs)


def _memory(records: Sequence[Record]) -> str:
    found = _of(records, "memory")
    if not found:
        return ""
    lines = _head(["chats", "of these streams", "RSS MiB"])
    step = max(1, len(found) // 10)
    for r in [*found[:-1:step], found[-1]]:
        lines.append(f"| {r['chats'] + r['streams']:,} | {r['streams']:,} | {r['rss']} |")
    return "\n".join(lines)


# --- engines ------------------------------------------------------------------------------------


def _engines(records: Sequence[Record]) -> str:
    found = _of(records, "chats")
    if not found:
        return ""
    lines = _head(
        ["chats at a time", "engine alone tokens/s", "first token ms", "through Lakeport tokens/s",
         "first token ms", "Lakeport / alone"]
    )  # fmt: skip
    for at_once in dict.fromkeys(r["at_once"] for r in found):
        cells = [str(at_once)]
        for name in ("engine", "lakeport"):
            point = [r for r in found if r["server"] == name and r["at_once"] == at_once]
            cells += [f"{_median(point, 'per_second'):.1f}", f"{_median(point, 'first'):.0f}"]
        cells.append(f"{_share(records, at_once):.3f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _share(records: Sequence[Record], at_once: int) -> float:
    """Tokens per second through Lakeport, as a share of those of the engine alone."""
    points = _of(records, "chats", at_once=at_once)
    pairs = _pairs(points, "lakeport", "engine", lambda r: r["per_second"])
    return statistics.median(ours / alone for ours, alone in pairs)


def _batching(records: Sequence[Record], key: str) -> float:
    """Of the chats through Lakeport: all at once, as a multiple of one after another."""
    found = _of(records, "chats", server="lakeport")
    most = max(r["at_once"] for r in found)
    together = {r["round"]: r[key] for r in found if r["at_once"] == most}
    alone = {r["round"]: r[key] for r in found if r["at_once"] == 1}
    return statistics.median(float(together[number] / alone[number]) for number in together)


# --- targets ------------------------------------------------------------------------------------


def _targets(records: Sequence[Record]) -> str:
    rows: list[tuple[str, str, str, bool]] = []

    def at_most(what: str, limit: float, value: float, unit: str = "") -> None:
        rows.append((what, f"at most {limit:g}{unit}", f"{value:.2f}{unit}", value <= limit))

    def at_least(what: str, limit: float, value: float, unit: str = "") -> None:
        rows.append((what, f"at least {limit:g}{unit}", f"{value:.2f}{unit}", value >= limit))

    if _of(records, "unary", server="lakeport"):
        at_most("added to the median, 1 connection", 1, _added(records, "lakeport", "p50"), " ms")
        at_most("added to the 99th percentile", 5, _added(records, "lakeport", "p99"), " ms")
        at_most("added to a stream's first event", 1.5, _added(records, "lakeport", "first"), " ms")
        for rival, times in TIMES.items():
            if _of(records, "unary", server=rival):
                what = f"requests/s at {MANY} connections, times {rival}"
                at_least(what, times, _times(records, rival))
    if memory := _of(records, "memory"):
        warm, last = memory[0], memory[-1]
        grew = (last["rss"] / warm["rss"] - 1) * 100
        chats = sum(last[key] - warm[key] for key in ("chats", "streams"))
        at_most(f"growth of the memory over {chats:,} chats", 5, grew, " %")
    if chats_found := _of(records, "chats"):
        counts = list(dict.fromkeys(r["at_once"] for r in chats_found))
        for at_once in counts:
            at_least(f"tokens/s, {at_once} at a time: share of the engine alone", 0.97,
                     _share(records, at_once))  # fmt: skip
        if 1 in counts and len(counts) > 1:
            what = f"{max(counts)} at once beside one after another"
            at_least(f"{what}: tokens/s", 1.4, _batching(records, "per_second"))
            at_most(f"{what}: time to the first token", 0.2, _batching(records, "first"))
    if not rows:
        return ""
    lines = ["| target |  | measured | met |", "| --- | ---: | ---: | --- |"]
    lines += [f"| {a} | {b} | {c} | {'yes' if met else '**no**'} |" for a, b, c, met in rows]
    return "\n".join(lines)


# --- records ------------------------------------------------------------------------------------


def _of(records: Sequence[Record], kind: str, **fields: Any) -> list[Record]:
    return [
        r
        for r in records
        if r["kind"] == kind and all(r[name] == value for name, value in fields.items())
    ]


def _pairs(points: Sequence[Record], one: str, other: str, of: Figure) -> list[tuple[float, float]]:
    """What both measured, round by round."""
    first = {r["round"]: of(r) for r in points if r["server"] == one}
    second = {r["round"]: of(r) for r in points if r["server"] == other}
    return [(first[number], second[number]) for number in first if number in second]


def _median(records: Sequence[Record], key: str) -> float:
    return statistics.median(r[key] for r in records) if records else float("nan")


def _head(names: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(names)} |", f"| --- | {' | '.join(['---:'] * (len(names) - 1))} |"]


def main() -> None:
    for name in sys.argv[1:]:
        print(markdown([json.loads(line) for line in Path(name).read_text().splitlines()]))


if __name__ == "__main__":
    main()
