"""Medians of the records of a run, as Markdown: `python benchmarks/report.py FILE.jsonl ...`."""

import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
_PEERS = ("mlflow", "lakeport")


def markdown(records: Sequence[Record]) -> str:
    """The tables of one run."""
    lines = [*_conditions(records), *_transfers(records)]
    for model in _distinct(record["model"] for record in records if record["kind"] == "load"):
        lines += ["", f"### {model}", "", *_loads(records, model), "", *_starts(records, model)]
    plain = [record for record in records if record["kind"] == "plain start"]
    if plain:
        ready, pss, rss = (_median(plain, key) for key in ("ready", "pss", "rss"))
        said = f"ready after {ready:.2f} s, {pss:.0f} MiB PSS, {rss:.0f} MiB RSS"
        lines += ["", f"`lakeport serve` without a model: {said}."]
    return "\n".join(lines)


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


def _loads(records: Sequence[Record], model: str) -> list[str]:
    found = [r for r in records if r["kind"] == "load" and r["model"] == model]
    heads = [
        "rows",
        "connections",
        "MLflow requests/s",
        "p50 / p99 ms",
        "CPU ms",
        "Lakeport requests/s",
        "p50 / p99 ms",
        "CPU ms",
        "times MLflow",
        "errors",
    ]
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join(['---:'] * len(heads))} |"]
    for rows, connections in _distinct((r["rows"], r["connections"]) for r in found):
        cells = [str(rows), str(connections)]
        speed = {}
        errors = 0
        for peer in _PEERS:
            point = [
                r
                for r in found
                if (r["server"], r["rows"], r["connections"]) == (peer, rows, connections)
            ]
            if not point:
                cells += ["", "", ""]
                continue
            speed[peer] = _median(point, "per_second")
            errors += sum(r["errors"] for r in point)
            cells += [
                f"{speed[peer]:,.0f}",
                f"{_median(point, 'p50'):.2f} / {_median(point, 'p99'):.2f}",
                f"{_median(point, 'cpu_ms'):.2f}",
            ]
        both = len(speed) == len(_PEERS)
        cells += [f"{speed['lakeport'] / speed['mlflow']:.1f}" if both else "", str(errors)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _starts(records: Sequence[Record], model: str) -> list[str]:
    lines = [
        "| server | first answer s | processes | PSS MiB | RSS MiB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for peer in _PEERS:
        found = [
            r
            for r in records
            if r["kind"] == "start" and r["model"] == model and r["server"] == peer
        ]
        if found:
            lines.append(
                f"| {peer} | {_median(found, 'first_answer'):.1f} "
                f"| {_median(found, 'processes'):.0f} "
                f"| {_median(found, 'pss'):.0f} | {_median(found, 'rss'):.0f} |"
            )
    return lines


def _median(records: Sequence[Record], key: str) -> float:
    """NaN where the value could not be measured."""
    values = [record[key] for record in records if record[key] is not None]
    return statistics.median(values) if values else float("nan")


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def main() -> None:
    for name in sys.argv[1:]:
        print(markdown([json.loads(line) for line in Path(name).read_text().splitlines()]))


if __name__ == "__main__":
    main()
