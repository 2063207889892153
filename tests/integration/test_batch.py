"""Batches against a real server, and `lakeport batch` as it is run, stopped and killed."""

import csv
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import mlflow.sklearn
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from lakeport import AsyncClient, Client, InvalidInput, NotFound, Retry, Unauthenticated
from tests.integration.batching import CHATS, COLUMNS, Working, batch_server
from tests.integration.server import ServerProcess, closing, wait_for
from tests.models.fixtures import SavedModel

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "batch.md"
LAKEPORT = Path(sys.executable).parent / "lakeport"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, saved_model: SavedModel
) -> Iterator[ServerProcess]:
    with closing(batch_server(tmp_path_factory.mktemp("batch"), saved_model)) as made:
        made.start()
        for name in ("iris", "mixed", *CHATS):
            made.updated(name)
        yield made


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(str(server.client.base_url), server.token) as client:
        yield client


@pytest.fixture(scope="module")
def environment(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a command that talks to the server."""
    others = {k: v for k, v in os.environ.items() if not k.startswith("DATABRICKS_")}
    return {
        **others,
        "HOME": str(tmp_path_factory.mktemp("user")),
        "DATABRICKS_HOST": str(server.client.base_url),
        "DATABRICKS_TOKEN": server.token,
    }


@pytest.fixture(scope="module")
def flowers() -> pd.DataFrame:
    values = np.random.default_rng(3).uniform(0, 8, (3000, 4))
    return pd.DataFrame(values, columns=COLUMNS)


@pytest.fixture(scope="module")
def kinds(saved_model: SavedModel, flowers: pd.DataFrame) -> list[int]:
    """What the model itself predicts for them."""
    predictions: list[int] = (
        mlflow.sklearn.load_model(str(saved_model("iris"))).predict(flowers).tolist()
    )
    return predictions


def lakeport(environment: dict[str, str], *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(LAKEPORT), "batch", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=100,
        check=False,
    )


def test_rows_records_and_frames_are_predicted_in_order(
    client: Client, flowers: pd.DataFrame, kinds: list[int]
) -> None:
    rows = flowers.to_numpy().tolist()
    for items in (rows, flowers.to_dict("records"), flowers, flowers.to_numpy()):
        results = list(client.batch("iris", items, chunk_rows=170))

        assert [item.prediction for item in results] == kinds
        assert all(item.ok and item.answer and item.answer.served_entity for item in results)


def test_requests_that_the_server_finds_too_large_are_split(
    client: Client, flowers: pd.DataFrame, kinds: list[int]
) -> None:
    results = list(client.batch("iris", flowers, chunk_rows=1000))

    assert [item.prediction for item in results] == kinds


async def test_an_async_client_does_the_same(
    server: ServerProcess, flowers: pd.DataFrame, kinds: list[int], tmp_path: Path
) -> None:
    flowers.to_parquet(tmp_path / "in.parquet")
    async with AsyncClient(str(server.client.base_url), server.token) as client:
        items = client.batch("iris", flowers.to_numpy().tolist(), chunk_rows=170)
        found = [item.prediction async for item in items]
        report = await client.batch_file("iris", tmp_path / "in.parquet", tmp_path / "out.csv")

    assert found == kinds
    assert report.rows == len(kinds)
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [int(row["prediction"]) for row in csv.DictReader(file)] == kinds


def test_cells_of_a_csv_get_the_model_s_types_and_a_bad_row_fails_alone(
    client: Client, tmp_path: Path
) -> None:
    rows = [
        {
            "id": f"p{n}",
            "age": 20 + n,
            "fare": 7.5,
            "class": 1 + n % 3,
            "port": "S",
            "alone": "true",
        }
        for n in range(40)
    ]
    rows[13]["age"] = "unknown"
    source = tmp_path / "in.csv"
    with source.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)

    report = client.batch_file("mixed", source, tmp_path / "out.parquet", chunk_rows=16)

    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["id"] for row in found] == [f"p{n}" for n in range(40)]
    assert {row["prediction"] for row in found if row["error"] is None} <= {"yes", "no"}
    assert [n for n, row in enumerate(found) if row["error"]] == [13]
    assert "age" in found[13]["error"]
    assert report.failed == 1


def test_a_missing_column_is_refused_before_anything_is_sent(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text("sepal length (cm),sepal widht (cm)\n1,2\n")

    with pytest.raises(InvalidInput, match=r"did you mean sepal widht \(cm\)\?"):
        client.batch_file("iris", tmp_path / "in.csv", tmp_path / "out.csv")


def test_chats_are_asked_one_by_one(client: Client, tmp_path: Path) -> None:
    questions = [f"number {n}" for n in range(20)]
    questions[7] = "refuse me"

    items = list(client.batch("helper", questions, fields={"max_tokens": 20}))
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": q}) + "\n" for q in questions))
    client.batch_file("helper", tmp_path / "in.jsonl", tmp_path / "out.jsonl")

    expected = [f"You said {n}." for n in range(20)]
    assert [item.prediction for item in items if item.ok] == expected[:7] + expected[8:]
    assert str(items[7].error) == "I will not."
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in lines if not line["error"]] == expected[:7] + expected[
        8:
    ]
    assert lines[7] == {"text": "refuse me", "prediction": None, "error": "I will not."}


def test_a_token_that_expires_ends_it_and_another_goes_on(
    server: ServerProcess, flowers: pd.DataFrame, kinds: list[int], tmp_path: Path
) -> None:
    flowers.to_parquet(tmp_path / "in.parquet")
    asked = itertools.count()
    files = "iris", tmp_path / "in.parquet", tmp_path / "out.parquet"

    def expires() -> str:
        return server.token if next(asked) < 8 else "an-expired-token-of-someone"

    with (
        Client(str(server.client.base_url), expires) as client,
        pytest.raises(Unauthenticated) as caught,
    ):
        client.batch_file(*files, chunk_rows=100, concurrency=2)
    with Client(str(server.client.base_url), server.token) as client:
        report = client.batch_file(*files, chunk_rows=100)

    assert "an-expired-token" not in str(caught.value)
    assert 100 <= report.resumed <= 800
    assert pq.read_table(tmp_path / "out.parquet").column("prediction").to_pylist() == kinds


def test_an_endpoint_that_is_not_there(client: Client, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a\n1\n")

    with pytest.raises(NotFound):
        list(client.batch("nobody", [[1]]))
    with pytest.raises(NotFound):
        client.batch_file("nobody", tmp_path / "in.csv", tmp_path / "out.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["in.csv"]


def test_the_examples_of_the_page_run(environment: dict[str, str], tmp_path: Path) -> None:
    blocks = re.findall(r"```(python|bash)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    program = "\n".join(text for language, text in blocks if language == "python")
    commands = "set -e\n" + "".join(text for language, text in blocks if language == "bash")
    path = f"{LAKEPORT.parent}{os.pathsep}{environment['PATH']}"

    said = ""
    for command in ([sys.executable, "-c", program], ["bash", "-c", commands]):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**environment, "PATH": path},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said += done.stdout

    assert said.startswith("0 0\n1 2\n2 ")
    assert "\n1000\n" in said
    assert "\n1000 0 1\n" in said
    rows = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()]
    assert [row["again"] for row in rows] == [0, 2] * 500
    assert [row["prediction"] for row in rows] == [0, 2] * 500


# --- the command ----------------------------------------------------------------------------------


def test_the_command_tells_what_it_did(
    environment: dict[str, str], flowers: pd.DataFrame, kinds: list[int], tmp_path: Path
) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    flowers.to_parquet(source)

    first = lakeport(environment, "iris", source, target, "--rows", "170")
    again = lakeport(environment, "iris", source, target)
    over = lakeport(environment, "iris", source, target, "--overwrite", "-o", "json")

    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith(f"{target}: 3,000 rows in ")
    assert again.returncode == 1
    assert "--overwrite" in again.stderr
    assert over.returncode == 0
    assert json.loads(over.stdout)["rows"] == 3000
    assert pq.read_table(target).column("prediction").to_pylist() == kinds


def test_the_command_s_exit_codes(environment: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('"number 1"\n"refuse"\n')
    target = tmp_path / "out.jsonl"

    failed = lakeport(environment, "helper", source, target)
    missing = lakeport(environment, "nobody", source, tmp_path / "other.jsonl")
    denied = lakeport(
        {**environment, "DATABRICKS_TOKEN": "a-token-of-nobody-at-all"}, "helper", source, "x.jsonl"
    )
    usage = lakeport(environment, "helper", tmp_path / "nothing.jsonl", target)
    odd = lakeport(environment, "helper", source, tmp_path / "out.xlsx")
    nowhere = lakeport(environment, "helper", source, tmp_path / "no" / "folder" / "out.jsonl")

    assert failed.returncode == 1
    assert "Row 1: I will not." in failed.stderr
    assert "--retry-failed" in failed.stderr
    assert missing.returncode == 3
    assert missing.stderr.startswith("Error: ")
    assert denied.returncode == 4
    assert usage.returncode == 2
    assert (odd.returncode, ".parquet" in odd.stderr) == (1, True)
    assert (nowhere.returncode, "No such file" in nowhere.stderr) == (1, True)
    for done in (failed, missing, denied, usage, odd, nowhere):
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_is_taken_up(
    environment: dict[str, str],
    flowers: pd.DataFrame,
    kinds: list[int],
    tmp_path: Path,
    by: signal.Signals,
) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    flowers.to_parquet(source)
    journal = target.with_name("out.parquet.lakeport-batch")
    command = [str(LAKEPORT), "batch", "iris", str(source), str(target), "--rows", "3"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        wait_for(
            lambda: (
                process.poll() is not None
                or (journal.exists() and journal.read_bytes().count(b"\n") > 30)
            ),
            what="some requests that are done",
        )
        process.send_signal(by)
        _, said = process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if by == signal.SIGKILL else 130), said
    assert not target.exists()
    if by == signal.SIGINT:
        assert "rows are kept" in said
        assert "Traceback" not in said

    done = lakeport(environment, "iris", source, target, "-o", "json")

    report = json.loads(done.stdout)
    assert 90 <= report["resumed"] < 3000
    assert report["rows"] == 3000
    table = pq.read_table(target)
    assert table.column("prediction").to_pylist() == kinds
    assert table.drop_columns("prediction").equals(pq.read_table(source))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]


def test_a_server_that_dies_in_the_middle_is_waited_for(
    server: ServerProcess, client: Client, flowers: pd.DataFrame, kinds: list[int], tmp_path: Path
) -> None:
    flowers.to_parquet(tmp_path / "in.parquet")
    came = threading.Event()
    work = Working(
        lambda: client.batch_file(
            "iris",
            tmp_path / "in.parquet",
            tmp_path / "out.parquet",
            chunk_rows=5,
            retry=Retry(unsafe=True, attempts=100, base=0.1, cap=0.5),
            progress=lambda now: came.set() if now.done >= 100 else None,
        )
    )

    assert came.wait(60)
    server.kill()
    server.start()
    report = work.result()

    assert report.failed == 0
    assert pq.read_table(tmp_path / "out.parquet").column("prediction").to_pylist() == kinds
