"""`make bench-engine`: a hosted model through Lakeport beside its engine alone.

The engine alone is Lakeport's own, asked at its unix socket while Lakeport is halted. Both ways
take turns with chats of the same kind and length. docs/benchmarks.md says what the figures mean.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import servers
from chat_report import markdown
from installs import DEFAULT_CACHE
from run import Records, Wrong, carry_out, machine

MODEL = "system.ai.smollm2-135m-instruct"
ENDPOINT = "llm"
#: People who chat in one measurement, each once.
PEOPLE = 8
#: Seconds for one chat.
LIMIT = 300.0

_BIN = Path(sys.executable).parent
_SOCKET = re.compile(r'[^"\s=]+\.sock')


@dataclass(frozen=True, slots=True)
class Place:
    """Where chats are answered: at a port of this machine or a unix socket."""

    name: str
    path: str
    headers: Mapping[str, str]
    port: int = 0
    socket: str = ""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.socket:
            return await asyncio.open_unix_connection(self.socket)
        return await asyncio.open_connection("127.0.0.1", self.port)


def main() -> int:
    args = parse_arguments()
    emit = Records(args.out)
    about = {"rounds": args.rounds, "tokens": args.tokens, "people": PEOPLE}
    emit({**machine(), **about, "engine": _engine_version()})

    def work(folder: Path) -> None:
        home = folder / "home"
        shutil.copytree(fetched(args.cache), home / "weights")
        through = lakeport(home)
        with servers.running(through, folder) as server:
            server.wait_for_answer(json.dumps(_chat("Hi", 1)).encode())
            front, socket = processes(through)
            places = [
                Place("engine", "/v1/chat/completions", {}, socket=socket),
                Place("lakeport", through.path, through.headers, port=through.port),
            ]
            asyncio.run(measure(args, places, front, emit))

    return carry_out(emit, work, markdown)


def fetched(cache: Path) -> Path:
    """The folder with the model's weights, fetched into `cache` at the first run."""
    home = cache / "home"
    command = [str(_BIN / "lakeport"), "models", "pull", MODEL, "--home", str(home)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return home / "weights"


def lakeport(home: Path) -> servers.Peer:
    port, token = servers.free_port(), secrets.token_hex(16)
    return servers.Peer(
        "lakeport",
        [str(_BIN / "lakeport"), "serve", "--home", str(home), "--port", str(port),
         "--chat", f"{ENDPOINT}={MODEL}"],
        port,
        "/serving-endpoints/chat/completions",
        {"LAKEPORT_ADMIN_TOKEN": token},
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )  # fmt: skip


def processes(peer: servers.Peer) -> tuple[psutil.Process, str]:
    """Lakeport's server, and the socket of the engine that it has started."""
    found = psutil.Process().children(recursive=True)
    fronts = [p for p in found if str(peer.port) in p.cmdline()]
    engines = [p for p in found if any(".gguf" in part for part in p.cmdline())]
    sockets = {part for p in engines for part in _SOCKET.findall(" ".join(p.cmdline()))}
    if len(fronts) != 1 or len(sockets) != 1:
        raise Wrong(f"Lakeport runs {len(fronts)} servers and {len(sockets)} engines, not one each")
    return fronts[0], sockets.pop()


async def measure(
    args: argparse.Namespace, places: Sequence[Place], front: psutil.Process, emit: Records
) -> None:
    for place in places:
        await chats(place, PEOPLE, args.tokens // 4, "warm-up")
    for number in range(args.rounds):
        order = places if number % 2 == 0 else places[::-1]
        for at_once in args.at_once:
            for place in order:
                with halted(front) if place.socket else contextlib.nullcontext():
                    before = front.cpu_times()
                    figures = await chats(place, at_once, args.tokens, f"{number}-{at_once}")
                    after = front.cpu_times()
                if not place.socket:  # microseconds of Lakeport's server for each token
                    spent = after.user + after.system - before.user - before.system
                    figures["cpu_us"] = round(spent / figures["tokens"] * 1e6, 1)
                here = {"kind": "chats", "round": number, "server": place.name, "at_once": at_once}
                load_average = round(os.getloadavg()[0], 2)
                emit({**here, **figures, "load_average": load_average})


@contextlib.contextmanager
def halted(process: psutil.Process) -> Iterator[None]:
    """Idle, it would still take a little from an engine that is to be alone."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


async def chats(place: Place, at_once: int, tokens: int, what: str) -> dict[str, float]:
    """PEOPLE want an answer at the same time, and `at_once` of them get one at a time.

    Tokens of the answers per second, and milliseconds from when a chat is wanted, its turn
    included, to its first token: the median. No two chats of a run are the same, so that nothing is
    remembered; in length they are.
    """
    turn = asyncio.Semaphore(at_once)
    waits: list[float] = []
    generated = 0
    begin = time.perf_counter()

    async def person(number: int) -> None:
        nonlocal generated
        which = f"{what}-{place.name[0]}"
        prompt = f"Story {which}: write a very long story about ship number {number}."
        wanted = time.perf_counter()
        async with turn, asyncio.timeout(LIMIT):
            first, count = await _stream(place, _chat(prompt, tokens, stream=True))
        waits.append(first - wanted)
        generated += count

    await asyncio.gather(*(person(number) for number in range(PEOPLE)))
    seconds = time.perf_counter() - begin
    return {
        "tokens": generated,
        "per_second": round(generated / seconds, 2),
        "first": round(statistics.median(waits) * 1000, 1),
    }


async def _stream(place: Place, asked: dict[str, Any]) -> tuple[float, int]:
    """When the first token came, and how many there were."""
    reader, writer = await place.connect()
    try:
        writer.write(_request(place, json.dumps(asked).encode()))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise Wrong(f"{place.name}: {head!r} {await reader.read(2000)!r}")
        first, tokens, ended = 0.0, 0, False
        while not ended and (line := await reader.readline()):
            if not line.startswith(b"data:"):
                continue
            if ended := line[5:].strip() == b"[DONE]":
                break
            event = json.loads(line[5:])
            if not first and any(choice["delta"].get("content") for choice in event["choices"]):
                first = time.perf_counter()
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
        if not (ended and first and tokens):
            raise Wrong(f"{place.name}: a stream without an end, a token or its usage")
        return first, tokens
    finally:
        writer.close()


def _request(place: Place, body: bytes) -> bytes:
    lines = [f"POST {place.path} HTTP/1.1", "Host: engine", "Connection: close"]
    lines += [f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in place.headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _chat(prompt: str, tokens: int, *, stream: bool = False) -> dict[str, Any]:
    asked: dict[str, Any] = {"model": ENDPOINT, "max_tokens": tokens, "temperature": 0, "seed": 7}
    asked["messages"] = [{"role": "user", "content": prompt}]
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return asked


def _engine_version() -> str:
    """What runs the model: a `llama-server` that is found first, or the package."""
    from importlib.metadata import version

    named = os.environ.get("LAKEPORT_LLAMA_SERVER") or shutil.which("llama-server")
    return named or f"xllamacpp {version('xllamacpp')}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--at-once", type=_numbers, default=[1, PEOPLE], help="chats under way at a time")
    add("--rounds", type=int, default=15)
    add("--tokens", type=int, default=96, help="of an answer")
    add("--cache", type=Path, default=DEFAULT_CACHE, help="where the weights are kept")
    add("--out", type=Path, help="file of JSON lines; otherwise a new one in benchmarks/results")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
