"""From records to a table and to what was reached."""

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def load(
    server: str, per_second: float, *, rows: int = 1, connections: int = 32, **more: Any
) -> Any:
    figures = {"p50": 1.0, "p99": 2.0, "cpu_ms": 0.1, "errors": 0, "model": "iris", **more}
    here = {"kind": "load", "server": server, "rows": rows, "connections": connections}
    return {**here, "per_second": per_second, **figures}


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `benchmarks/targets.py` finds, as a dict by what it is about and beside whom."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    targets = importlib.import_module("targets")

    def found(*records: Any) -> dict[tuple[str, str], tuple[str, bool]]:
        return {(v.what, v.target): (v.found, v.met) for v in targets.verdicts(records)}

    return found


def test_medians_of_the_rounds_are_compared(verdicts: Any) -> None:
    rounds = [load("lakeport", each) for each in (100, 2000, 9000)]

    found = verdicts(*rounds, load("mlflow", 100), load("kserve", 400), load("litserve", 300))

    assert found["iris, 32 connections, beside mlflow", "at least 20 times"] == (
        "20.00 times",
        True,
    )
    beside = "iris, 32 connections, beside the best of the frameworks, kserve"
    assert found[beside, "at least 6 times"] == ("5.00 times", False)


def test_what_was_not_measured_is_not_judged(verdicts: Any) -> None:
    assert verdicts(load("mlflow", 100), load("lean", 9)) == {}
    assert verdicts(load("lakeport", 100, model="mixed")) == {}
    assert verdicts(load("lakeport", 100), load("mlflow", 0)) == {}


def test_one_connection_is_judged_by_its_median(verdicts: Any) -> None:
    found = verdicts(
        load("lakeport", 2000, connections=1, p50=0.45),
        load("fastapi", 2000, connections=1, p50=0.3),
        load("kserve", 2000, connections=1, p50=0.6),
        load("lean", 2000, connections=1, p50=0.2),
    )

    assert found == {
        ("iris, 1 connection, p50", "under 0.5 ms"): ("0.45 ms", True),
        ("iris, 1 connection, p50", "below every framework, the best is kserve"): (
            "0.45 ms beside 0.60 ms",
            True,
        ),
        ("iris, 1 connection, p50", "at most 2 times lean's"): ("2.25 times", False),
    }


def test_many_rows_and_memory(verdicts: Any) -> None:
    start = {"kind": "start", "server": "lakeport", "model": "iris", "first_pss": 100}
    further = {"kind": "replicas", "model": "iris", "further_pss": 80.0}

    found = verdicts(
        load("lakeport", 500, rows=1000, connections=4),
        load("lakeport-2", 900, rows=1000, connections=4),
        load("fastapi-tuned-2", 600, rows=1000, connections=4),
        start,
        further,
    )

    assert found == {
        ("iris, 1,000 rows, 4 connections", "above every peer, the best is fastapi-tuned-2"): (
            "0.83 times",
            False,
        ),
        (
            "iris, 1,000 rows, 4 connections, 2 replicas",
            "above every peer, the best is fastapi-tuned-2",
        ): ("1.50 times", True),
        ("server process, PSS", "under 150 MB"): ("105 MB", True),
        ("each further replica of iris, PSS", "under 60 MB"): ("84 MB", False),
    }


def test_the_table_has_a_line_for_each_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    report = importlib.import_module("report")

    said = report.markdown(
        [
            load("mlflow", 100),
            load("lakeport", 2500),
            load("lakeport", 500, rows=1000, connections=4),
            {"kind": "left out", "server": "ray", "model": "iris", "reason": "does not\nstart"},
        ]
    )

    assert "| server | 1 row x 32 | 1,000 rows x 4 |" in said
    assert "| lakeport | 2,500 (1.00 / 2.00) | 500 (1.00 / 2.00) | 0.100 |  | 0 |" in said
    assert "| mlflow | 100 (1.00 / 2.00) |  | 0.100 | 25.0 times | 0 |" in said
    assert "Left out: ray (does not start)." in said
    assert "| iris, 32 connections, beside mlflow | at least 20 times | 25.00 times | yes |" in said
