"""Batches from file to file: every pairing of formats, what is sent of a row, types."""

import asyncio
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakeport.client.errors import InvalidInput
from lakeport.client.signature import Column, Signature
from tests.unit.client.asks import Asks, rows_of, total
from tests.unit.client.batch_files import AB, ROWS, SUMS, read, run, write


@pytest.mark.parametrize("into", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("of", [".parquet", ".csv", ".jsonl"])
def test_every_pairing_of_formats(tmp_path: Path, of: str, into: str) -> None:
    source = write(tmp_path / f"in{of}", ROWS)
    target = tmp_path / f"out{into}"

    report = run(Asks(total), source, target)

    expected: list[dict[str, Any]] = [
        {**row, "prediction": sum_} for row, sum_ in zip(ROWS, SUMS, strict=True)
    ]
    if into == ".csv":
        assert read(target) == [{k: str(v) for k, v in row.items()} for row in expected]
    else:
        assert read(target) == expected
    assert (report.rows, report.failed, report.resumed) == (10, 0, 0)
    assert sorted(file.name for file in tmp_path.iterdir()) == [source.name, target.name]


@pytest.mark.parametrize("into", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("of", [".parquet", ".csv", ".jsonl"])
def test_a_bad_row_alone_has_an_error(tmp_path: Path, of: str, into: str) -> None:
    rows = [{"a": str(n) if of == ".parquet" else n} for n in range(10)]
    rows[4] = {"a": "bad"}

    async def serve(body: dict[str, Any]) -> Any:
        for row in rows_of(body):
            for place, value in enumerate(row if isinstance(row, list) else []):
                row[place] = int(value) if str(value).isdigit() else value
        return await total(body)

    source, target = write(tmp_path / f"in{of}", rows), tmp_path / f"out{into}"

    report = run(Asks(serve), source, target)

    found = read(target)
    assert [str(row["prediction"]) for row in found if row["error"] in (None, "")] == list(
        "012356789"
    )
    assert found[4]["error"] == "no number"
    assert found[4]["prediction"] in (None, "")
    assert report.errors == ((4, "no number"),)
    assert report.failed == 1


def test_parquet_types_are_kept(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([2**40, None, 3], pa.int64()),
            "at": pa.array([datetime(2026, 1, 2, tzinfo=UTC)] * 3, pa.timestamp("ns", "UTC")),
            "nanos": pa.array([1, 2, None], pa.timestamp("ns")),
            "money": pa.array([Decimal("1.10"), None, Decimal("2.00")], pa.decimal128(10, 2)),
            "raw": pa.array([b"\x00\xff", b"", None]),
            "nested": pa.array([{"x": [1, None]}, None, {"x": []}]),
            "word": pa.array(["a", "b", "a"]).dictionary_encode(),
            "day": pa.array([0, 1, None], pa.date32()),
        },
    ).replace_schema_metadata({"who": "me"})
    pq.write_table(table, tmp_path / "in.parquet")

    async def serve(body: dict[str, Any]) -> Any:
        return {"predictions": [1.5] * len(rows_of(body))}

    run(Asks(serve), tmp_path / "in.parquet", tmp_path / "out.parquet", chunk_rows=2)

    found = pq.read_table(tmp_path / "out.parquet")
    original = pq.read_table(tmp_path / "in.parquet")
    assert found.drop_columns("prediction").equals(original)
    assert found.schema.metadata[b"who"] == b"me"
    assert found.column("prediction").to_pylist() == [1.5] * 3


def test_what_parquet_holds_is_written_to_the_others(tmp_path: Path) -> None:
    table = pa.table(
        {
            "at": pa.array([1], pa.timestamp("us")),
            "raw": pa.array([b"\xff"]),
            "nested": pa.array([{"x": [1]}]),
            "gone": pa.array([None], pa.string()),
            "length": pa.array([1], pa.duration("s")),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")

    async def serve(body: dict[str, Any]) -> Any:
        return {"predictions": [[1, 2]] * len(rows_of(body))}

    one = Signature((Column("gone", "string", required=False),))
    run(Asks(serve, signature=one), tmp_path / "in.parquet", tmp_path / "out.jsonl")
    run(Asks(serve, signature=one), tmp_path / "in.parquet", tmp_path / "out.csv")

    assert read(tmp_path / "out.jsonl") == [
        {
            "at": "1970-01-01T00:00:00.000001",
            "raw": "/w==",
            "nested": {"x": [1]},
            "gone": None,
            "length": "0:00:01",
            "prediction": [1, 2],
        }
    ]
    assert read(tmp_path / "out.csv") == [
        {
            "at": "1970-01-01T00:00:00.000001",
            "raw": "/w==",
            "nested": '{"x":[1]}',
            "gone": "",
            "length": "0:00:01",
            "prediction": "[1,2]",
        }
    ]


def test_only_the_signature_s_columns_are_sent_in_its_order(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", [{"id": "x7", "b": 0.5, "a": 2}])
    client = Asks(total, signature=AB)

    run(client, source, tmp_path / "out.csv")

    assert client.bodies == [{"dataframe_split": {"columns": ["a", "b"], "data": [[2, 0.5]]}}]
    assert read(tmp_path / "out.csv") == [{"id": "x7", "b": "0.5", "a": "2", "prediction": "2.5"}]


def test_a_missing_column_is_named_before_anything_is_sent(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", [{"A": 1, "b": 2}])
    client = Asks(total, signature=Signature((Column("aa", "long"), Column("b", "double"))))

    with pytest.raises(InvalidInput, match=r"no column aa.*Its columns are A, b"):
        run(client, source, tmp_path / "out.csv")

    assert not client.bodies


def test_a_csv_keeps_its_cells_as_they_are_written(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text('\ufeffa,"b, c"\n007,"x\ny"\n1.50,"say ""so"""\n\n,\n', encoding="utf-8")

    async def serve(body: dict[str, Any]) -> Any:
        return {"predictions": [json.dumps(row) for row in rows_of(body)]}

    run(Asks(serve), source, tmp_path / "out.csv")

    assert read(tmp_path / "out.csv") == [
        {"a": "007", "b, c": "x\ny", "prediction": '["007", "x\\ny"]'},
        {"a": "1.50", "b, c": 'say "so"', "prediction": '[1.5, "say \\"so\\""]'},
        {"a": "", "b, c": "", "prediction": "[null, null]"},
    ]


def test_rows_that_cannot_be_read_fail_alone(tmp_path: Path) -> None:
    ragged = tmp_path / "in.csv"
    ragged.write_text("a,b\n1,2\n3\n4,5,6\n7,8\n")
    broken = tmp_path / "in.jsonl"
    broken.write_text('{"a": 1}\nnope\n\n[5, 6]\n7\n{"a": 2}\n')

    run(Asks(total), ragged, tmp_path / "out.csv")
    run(Asks(total), broken, tmp_path / "out.jsonl")

    assert [(row["prediction"], row["error"]) for row in read(tmp_path / "out.csv")] == [
        ("3", ""),
        ("", "Expected 2 cells, found 1."),
        ("", "Expected 2 cells, found 3."),
        ("15", ""),
    ]
    assert read(tmp_path / "out.jsonl") == [
        {"a": 1, "prediction": 1, "error": None},
        {"input": "nope", "prediction": None, "error": "The line is not JSON."},
        {"input": [5, 6], "prediction": 11, "error": None},
        {"input": 7, "prediction": 7, "error": None},
        {"a": 2, "prediction": 2, "error": None},
    ]


def test_a_jsonl_line_is_kept_to_the_letter(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"a": 1.0, "long": 123456789012345678901234567890, "u": "\\u00e9"}\n{}\n')

    async def serve(body: dict[str, Any]) -> Any:
        return {"predictions": [0] * len(rows_of(body))}

    run(Asks(serve), source, tmp_path / "out.jsonl", chunk_rows=1)

    assert (tmp_path / "out.jsonl").read_text() == (
        '{"a": 1.0, "long": 123456789012345678901234567890, "u": "\\u00e9","prediction":0}\n'
        '{"prediction":0}\n'
    )


@pytest.mark.parametrize(
    ("predictions", "kind", "written"),
    [
        ([1, 2.5, None], "double", [1.0, 2.5, None]),
        ([None, None, None], "string", [None] * 3),
        ([1, "x", None], "string", ["1", "x", None]),
        ([True, 1, [2]], "string", ["true", "1", "[2]"]),
        ([{"a": 1}, {"b": 2.5}, None], "struct<a: int64, b: double>",
         [{"a": 1, "b": None}, {"a": None, "b": 2.5}, None]),
        ([{}, {"a": 1}, {}], "struct<a: int64>", [{"a": None}, {"a": 1}, {"a": None}]),
        ([{}, {}, {}], "string", ["{}"] * 3),
        ([[], [1], [2.5]], "list<item: double>", [[], [1.0], [2.5]]),
        ([math.inf, 1, -2], "double", [math.inf, 1.0, -2.0]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunk_rows", [1, 3])
def test_predictions_get_one_type(
    tmp_path: Path, predictions: list[Any], kind: str, written: list[Any], chunk_rows: int
) -> None:
    source = write(tmp_path / "in.parquet", [{"a": n} for n in range(3)])

    async def serve(body: dict[str, Any]) -> Any:
        return {"predictions": [predictions[row[0]] for row in rows_of(body)]}

    run(Asks(serve), source, tmp_path / "out.parquet", chunk_rows=chunk_rows)

    column = pq.read_table(tmp_path / "out.parquet").column("prediction")
    assert str(column.type).replace("element:", "item:") == kind
    assert column.to_pylist() == written


def test_columns_of_jsonl_and_csv_get_types_in_parquet(tmp_path: Path) -> None:
    jsonl = tmp_path / "in.jsonl"
    jsonl.write_text('{"a": 1, "s": "x"}\n{"a": 2.5, "n": [1]}\n')
    table = tmp_path / "in.csv"
    table.write_text("n,code,mixed\n1,007,1.50\n2,008,x\n")

    async def serve(body: dict[str, Any]) -> Any:
        return {"predictions": [0] * len(rows_of(body))}

    run(Asks(serve), jsonl, tmp_path / "a.parquet")
    run(Asks(serve), table, tmp_path / "b.parquet")

    assert read(tmp_path / "a.parquet") == [
        {"a": 1.0, "s": "x", "n": None, "prediction": 0},
        {"a": 2.5, "s": None, "n": [1], "prediction": 0},
    ]
    assert read(tmp_path / "b.parquet") == [
        {"n": 1, "code": "007", "mixed": "1.50", "prediction": 0},
        {"n": 2, "code": "008", "mixed": "x", "prediction": 0},
    ]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_file_without_rows(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"in{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"a": pa.array([], pa.int64())}), source)
    else:
        source.write_text("a\n" if suffix == ".csv" else "")

    report = run(Asks(total), source, tmp_path / f"out{suffix}")

    assert report.rows == 0
    assert read(tmp_path / f"out{suffix}") == []


def test_missing_numbers_are_null(tmp_path: Path) -> None:
    source = write(tmp_path / "in.parquet", [{"a": math.nan, "b": 1.0}, {"a": 2.0, "b": None}])
    client = Asks(lambda body: asyncio.sleep(0, {"predictions": [1, 2]}))

    run(client, source, tmp_path / "out.parquet")

    assert rows_of(client.bodies[0]) == [[None, 1.0], [2.0, None]]


def test_wide_rows_travel_in_smaller_requests(tmp_path: Path) -> None:
    rows = [{"a": "x" * 1000, "n": n} for n in range(50)]

    async def serve(body: dict[str, Any]) -> Any:
        return {
            "predictions": [row["n"] if isinstance(row, dict) else row[1] for row in rows_of(body)]
        }

    for suffix in (".parquet", ".csv", ".jsonl"):
        client = Asks(serve)
        source = write(tmp_path / f"in{suffix}", rows)

        run(client, source, tmp_path / f"out{suffix}", chunk_rows=1000, chunk_bytes=10_000)

        assert [int(row["prediction"]) for row in read(tmp_path / f"out{suffix}")] == list(
            range(50)
        )
        assert max(len(rows_of(body)) for body in client.bodies) <= 10
        assert len(client.bodies) <= 10


def test_a_cell_with_a_line_end_of_old_stays_one_cell(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(b'a,b\n"x\ry",1\n"p\r\nq",2\n')

    run(Asks(first), source, tmp_path / "out.csv")

    written = [(row["a"], row["prediction"]) for row in read(tmp_path / "out.csv")]
    assert written == [("x\ry", "x\ry"), ("p\r\nq", "p\r\nq")]


@pytest.mark.parametrize("values", [[2**53 + 1, 0, 0, 0.5], [0.5, 0, 0, 2**53 + 1]])
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"k": [v]}])
def test_numbers_that_no_type_of_parquet_holds_are_text(
    tmp_path: Path, values: list[float], wrap: Callable[[float], Any]
) -> None:
    source = write(tmp_path / "in.jsonl", [{"a": wrap(value)} for value in values])

    run(Asks(first), source, tmp_path / "out.parquet")

    texts = [json.dumps(wrap(value), separators=(",", ":")) for value in values]
    assert [row["prediction"] for row in read(tmp_path / "out.parquet")] == texts


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_names_that_only_a_late_line_has(tmp_path: Path, kind: str) -> None:
    rows: list[dict[str, Any]] = [{"a": n} for n in range(120)]
    source = write(tmp_path / "in.jsonl", [*rows, {"a": 1, "error": "mine"}, {"a": "no number"}])
    target = tmp_path / f"out.{kind}"

    run(Asks(total, signature=Signature((Column("a", "long"),))), source, target)

    *_, late, failed = read(target)
    assert (late["error"], str(late["prediction"])) == ("mine", "1")
    assert "no number" in failed["prediction_error"]
    assert not failed.get("error")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_late_prediction_of_the_source_s_own_is_refused(tmp_path: Path, kind: str) -> None:
    rows: list[dict[str, Any]] = [{"a": n} for n in range(120)]
    source = write(tmp_path / "in.jsonl", [*rows, {"a": 1, "prediction": "mine"}])
    client = Asks(total, signature=Signature((Column("a", "long"),)))

    with pytest.raises(InvalidInput, match="'prediction' already"):
        run(client, source, tmp_path / f"out.{kind}")
    report = run(client, source, tmp_path / f"out.{kind}", output_column="guess")

    assert (report.rows, report.requests) == (121, 0)


def test_a_parquet_file_without_columns_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({}), tmp_path / "in.parquet")

    with pytest.raises(InvalidInput, match="expected columns"):
        run(Asks(total), tmp_path / "in.parquet", tmp_path / "out.csv")


async def first(body: dict[str, Any]) -> Any:
    rows = rows_of(body)
    return {"predictions": [(list(r.values()) if isinstance(r, dict) else r)[0] for r in rows]}
