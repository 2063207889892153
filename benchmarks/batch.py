"""How quick is a batch, and how much memory does it take? `python benchmarks/batch.py`.

Rows of four numbers go from a Parquet file through an iris model into another, by `lakeport batch`;
beside it some of them, one a request, through databricks-sdk, `requests` and Lakeport's own client:
the loop that people write first. Everything shares the machine with the server. The predictions
are compared with the model's own.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import servers
from models import SavedModel, save
from run import Records, Wrong, carry_out, machine

SEED = 11
#: The command, which says at its end how much memory it took at most. What `wait4` tells of a
#: child includes its parent's memory at the fork.
_COMMAND = """
import atexit, pathlib, sys
from lakeport.cli.main import main
def tell():
    status = pathlib.Path("/proc/self/status").read_text()
    print("VmHWM", status.split("VmHWM:")[1].split()[0], file=sys.stderr)
atexit.register(tell)
main()
"""
#: Rows of a file are drawn and written so many at a time.
_DRAWN = 1 << 17


@dataclass(frozen=True, slots=True)
class Workspace:
    """A server with the endpoint `model`."""

    host: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """For those that read where to go from there, and nothing else of Databricks'."""
        others = {k: v for k, v in os.environ.items() if not k.startswith("DATABRICKS_")}
        return {**others, "DATABRICKS_HOST": self.host, "DATABRICKS_TOKEN": self.token}


def main() -> int:
    args = parse_arguments()
    emit = Records(args.out)
    emit(machine())
    return carry_out(emit, lambda folder: measure(args, folder, emit), markdown)


def measure(args: argparse.Namespace, folder: Path, emit: Records) -> None:
    model = save("iris", folder)
    columns = list(model.rows.columns)
    peer = servers.lakeport(model.folder, folder / "home")
    workspace = Workspace(
        f"http://127.0.0.1:{peer.port}", peer.headers["Authorization"].removeprefix("Bearer ")
    )
    with servers.running(peer, folder) as server:
        server.wait_for_answer(model.body(1))
        for rows in args.rows:
            source, target = folder / f"in-{rows}.parquet", folder / f"out-{rows}.parquet"
            draw(columns, rows, source)
            for number in range(args.rounds):
                cpu = server.cpu_seconds()
                figures = batch(workspace, source, target)
                cpu = server.cpu_seconds() - cpu
                compare(model, target, rows)
                emit(
                    {
                        "kind": "batch",
                        "way": "lakeport batch",
                        "round": number,
                        **figures,
                        "server_cpu": round(cpu, 2),
                        "load_average": round(os.getloadavg()[0], 2),
                    }
                )
        few = draw(columns, args.naive, None).to_pylist()
        for way, open_loop in LOOPS.items():
            ask = open_loop(workspace)
            ask(few[0])
            began = time.perf_counter()
            answers = [ask(row) for row in few]
            took = time.perf_counter() - began
            if answers != predict(model, draw(columns, args.naive, None)):
                raise Wrong(f"{way}: its predictions are not the model's.")
            emit(
                {
                    "kind": "batch",
                    "way": f"{way}, row by row",
                    "rows": len(few),
                    "seconds": round(took, 2),
                    "rate": round(len(few) / took),
                    "load_average": round(os.getloadavg()[0], 2),
                }
            )


def draw(columns: list[str], rows: int, file: Path | None) -> Any:
    """The first `rows` of an endless table; written to `file`, or given back without one."""
    random = np.random.default_rng(SEED)
    schema = pa.schema([(name, pa.float64()) for name in columns])
    if file is None:
        return pa.table(dict(zip(columns, random.uniform(0, 8, (rows, 4)).T, strict=True)))
    with pq.ParquetWriter(file, schema) as writer:
        for begin in range(0, rows, _DRAWN):
            block = random.uniform(0, 8, (min(_DRAWN, rows - begin), 4)).T
            writer.write_table(pa.table(dict(zip(columns, block, strict=True))))
    return None


