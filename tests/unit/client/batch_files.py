"""Files that batches read and write in tests, and runs between them."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakeport.client.batch import BatchReport, batch_file
from lakeport.client.errors import Unauthenticated
from lakeport.client.signature import Column, Signature
from tests.unit.client.asks import Asks, rows_of, total

ROWS = [{"a": n, "b": n / 4} for n in range(10)]
SUMS = [row["a"] + row["b"] for row in ROWS]
AB = Signature((Column("a", "long"), Column("b", "double")))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A file of `rows`, as its name has it."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(client: Asks, source: Path, target: Path, **options: Any) -> BatchReport:
    return batch_file(client, "m", source, target, **{"chunk_rows": 3, **options})


def left_by(source: Path, target: Path, *, rows: int) -> None:
    """What a run leaves that ends after some rows."""
    done = 0

    async def serve(body: dict[str, Any]) -> Any:
        nonlocal done
        done += len(rows_of(body))
        if done > rows:
            raise Unauthenticated("the token has expired", status=401)
        return await total(body)

    with pytest.raises(Unauthenticated):
        run(Asks(serve), source, target, concurrency=1)
