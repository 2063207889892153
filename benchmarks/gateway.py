"""`make bench-gateway`: what Lakeport adds to a chat, beside other gateways.

All stand in front of the same upstream server, which answers at once (`mock_upstream.py`), get the
same requests and take turns in every round. `--memory N` asks another question, of Lakeport alone:
how much does its memory grow over N chats? docs/benchmarks.md says what the figures mean.
"""

import argparse
import contextlib
import gc
import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gateways
import psutil
import servers
import stream_load
from chat_report import markdown
from gateways import Gateway
from installs import DEFAULT_CACHE
from load import Load, NoWrk, ensure_wrk
from mock_upstream import TEXT
from run import Records, Wrong, carry_out, machine, names_of

#: Connections of the point at which rates are compared, and of the load for the memory.
MANY = 64
MEMORY_CONNECTIONS = 16
#: A point lasts until a server could answer each connection so many times, at most LONGEST seconds:
#: what is under way when it ends is not counted, which would wrong a slow one.
TURNS = 10
LONGEST = 20
#: Seconds of one load while the memory is watched, and of rest before a look at it.
SLICE = 5
REST = 1.0
#: These must answer every request; of another one, errors are shown.
FLAWLESS = ("direct", "lakeport")


def main() -> int:
    args = parse_arguments()
    try:
        ensure_wrk()
    except NoWrk as problem:
        print(problem, file=sys.stderr)
        return 2
    emit = Records(args.out)
    emit(
        {
            **machine(),
            "litellm": gateways.LITELLM,
            "mlflow": gateways.MLFLOW,
            "rounds": args.rounds if args.memory is None else 0,
            "seconds": args.seconds,
            "workers": args.workers,
        }
    )

    def work(folder: Path) -> None:
        if args.memory is None:
            measure(args, folder, emit)
        else:
            measure_memory(args.memory, folder, emit)

    return carry_out(emit, work, markdown)


def measure(args: argparse.Namespace, folder: Path, emit: Records) -> None:
    with contextlib.ExitStack() as stack:
        upstream = gateways.direct(servers.free_port())
        asked: dict[str, Gateway] = {"direct": upstream}
        if "lakeport" in args.servers:
            asked["lakeport"] = gateways.lakeport(upstream.peer.port, _within(folder, "lakeport"))
        for name, make in gateways.RIVALS.items():
            if name in args.servers:
                place = _within(folder, name)
                asked[name] = make(upstream.peer.port, place, args.cache, args.workers)
        running = {
            name: start(name, gateway, _within(folder, name), stack, emit)
            for name, gateway in asked.items()
        }
        rates = {name: warm(asked[name], folder, args) for name in asked}
        gc.disable()  # of this process, which times the streams
        for number in range(args.rounds):
            # Nobody has always the same neighbour before it.
            order = list(asked) if number % 2 == 0 else list(asked)[::-1]
            shift = number // 2 % len(order)
            order = order[shift:] + order[:shift]
            for connections in (1, MANY):
                for name in order:
                    seconds = args.seconds
                    if connections == MANY:
                        enough = math.ceil(TURNS * MANY / max(rates[name], 1))
                        seconds = max(seconds, min(enough, LONGEST))
                    here = {"round": number, "server": name, "connections": connections}
                    point = load(asked[name], running[name], folder, connections, seconds)
                    if connections == MANY:
                        rates[name] = point["per_second"]
                    emit(here | point)
            for name in order:
                figures = stream_load.load(asked[name].peer, asked[name].body(stream=True),
                                           args.seconds)  # fmt: skip
                here = {"kind": "stream", "round": number, "server": name}
                emit(here | asdict(figures))
                _flawless(name, figures.errors)
        for name, server in running.items():
            check(asked[name], server)
            emit({"kind": "weight", "server": name, **asdict(server.weigh())})


def start(
    name: str, gateway: Gateway, folder: Path, stack: contextlib.ExitStack, emit: Records
) -> servers.Running:
    """Start a gateway, until `stack` ends, and see that its answers are right."""
    server = stack.enter_context(servers.running(gateway.peer, folder))
    first = gateway.start(server)
    check(gateway, server)
    emit({"kind": "start", "server": name, "first_answer": round(first, 2)})
    return server


