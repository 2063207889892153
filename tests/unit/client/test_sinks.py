"""Where predictions are logged."""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lakeport.client.sinks import JsonLines, LoggerSink, ParquetFiles


def record(number: int, **other: Any) -> dict[str, Any]:
    return {
        "time": "2026-01-02T03:04:05.678901+00:00",
        "endpoint": "iris",
        "served_entity": "iris-1",
        "request_id": f"r{number}",
        "client_request_id": None,
        "status": "ok",
        "error": None,
        "seconds": 0.25,
        "attempts": 1,
        "request": {"inputs": [[number]]},
        "response": {"predictions": [number]},
    } | other


def test_a_logger_gets_a_line_and_the_values(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lakeport.predictions"):
        LoggerSink().write([record(1)])

    (line,) = caplog.records
    assert json.loads(line.getMessage())["request"] == {"inputs": [[1]]}
    assert line.prediction["endpoint"] == "iris"  # type: ignore[attr-defined]


def test_json_lines_rotate_and_lose_nothing_that_is_kept(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "new" / "log.jsonl", max_bytes=1000, keep=100)

    for number in range(30):
        sink.write([record(number)])
    sink.close()

    files = sorted((tmp_path / "new").iterdir())
    assert len(files) > 3
    assert all(file.stat().st_size <= 1000 for file in files)
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    assert {json.loads(line)["request_id"] for line in lines} == {f"r{n}" for n in range(30)}


def test_json_lines_keep_as_many_files_as_they_should(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "log.jsonl", max_bytes=300, keep=2)

    for number in range(10):
        sink.write([record(number)])
    sink.close()

    assert sorted(f.name for f in tmp_path.iterdir()) == ["log.jsonl", "log.jsonl.1", "log.jsonl.2"]


def test_a_value_that_is_no_json_is_told_as_it_prints_itself(tmp_path: Path) -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd"

    sink = JsonLines(tmp_path / "log.jsonl")
    sink.write([record(1, request={"messages": [Odd()]})])
    sink.close()

    written = json.loads((tmp_path / "log.jsonl").read_text())
    assert "odd" in json.dumps(written["request"])


def test_a_full_disk_is_the_logs_to_hear_of(tmp_path: Path) -> None:
    sink = JsonLines("/dev/full")

    with pytest.raises(OSError, match="No space left"):
        sink.write([record(1)])


def test_parquet_files_begin_anew_after_so_many_rows(tmp_path: Path) -> None:
    sink = ParquetFiles(tmp_path, rows=4)

    for number in range(10):
        sink.write([record(number)])
    sink.close()

    files = sorted(tmp_path.glob("*"))
    tables = [pq.read_table(file) for file in files]
    assert [table.num_rows for table in tables] == [4, 4, 2]
    ids = [row["request_id"] for table in tables for row in table.to_pylist()]
    assert ids == [f"r{number}" for number in range(10)]
    first = tables[0].to_pylist()[0]
    assert (first["time"].year, first["seconds"]) == (2026, 0.25)
    assert json.loads(first["response"]) == {"predictions": [0]}


def test_parquet_files_begin_anew_after_so_many_seconds(tmp_path: Path) -> None:
    sink = ParquetFiles(tmp_path, seconds=0.0)

    sink.write([record(1)])

    assert len(list(tmp_path.glob("*.parquet"))) == 1


def test_a_mlflow_run_gets_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    from lakeport.client.sinks import MlflowRun

    # Not mlflow.set_tracking_uri, which would hold for the tests behind this one too.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    sink = MlflowRun(rows=2)
    sink.write([record(1), record(2)])
    sink.write([record(3)])
    sink.close()

    client = mlflow.MlflowClient()
    names = [artifact.path for artifact in client.list_artifacts(sink.run_id, "predictions")]
    assert len(names) == 2
    text = mlflow.artifacts.load_text(f"runs:/{sink.run_id}/{sorted(names)[0]}")
    assert [json.loads(line)["request_id"] for line in text.splitlines()] == ["r1", "r2"]
    assert client.get_run(sink.run_id).info.status == "FINISHED"


@pytest.mark.parametrize("bounds", [{"max_bytes": 0}, {"keep": 0}])
def test_json_lines_without_rotation_are_refused(tmp_path: Path, bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected 1 at least"):
        JsonLines(tmp_path / "log.jsonl", **bounds)


def test_processes_share_a_folder_of_parquet(tmp_path: Path) -> None:
    for number in range(20):  # as if at one moment, each with its first file
        sink = ParquetFiles(tmp_path)
        sink.write([record(number)])
        sink.close()

    assert len(list(tmp_path.glob("*.parquet"))) == 20
