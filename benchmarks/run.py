"""`make bench`: Lakeport beside what else could serve the same models, with the same requests.

Servers and load generator share the machine, and rounds take turns, so that the figures compare
them on this machine and on this day. docs/benchmarks.md says what they mean.
"""

import argparse
import json
import math
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

import peers
import psutil
import replicas
import servers
from installs import DEFAULT_CACHE, NotInstalled
from load import Load, NoWrk, ensure_wrk
from models import MODELS, SavedModel, save
from report import markdown

RESULTS = Path(__file__).parent / "results"
#: Rows of the request whose answer is compared with what the model itself says.
CHECKED_ROWS = 100
#: Rows of the large requests.
MANY_ROWS = 1000

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
    except (Wrong, NotInstalled, servers.NotStarted, servers.Refused) as problem:
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
    saved = {name: save(name, folder) for name in args.models}
    for name, model in saved.items():
        taking_part = [server for server in args.servers if takes_part(server, name, emit)]
        for number in range(args.rounds):
            # Whoever comes second finds a warmer machine: they take turns.
            for server in list(taking_part) if number % 2 == 0 else taking_part[::-1]:
                try:
                    measure_server(server, model, number, args, emit)
                except (Wrong, NotInstalled, servers.NotStarted, servers.Refused) as problem:
                    if server in peers.OURS:
                        raise
                    taking_part.remove(server)
                    leave_out(server, name, str(problem), emit)
    if "lakeport" in args.servers:
        for number in range(args.rounds):
            measure_plain_start(number, emit)
        if "iris" in saved and not args.no_memory:
            measure_memory(saved["iris"], emit)


def takes_part(server: str, model: str, emit: Emit) -> bool:
    if reason := peers.without(server, model):
        leave_out(server, model, reason, emit)
    return reason is None


def leave_out(server: str, model: str, reason: str, emit: Emit) -> None:
    """Of this model's rounds, those that are still to come. What it came to so far is kept."""
    emit({"kind": "left out", "server": server, "model": model, "reason": reason[-1000:]})


def measure_server(
    name: str, model: SavedModel, number: int, args: argparse.Namespace, emit: Emit
) -> None:
    """One round with one server, from its start to its end."""
    here: dict[str, Any] = {"round": number, "server": name, "model": model.name}
    with tempfile.TemporaryDirectory(prefix="lakeport-bench-") as temporary:
        folder = Path(temporary)
        concurrency = model.concurrency * peers.OURS.get(name, 1)
        provisioned = name in peers.OURS and concurrency != replicas.PER_REPLICA
        if name in peers.OURS:
            peer = servers.lakeport(None if provisioned else model.folder, folder / "home")
        else:
            peer = peers.peer(name, model, folder, args.cache)
        with servers.running(peer, folder) as server:
            if provisioned:
                server.wait_for_answer(None)
                replicas.deploy(server, model, concurrency)
                peer = server.peer
            first = server.wait_for_answer(model.body(1, peer.form))
            check(server, model)
            warmed = set()
            for rows, connections in points(args, model):
                load = Load(peer.url, peer.headers, model.body(rows, peer.form), folder)
                if rows not in warmed:
                    load.run(16 if rows == 1 else connections, args.warm_up)
                    warmed.add(rows)
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
                if figures.errors and name in peers.OURS:
                    raise Wrong(f"{name}: {figures.errors} requests were not answered with 200")
            check(server, model)
            memory = {**asdict(server.weigh()), "first_pss": server.weigh_first()}
    # With more replicas than one, the model was registered meanwhile.
    started = None if provisioned else round(first, 2)
    emit({"kind": "start", **here, "first_answer": started, **memory})


def points(args: argparse.Namespace, model: SavedModel) -> list[tuple[int, int]]:
    """Rows of a request and number of connections. A model that only waits is asked for one row."""
    many = [] if model.name == "sleep" else args.many_rows_connections
    return [(1, each) for each in args.connections] + [(MANY_ROWS, each) for each in many if each]


def check(server: servers.Running, model: SavedModel) -> None:
    """Raises Wrong where the server does not say what the model says."""
    found = predictions(server, model)
    expected = model.expected(CHECKED_ROWS)
    if len(found) != len(expected) or not all(map(_alike, found, expected)):
        raise Wrong(f"{server.peer.name}, {model.name}: its predictions are not the model's")


def _alike(found: object, expected: float) -> bool:
    return isinstance(found, int | float) and math.isclose(found, expected, abs_tol=1e-9)


def predictions(server: servers.Running, model: SavedModel) -> list[Any]:
    """For CHECKED_ROWS rows. Raises Wrong."""
    status, body = server.ask(model.body(CHECKED_ROWS, server.peer.form))
    if status != 200:
        raise Wrong(f"{server.peer.name}: {status} {body[:500]!r}")
    answer = json.loads(body)
    found: list[Any] = answer["predictions"] if isinstance(answer, dict) else answer
    return found


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


def measure_memory(model: SavedModel, emit: Emit) -> None:
    """What each replica of Lakeport after the first weighs."""
    with tempfile.TemporaryDirectory(prefix="lakeport-bench-") as temporary:
        folder = Path(temporary)
        with servers.running(servers.lakeport(None, folder / "home"), folder) as server:
            server.wait_for_answer(None)
            replicas.deploy(server, model, replicas.PER_REPLICA)
            further = replicas.weigh_further(server, model)
    emit({"kind": "replicas", "model": model.name, "further_pss": further})


def conditions(args: argparse.Namespace) -> dict[str, Any]:
    return {
        **machine(),
        "rounds": args.rounds,
        "seconds": args.seconds,
        "mlflow_workers": peers.WORKERS,
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
    everybody = list(peers.SERVERS)
    named = f"of {', '.join(everybody)}; or all"
    add("--servers", type=names_of(everybody), default=everybody, help=named)
    add("--connections", type=_numbers, default=[1, 8, 32, 128], help="for requests of one row")
    many = f"for requests of {MANY_ROWS} rows; 0: none of them"
    add("--many-rows-connections", type=_numbers, default=[4], help=many)
    add("--rounds", type=int, default=3)
    add("--seconds", type=int, default=3, help="of each point")
    add("--warm-up", type=int, default=2, help="seconds before the points of a round")
    add("--no-memory", action="store_true", help="don't weigh further replicas of Lakeport")
    add("--cache", type=Path, default=DEFAULT_CACHE, help="where the others are installed")
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
