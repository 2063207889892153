"""A million rows from Parquet to Parquet: every row right and in its place, memory bounded."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow.sklearn
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.server import ServerProcess, closing
from tests.models.fixtures import SavedModel

ROWS = 1_000_000
#: MiB that the client may take for these beyond what a tenth of them takes.
GROWTH = 64
COLUMNS = [f"{part} {size} (cm)" for part in ("sepal", "petal") for size in ("length", "width")]
#: The command; at its end it says how much memory it took at most. What a parent learns of that
#: includes the parent's own memory at the fork.
COMMAND = """
import atexit, pathlib, sys
from lakeport.cli.main import main
def tell():
    status = pathlib.Path("/proc/self/status").read_text()
    print("VmHWM", status.split("VmHWM:")[1].split()[0], file=sys.stderr)
atexit.register(tell)
main()
"""

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.fixture
def server(tmp_path: Path, saved_model: SavedModel) -> Iterator[ServerProcess]:
    made = ServerProcess(
        tmp_path / "home", registry="off", env_manager="local", models={"iris": saved_model("iris")}
    )
    with closing(made):
        made.start()
        made.updated("iris")
        yield made


def test_a_million_rows(server: ServerProcess, saved_model: SavedModel, tmp_path: Path) -> None:
    drawn = np.random.default_rng(5).uniform(0, 8, (ROWS, 4))
    few, many = tmp_path / "few.parquet", tmp_path / "many.parquet"
    for file, rows in ((few, ROWS // 10), (many, ROWS)):
        columns = dict(zip(COLUMNS, drawn[:rows].T, strict=True))
        pq.write_table(pa.table(columns), file, row_group_size=100_000)

    little = batch(server, few, tmp_path / "few-out.parquet")
    peak = batch(server, many, tmp_path / "many-out.parquet")

    found = pq.read_table(tmp_path / "many-out.parquet")
    assert found.drop_columns("prediction").equals(pq.read_table(many))
    model = mlflow.sklearn.load_model(str(saved_model("iris")))
    expected = model.predict(pd.DataFrame(drawn, columns=COLUMNS))
    assert np.array_equal(found.column("prediction").to_numpy(), expected)
    assert peak - little < GROWTH, f"{little} MiB for a tenth, {peak} MiB for all"


def batch(server: ServerProcess, source: Path, target: Path) -> int:
    """Run the command; the MiB that it took at most."""
    arguments = ["batch", "iris", str(source), str(target), "-q", "-o", "json"]
    others = {k: v for k, v in os.environ.items() if not k.startswith("DATABRICKS_")}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        capture_output=True,
        text=True,
        env={
            **others,
            "DATABRICKS_HOST": str(server.client.base_url),
            "DATABRICKS_TOKEN": server.token,
        },
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["failed"] == 0
    print(f"{report['rows']} rows, {report['seconds']} s")
    return int(done.stderr.split("VmHWM")[1]) >> 10
