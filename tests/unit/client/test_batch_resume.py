"""Batches from file to file: runs that ended early, rows that failed, what is refused."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeport.client.batch import BatchProgress, batch_file_async
from lakeport.client.errors import InvalidInput, PermissionDenied, Unauthenticated
from tests.unit.client.asks import Asks, rows_of, total
from tests.unit.client.batch_files import ROWS, SUMS, left_by, read, run, write


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("done", [0, 3, 4, 9])
def test_a_run_that_ended_early_goes_on(tmp_path: Path, suffix: str, done: int) -> None:
    source = write(tmp_path / f"in{suffix}", ROWS)
    whole, target = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    run(Asks(total), source, whole)
    left_by(source, target, rows=done)
    assert not target.exists()
    client = Asks(total)

    report = run(client, source, target)

    assert target.read_bytes() == whole.read_bytes()
    assert report.resumed == done // 3 * 3
    assert sum(len(rows_of(body)) for body in client.bodies) == 10 - report.resumed
    assert len(list(tmp_path.iterdir())) == 3


def test_a_run_may_go_on_with_requests_of_another_size(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.parquet", ROWS), tmp_path / "out.parquet"
    left_by(source, target, rows=6)

    report = run(Asks(total), source, target, chunk_rows=4)

    assert [row["prediction"] for row in read(target)] == SUMS
    assert report.resumed == 6


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 39), unique=True, max_size=12),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_whatever_is_done_the_rest_is_done_once(
    tmp_path_factory: pytest.TempPathFactory, held: list[int], first: int, second: int
) -> None:
    """After a first run that had no answer to requests with the rows `held`."""
    folder = tmp_path_factory.mktemp("run")
    source = write(folder / "in.jsonl", [{"n": n} for n in range(40)])
    target = folder / "out.jsonl"

    async def serve(body: dict[str, Any]) -> Any:
        numbers = [row["n"] for row in rows_of(body)]
        if any(n in held for n in numbers):
            await asyncio.sleep(0.001)
            raise PermissionDenied("held", status=403)
        return await total(body)

    if held:
        with pytest.raises(PermissionDenied):
            run(Asks(serve), source, target, chunk_rows=first, concurrency=4)
    asked: list[int] = []

    async def note(body: dict[str, Any]) -> Any:
        asked.extend(row["n"] for row in rows_of(body))
        return await total(body)

    report = run(Asks(note), source, target, chunk_rows=second)

    assert [row["prediction"] for row in read(target)] == list(range(40))
    assert len(asked) == len(set(asked)) == 40 - report.resumed


def test_rows_that_failed_are_tried_again_when_asked(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv", ROWS), tmp_path / "out.csv"

    async def picky(body: dict[str, Any]) -> Any:
        for row in rows_of(body):
            row[0] = None if row[0] in (1, 2, 7) else row[0]
        return await total(body)

    first = run(Asks(picky), source, target)
    again = run(Asks(picky), source, target)
    client = Asks(total)
    last = run(client, source, target, retry_failed=True)

    assert (first.failed, again.failed, again.requests) == (3, 3, 0)
    assert [rows_of(body) for body in client.bodies] == [[[1, 0.25], [2, 0.5]], [[7, 1.75]]]
    assert (last.failed, last.requests, last.resumed) == (0, 2, 4)
    assert [float(row["prediction"]) for row in read(target)] == SUMS
    assert "error" not in read(target)[0]
    assert not (tmp_path / "out.csv.lakeport-batch").exists()


def test_a_changed_source_is_noticed(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv", ROWS), tmp_path / "out.csv"
    left_by(source, target, rows=6)
    write(source, ROWS[1:] + ROWS[:1])

    with pytest.raises(InvalidInput, match="source has changed"):
        run(Asks(total), source, target)
    report = run(Asks(total), source, target, overwrite=True)

    assert report.resumed == 0
    assert [float(row["prediction"]) for row in read(target)] == SUMS[1:] + SUMS[:1]


def test_other_params_are_another_batch(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv", ROWS), tmp_path / "out.csv"
    left_by(source, target, rows=6)

    with pytest.raises(InvalidInput, match="params"):
        run(Asks(total), source, target, params={"t": 1})


def test_a_target_is_replaced_only_when_asked(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv", ROWS), tmp_path / "out.csv"
    target.write_text("precious")

    with pytest.raises(InvalidInput, match="overwrite"):
        run(Asks(total), source, target)
    assert target.read_text() == "precious"
    run(Asks(total), source, target, overwrite=True)

    assert len(read(target)) == 10


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("in.csv", "in.csv", "target is the source"),
        ("in.csv", "out.xlsx", "out.xlsx: expected a file that ends in .parquet"),
        ("in.txt", "out.csv", "in.txt: expected"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, source: str, target: str, said: str) -> None:
    (tmp_path / source).write_text("a\n1\n")

    with pytest.raises(InvalidInput, match=said):
        run(Asks(total), tmp_path / source, tmp_path / target)


def test_a_file_that_is_not_what_its_name_says(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    source.write_text("a\n1\n")

    with pytest.raises(InvalidInput, match=r"in\.parquet"):
        run(Asks(total), source, tmp_path / "out.csv")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_column_of_the_prediction_s_name_is_refused(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path / f"in{suffix}", [{"a": 1, "prediction": 2}])
    client = Asks(total)

    with pytest.raises(InvalidInput, match="output_column"):
        run(client, source, tmp_path / "out.csv")
    assert not client.bodies
    run(client, source, tmp_path / "out.csv", output_column="sum")

    assert read(tmp_path / "out.csv") == [{"a": "1", "prediction": "2", "sum": "3"}]


def test_a_column_named_error_is_kept_beside_ours(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", [{"a": "bad", "error": 5}, {"a": 1, "error": 5}])

    run(Asks(total), source, tmp_path / "out.csv")

    assert read(tmp_path / "out.csv") == [
        {"a": "bad", "error": "5", "prediction": "", "prediction_error": "no number"},
        {"a": "1", "error": "5", "prediction": "6", "prediction_error": ""},
    ]


def test_progress_tells_of_both_halves(tmp_path: Path) -> None:
    source = write(tmp_path / "in.parquet", ROWS)
    told: list[BatchProgress] = []

    run(Asks(total), source, tmp_path / "out.parquet", progress=told.append)

    assert [p.done for p in told if p.stage == "predicting"][-1] == 10
    assert [p.done for p in told if p.stage == "writing"][-1] == 10
    assert {p.total for p in told} == {10}


async def test_an_async_batch_that_is_cancelled_keeps_what_is_done(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv", ROWS), tmp_path / "out.csv"
    hung = asyncio.Event()

    async def serve(body: dict[str, Any]) -> Any:
        if rows_of(body)[0][0] >= 6:
            hung.set()
            await asyncio.Event().wait()
        return await total(body)

    work = asyncio.create_task(
        batch_file_async(Asks(serve), "m", source, target, chunk_rows=3, concurrency=1)
    )
    await hung.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    report = await batch_file_async(Asks(total), "m", source, target, chunk_rows=3)
    assert report.resumed == 6
    assert [float(row["prediction"]) for row in read(target)] == SUMS


def test_a_failure_while_writing_leaves_no_half_of_a_target(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    late = '{"a": 1}\n' * 150 + '{"a": 1, "prediction": 5}\n'  # beyond the lines that are looked at
    source.write_text(late)
    target = tmp_path / "out.jsonl"

    with pytest.raises(InvalidInput, match="output_column"):
        run(Asks(total), source, target)

    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "in.jsonl",
        "out.jsonl.lakeport-batch",
    ]
    client = Asks(total)
    assert run(client, source, target, output_column="sum").resumed == 151
    assert not client.bodies


def test_a_journal_holds_no_headers(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.csv", ROWS), tmp_path / "out.csv"

    class Expired(Asks):
        async def query(self, name: str, data: Any = None, **options: Any) -> Any:
            assert options["headers"] == {"X-Key": "secret-1"}
            raise Unauthenticated("expired", status=401)

    with pytest.raises(Unauthenticated):
        run(Expired(total), source, target, headers={"X-Key": "secret-1"})

    assert "secret-1" not in (tmp_path / "out.csv.lakeport-batch").read_text()


@pytest.mark.parametrize("how", ["changed in place", "added to", "replaced"])
def test_a_source_that_changes_meanwhile_is_noticed(tmp_path: Path, how: str) -> None:
    source = write(tmp_path / "in.csv", ROWS)

    async def serve(body: dict[str, Any]) -> Any:
        text = source.read_text()
        if how == "replaced":
            source.rename(tmp_path / "before.csv")
        source.write_text(f"{text}7,7\n" if how == "added to" else text.replace("3,0.75", "8,8"))
        return await total(body)

    with pytest.raises(InvalidInput, match="changed while it was read"):
        run(Asks(serve), source, tmp_path / "out.csv")

    assert not (tmp_path / "out.csv").exists()
    again = run(Asks(total), source, tmp_path / "out.csv", overwrite=True)
    assert again.rows == len(read(source))


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", ROWS)
    (tmp_path / "out.csv").mkdir()
    client = Asks(total)

    with pytest.raises(InvalidInput, match="is a folder"):
        run(client, source, tmp_path / "out.csv", overwrite=True)

    assert not client.bodies


def test_a_target_that_is_a_link_stays_one(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", ROWS)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out.csv").symlink_to(tmp_path / "elsewhere" / "real.csv")

    run(Asks(total), source, tmp_path / "out.csv")

    assert (tmp_path / "out.csv").is_symlink()
    assert len(read(tmp_path / "elsewhere" / "real.csv")) == len(ROWS)


def test_rows_that_failed_together_may_be_tried_again_alone(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", ROWS)

    async def one_at_a_time(body: dict[str, Any]) -> Any:
        return {"predictions": sum(rows_of(body)[0])}

    run(Asks(one_at_a_time), source, tmp_path / "out.jsonl")
    client = Asks(one_at_a_time)
    report = run(client, source, tmp_path / "out.jsonl", chunk_rows=1, retry_failed=True)

    assert (report.failed, len(client.bodies)) == (0, 9)  # the last was alone before
    assert [row["prediction"] for row in read(tmp_path / "out.jsonl")] == SUMS
