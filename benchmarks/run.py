"""`make bench`: Lakeport beside `mlflow models serve`, the same models, the same requests.

Server and load generator share the machine, and rounds take turns, so that the figures compare the
two on this machine and on this day. docs/benchmarks.md says what they mean.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import servers
from load import Load, NoWrk, ensure_wrk
from models import MODELS, SavedModel, save
from report import markdown

RESULTS = Path(__file__).parent / "results"
#: Rows of the request whose answer both servers must give alike.
CHECKED_ROWS = 100

Emit = Callable[[dict[str, Any]], None]


class Wrong(Exception):
    """A server's answers are not what they must be: the figures would mean nothing."""


def main() -> int:
    args = parse_arguments()
    try:
        ensure_wrk()
    except NoWrk as problem:
        print(problem, file=sys.stderr)
        return 2
    emit = Records(args.out)
    emit(conditions(args))
    return carry_out(emit, lambda folder: measure(args, folder, emit), markdown)


def carry_out(
    emit: "Records", work: Callable[[Path], None], markdown: Callable[[list[dict[str, Any]]], str]
) -> int:
    """Do `work` in a folder of its own, then print its tables; returns the exit code."""
    try:
        with tempfile.TemporaryDirectory(prefix="lakeport-bench-") as folder:
            work(Path(folder))
    except (Wrong, servers.NotStarted) as problem:
        print(problem, file=sys.stderr)
        return 1
    print(markdown(emit.records))
    print(f"written to {emit.file}", file=sys.stderr)
    return 0


class Records:
    """What was measured: told as it comes, and written to a file of JSON lines.

    `file` None: a new one in RESULTS.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file or RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.records: list[dict[str, Any]] = []

    def __call__(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        with self.file.open("a") as out:
            out.write(json.dumps(record) + "\n")
        if record["kind"] != "run":
            print(" ".join(f"{k}={v}" for k, v in record.items() if k != "kind"), file=sys.stderr)


def measure(args: argparse.Namespace, folder: Path, emit: Emit) -> None:
    for name in args.models:
        model = save(name, folder)
        expected: dict[str, Any] = {}
        for number in range(args.rounds):
            # Whoever comes second finds a warmer machine: they take turns.
            order = args.servers if number % 2 == 0 else args.servers[::-1]
            for server in order:
                answer = measure_server(server, model, number, args, emit)
                if expected.setdefault("answer", answer) != answer:
                    raise Wrong(f"{name}: the servers' predictions differ in round {number}.")
    if "lakeport" in args.servers:
        for number in range(args.rounds):
            measure_plain_start(number, emit)


def measure_server(
    name: str, model: SavedModel, number: int, args: argparse.Namespace, emit: Emit
) -> Any:
    """One round with one server, from its start to its end. Returns its checked predictions."""
    here: dict[str, Any] = {"round": number, "server": name, "model": model.name}
    with tempfile.TemporaryDirectory(prefix="lakeport-bench-") as temporary:
        folder = Path(temporary)
        peer = (
            servers.mlflow(model.folder, args.mlflow_workers)
            if name == "mlflow"
            else servers.lakeport(model.folder, folder / "home")
        )
        with servers.running(peer, folder) as server:
            first = server.wait_for_answer(model.body(1))
            before = predictions(server, model)
            for rows in args.rows:
                load = Load(peer.url, peer.headers, model.body(rows), folder)
                load.run(16, args.warm_up)
                for connections in args.connections:
                    cpu = server.cpu_seconds()
                    figures = load.run(connections, args.seconds)
                    cpu = server.cpu_seconds() - cpu
                    emit(
                        {
                            "kind": "load",
                            **here,
                            "rows": rows,
                            "connections": connections,
                            **asdict(figures),
                            "cpu_ms": round(cpu * 1000 / max(1, figures.requests), 3),
                            "load_average": round(os.getloadavg()[0], 2),
                        }
                    )
                    if figures.errors:
                        raise Wrong(f"{name}: {figures.errors} requests were not answered with 200")
            if predictions(server, model) != before:
                raise Wrong(f"{name}: its predictions changed under load")
            memory = asdict(server.weigh())
    emit({"kind": "start", **here, "first_answer": round(first, 2), **memory})
    return before


def measure_plain_start(number: int, emit: Emit) -> None:
    """How long `lakeport serve` without a model takes until it says that it is ready."""
    with tempfile.TemporaryDirectory(prefix="lakeport-bench-") as temporary:
        folder = Path(temporary)
        with servers.running(servers.lakeport(None, folder / "home"), folder) as server:
            ready = server.wait_for_line("Lakeport is ready")
            status, _ = server.ask(None)
            if status != 200:
                raise Wrong(f"lakeport: says that it is ready, and /health says {status}")
            memory = asdict(server.weigh())
    emit({"kind": "plain start", "round": number, "ready": round(ready, 2), **memory})


def predictions(server: servers.Running, model: SavedModel) -> Any:
    status, body = server.ask(model.body(CHECKED_ROWS))
    if status != 200:
        raise Wrong(f"{server.peer.name}: {status} {body[:500]!r}")
    return json.loads(body)["predictions"]


def conditions(args: argparse.Namespace) -> dict[str, Any]:
    return {
        **machine(),
        "rounds": args.rounds,
        "seconds": args.seconds,
        "mlflow_workers": args.mlflow_workers,
    }


def machine() -> dict[str, Any]:
    """Where and when a run is made, and with what."""
    return {
        "kind": "run",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": len(psutil.Process().cpu_affinity())
        if sys.platform == "linux"
        else os.cpu_count(),
        "cpu": _cpu(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{
            name.replace("-", "_"): version(name)
            for name in ("lakeport", "mlflow", "scikit-learn", "uvicorn")
        },
        "load_average": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # no Linux
    return platform.processor() or platform.machine()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--models", type=names_of(MODELS), default=["iris"], help=f"of {', '.join(MODELS)}; or all")
    add("--servers", type=names_of(("mlflow", "lakeport")), default=["mlflow", "lakeport"])
    add("--connections", type=_numbers, default=[1, 8, 32, 128])
    add("--rows", type=_numbers, default=[1], help="rows of a request")
    add("--rounds", type=int, default=3)
    add("--seconds", type=int, default=3, help="of each point")
    add("--warm-up", type=int, default=2, help="seconds before the points of a round")
    add("--mlflow-workers", type=int, default=2)
    add("--out", type=Path, help="file of JSON lines; otherwise a new one in benchmarks/results")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """For an argument of names with commas; `all` is all of `known`."""

    def names(text: str) -> list[str]:
        found = list(known) if text == "all" else text.split(",")
        if unknown := set(found) - set(known):
            raise argparse.ArgumentTypeError(f"{sorted(unknown)} is not of {list(known)}")
        return found

    return names


if __name__ == "__main__":
    sys.exit(main())