def batch(workspace: Workspace, source: Path, target: Path) -> dict[str, Any]:
    """One run of the command: its own figures, and what the process took at most (Linux)."""
    arguments = ["batch", "model", source, target, "--overwrite", "--quiet", "-o", "json"]
    command = [sys.executable, "-c", _COMMAND, *arguments]
    before = psutil.Process().cpu_times()
    done = subprocess.run(
        command, capture_output=True, text=True, env=workspace.environment, check=False
    )
    after = psutil.Process().cpu_times()
    if done.returncode:
        raise Wrong(f"lakeport batch ended with {done.returncode}: {done.stderr}")
    report = json.loads(done.stdout)
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return {
        "rows": report["rows"],
        "seconds": round(report["seconds"], 2),
        "rate": round(report["rows"] / report["seconds"]),
        "requests": report["requests"],
        "peak_mib": int(done.stderr.split("VmHWM")[1]) >> 10,
        "client_cpu": round(cpu, 2),
    }


def compare(model: SavedModel, target: Path, rows: int) -> None:
    """Raises Wrong when a row is missing, out of place, or has another prediction."""
    columns = list(model.rows.columns)
    found = pq.read_table(target)
    inputs = found.select(columns)
    random = np.random.default_rng(SEED)
    drawn = np.concatenate(
        [random.uniform(0, 8, (min(_DRAWN, rows - at), 4)) for at in range(0, rows, _DRAWN)]
    )
    if not np.array_equal(inputs.to_pandas().to_numpy(), drawn):
        raise Wrong("the target's rows are not the source's.")
    if found.column("prediction").to_pylist() != predict(model, inputs):
        raise Wrong("the predictions are not the model's.")


def predict(model: SavedModel, table: Any) -> list[Any]:
    import mlflow.sklearn

    loaded = mlflow.sklearn.load_model(str(model.folder))
    predictions: list[Any] = loaded.predict(table.to_pandas()).tolist()
    return predictions


# --- the loops that are written first -----------------------------------------------------------

Ask = Callable[[Mapping[str, float]], Any]


def with_sdk(workspace: Workspace) -> Ask:
    from databricks.sdk import WorkspaceClient

    client = WorkspaceClient(host=workspace.host, token=workspace.token)

    def ask(row: Mapping[str, float]) -> Any:
        [prediction] = client.serving_endpoints.query("model", dataframe_records=[row]).predictions
        return prediction

    return ask


def with_requests(workspace: Workspace) -> Ask:
    """As most examples have it: `requests.post`, which connects anew each time."""
    import requests

    def ask(row: Mapping[str, float]) -> Any:
        answer = requests.post(
            f"{workspace.host}/serving-endpoints/model/invocations",
            json={"dataframe_records": [row]},
            headers={"Authorization": f"Bearer {workspace.token}"},
            timeout=60,
        )
        answer.raise_for_status()
        [prediction] = answer.json()["predictions"]
        return prediction

    return ask


def with_client(workspace: Workspace) -> Ask:
    from lakeport import Client

    client = Client(workspace.host, workspace.token)

    def ask(row: Mapping[str, float]) -> Any:
        [prediction] = client.predict("model", records=[row]).predictions
        return prediction

    return ask


LOOPS: dict[str, Callable[[Workspace], Ask]] = {
    "databricks-sdk": with_sdk,
    "requests": with_requests,
    "lakeport.Client": with_client,
}


def markdown(records: list[dict[str, Any]]) -> str:
    heads = ["way", "rows", "rows/s", "seconds", "client's peak MiB", "client's CPU s"]
    rows = [
        f"| {r['way']} | {r['rows']:,} | {r['rate']:,} | {r['seconds']:.1f} "
        f"| {r.get('peak_mib', '')} | {r.get('client_cpu', '')} |"
        for r in records
        if r["kind"] == "batch"
    ]
    rule = f"| --- | {' | '.join(['---:'] * (len(heads) - 1))} |"
    return "\n".join([f"| {' | '.join(heads)} |", rule, *rows])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add: Any = parser.add_argument
    add("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="of the files")
    add("--naive", type=int, default=2000, help="rows for the loops")
    add("--rounds", type=int, default=1)
    add("--out", type=Path, help="file of JSON lines; otherwise a new one in benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