def check(gateway: Gateway, server: servers.Running) -> None:
    """Raises Wrong for a chat that is not the upstream server's, whole or as a stream."""
    name = gateway.peer.name
    status, said = server.ask(gateway.body())
    if status != 200 or json.loads(said)["choices"][0]["message"]["content"] != TEXT:
        raise Wrong(f"{name}: {status} {said[:500]!r}")
    status, said = server.ask(gateway.body(stream=True))
    lines = [line[5:].strip() for line in said.splitlines() if line.startswith(b"data:")]
    if status != 200 or (lines[-1:] != [b"[DONE]"] and name in FLAWLESS):
        raise Wrong(f"{name}: the stream is {status} {said[-500:]!r}")
    # `mlflow server` says no [DONE].
    events = [json.loads(line) for line in lines if line != b"[DONE]"]
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    if "".join(delta.get("content") or "" for delta in deltas) != TEXT:
        raise Wrong(f"{name}: the stream says {deltas}")


def warm(gateway: Gateway, folder: Path, args: argparse.Namespace) -> float:
    """Load it before anything counts. Requests per second over MANY connections."""
    figures = _load(gateway, folder).run(MANY, args.warm_up)
    stream_load.load(gateway.peer, gateway.body(stream=True), min(1, args.warm_up))
    return figures.per_second


def load(
    gateway: Gateway, server: servers.Running, folder: Path, connections: int, seconds: int
) -> dict[str, Any]:
    cpu = server.cpu_seconds()
    figures = _load(gateway, folder).run(connections, seconds)
    cpu = server.cpu_seconds() - cpu
    _flawless(gateway.peer.name, figures.errors)
    return {
        "kind": "unary",
        **asdict(figures),
        "seconds": seconds,
        "cpu_ms": round(cpu * 1000 / max(1, figures.requests), 3),
        "load_average": round(os.getloadavg()[0], 2),
    }


def measure_memory(chats: int, folder: Path, emit: Records) -> None:
    """The memory of Lakeport's process, warm and after `chats` more: half of them streams."""
    with contextlib.ExitStack() as stack:
        upstream = gateways.direct(servers.free_port())
        gateway = gateways.lakeport(upstream.peer.port, folder)
        start("direct", upstream, folder, stack, emit)
        start("lakeport", gateway, folder, stack, emit)
        process = _process(gateway.peer.port)
        loads = [_load(gateway, folder, stream=stream) for stream in (False, True)]
        deque(_turns(loads, max(chats // 10, 1000)), maxlen=0)  # to warm it
        for done in _turns(loads, chats):
            time.sleep(REST)
            rss = round(process.memory_info().rss / 2**20, 2)
            emit({"kind": "memory", "chats": done[0], "streams": done[1], "rss": rss})


def _turns(loads: Sequence[Load], chats: int) -> Iterator[list[int]]:
    """Hold `chats` chats or more, the same share by each of `loads`; how many, again and again."""
    done = [0] * len(loads)
    yield done
    while min(done) < chats / len(loads):
        which = done.index(min(done))
        figures = loads[which].run(MEMORY_CONNECTIONS, SLICE)
        _flawless("lakeport", figures.errors)
        done[which] += figures.requests
        yield done


def _process(port: int) -> psutil.Process:
    """The server that this process started on `port`."""
    return next(p for p in psutil.Process().children() if str(port) in p.cmdline())


def _load(gateway: Gateway, folder: Path, *, stream: bool = False) -> Load:
    place = _within(folder, f"{gateway.peer.name}-{'stream' if stream else 'unary'}")
    return Load(gateway.peer.url, _headers(gateway), gateway.body(stream=stream), place)


def _headers(gateway: Gateway) -> Mapping[str, str]:
    return gateway.peer.headers


def _flawless(name: str, errors: int) -> None:
    if errors and name in FLAWLESS:
        raise Wrong(f"{name}: {errors} requests were not answered with 200")


def _within(folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir(exist_ok=True)
    return place


def parse_arguments() -> argparse.Namespace:
    everyone = ["lakeport", *gateways.RIVALS]
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--servers", type=names_of(everyone), default=everyone, help=f"of {', '.join(everyone)}")
    add("--rounds", type=int, default=5)
    add("--seconds", type=int, default=3, help="of each point; more for a slow server")
    add("--warm-up", type=int, default=3, help="seconds for each server before the rounds")
    add("--workers", type=int, default=1, help="processes of each of the other gateways")
    add("--cache", type=Path, default=DEFAULT_CACHE, help="where these are installed")
    add(
        "--memory",
        type=int,
        nargs="?",
        const=100_000,
        metavar="N",
        help="instead: how much Lakeport's memory grows over N chats (100,000)",
    )
    add("--out", type=Path, help="file of JSON lines; otherwise a new one in benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
