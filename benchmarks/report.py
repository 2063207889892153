"""Medians of the records of a run, as Markdown: `python benchmarks/report.py FILE.jsonl ...`."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from peers import SERVERS
from targets import Medians, Point, Record, median, verdicts


def markdown(records: Sequence[Record]) -> str:
    """The tables of one run."""
    lines = [*_conditions(records), *_transfers(records)]
    medians = Medians(records)
    if medians.models():
        lines += ["", "Requests a second (p50 / p99 in ms), by rows x connections."]
    for model in medians.models():
        lines += ["", f"### {model}", "", *_loads(medians, model), "", *_starts(records, model)]
        if left_out := _left_out(records, model):
            lines += ["", *left_out]
    plain = [record for record in records if record["kind"] == "plain start"]
    if plain:
        ready, pss, rss = (median(plain, key) for key in ("ready", "pss", "rss"))
        said = f"ready after {ready:.2f} s, {pss:.0f} MiB PSS, {rss:.0f} MiB RSS"
        lines += ["", f"`lakeport serve` without a model: {said}."]
    return "\n".join([*lines, *_targets(records)])


def _conditions(records: Sequence[Record]) -> list[str]:
    lines = []
    for r in (record for record in records if record["kind"] == "run"):
        workers = f" with {r['mlflow_workers']} workers" if "mlflow_workers" in r else ""
        how = ""
        if "rounds" in r:
            how = f"{r['rounds']} rounds of {r['seconds']} s a point, medians; "
        lines.append(
            f"{r['date']}, {r['cores']} cores ({r['cpu']}), {r['memory_gib']} GiB, {r['system']}, "
            f"Python {r['python']}, Lakeport {r['lakeport']}, MLflow {r['mlflow']}{workers}, "
            f"scikit-learn {r['scikit_learn']}; {how}"
            f"load average at the start {r['load_average']:.2f}."
        )
    return lines


def _transfers(records: Sequence[Record]) -> list[str]:
    found = [record for record in records if record["kind"] == "transfer"]
    if not found:
        return []
    heads = ["meanwhile", "GB", "MB/s", "invocations/s", "p50 / p99 / max ms", "memory grew MiB"]
    return [
        "",
        f"| {' | '.join(heads)} |",
        f"| --- | {' | '.join(['---:'] * (len(heads) - 1))} |",
        *(
            f"| {r['what']} | {r['gigabytes'] or ''} | {r['rate'] or ''} "
            f"| {r['per_second']:,.0f} | {r['p50']:.2f} / {r['p99']:.2f} / {r['max']:.2f} "
            f"| {'' if r['grew'] is None else r['grew']} |"
            for r in found
        ),
    ]


def _loads(medians: Medians, model: str) -> list[str]:
    """A line for each server. What its CPU did, and by how much Lakeport is ahead, is told of one
    point."""
    places = medians.places(model)
    compared = _compared(places)
    heads = ["server", *(_place(*place) for place in places)]
    heads += [f"CPU ms ({_place(*compared)})", "Lakeport is ahead", "errors"]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    ours = medians.point(model, "lakeport", *compared)
    for server in medians.servers(model):
        points = [medians.point(model, server, *place) for place in places]
        cells = [
            f"{point.per_second:,.0f} ({point.p50:.2f} / {point.p99:.2f})" if point else ""
            for point in points
        ]
        theirs = medians.point(model, server, *compared)
        cells += [f"{theirs.cpu_ms:.3f}" if theirs else "", _ahead(ours, theirs)]
        cells.append(str(sum(point.errors for point in points if point)))
        lines.append(f"| {server} | {' | '.join(cells)} |")
    return lines


def _ahead(ours: Point | None, theirs: Point | None) -> str:
    if not ours or not theirs or ours is theirs:
        return ""
    return f"{ours.per_second / theirs.per_second:.1f} times"


def _place(rows: int, connections: int) -> str:
    asked = "1 row" if rows == 1 else f"{rows:,} rows"
    return f"{asked} x {connections}"


def _compared(places: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The point whose ratio is shown: 32 connections, or else the last one."""
    return (1, 32) if (1, 32) in places else places[-1]


def _seconds(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}"


def _starts(records: Sequence[Record], model: str) -> list[str]:
    lines = [
        "| server | first answer s | processes | PSS MiB | RSS MiB | first process PSS MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for server in SERVERS:
        found = [
            r
            for r in records
            if r["kind"] == "start" and r["model"] == model and r["server"] == server
        ]
        if found:
            lines.append(
                f"| {server} | {_seconds(median(found, 'first_answer'))} "
                f"| {median(found, 'processes'):.0f} "
                f"| {median(found, 'pss'):.0f} | {median(found, 'rss'):.0f} "
                f"| {median(found, 'first_pss'):.0f} |"
            )
    return lines


def _left_out(records: Sequence[Record], model: str) -> list[str]:
    found = [r for r in records if r["kind"] == "left out" and r["model"] == model]
    return [f"Left out: {r['server']} ({' '.join(r['reason'].split())[:200]})." for r in found]


def _targets(records: Sequence[Record]) -> list[str]:
    found = verdicts(records)
    if not found:
        return []
    return [
        "",
        "### Targets",
        "",
        "| what | target | found | met |",
        "| --- | --- | ---: | --- |",
        *(f"| {v.what} | {v.target} | {v.found} | {'yes' if v.met else 'NO'} |" for v in found),
    ]


def main() -> None:
    for name in sys.argv[1:]:
        print(markdown([json.loads(line) for line in Path(name).read_text().splitlines()]))


if __name__ == "__main__":
    main()
