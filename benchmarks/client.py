"""What the client costs: to import and make, and on top of each call. `python benchmarks/client.py`

Fresh processes import the client and databricks-sdk in turns. Then the same request goes over one
connection to a local server that answers at once: by httpx2 alone, by our clients and by the SDK's
`query`, in turns, so that the figures compare them on this machine and on this day.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from run import Records, Wrong, carry_out, machine

TOKEN = "a-token"
RECORDS = [{"a": 5.1, "b": 3.5, "c": 1.4, "d": 0.2}]
BODY = json.dumps({"dataframe_records": RECORDS}, separators=(",", ":")).encode()
PATH = "/serving-endpoints/iris/invocations"
ANSWER = {"predictions": [0]}
#: What is told of a target: the most milliseconds that it may take.
IMPORT, MAKE, OVERHEAD = 150.0, 250.0, 0.2

STARTS = {
    "python alone": "",
    "import lakeport": "import lakeport",
    "lakeport Client()": "from lakeport import Client; Client()",
    "lakeport AsyncClient()": "from lakeport import AsyncClient; AsyncClient()",
    "sdk WorkspaceClient()": "from databricks.sdk import WorkspaceClient; WorkspaceClient()",
}
PYTHON = "python alone"


def main() -> int:
    args = parse_arguments()
    emit = Records(args.out)
    libraries = ("httpx2", "databricks-sdk")
    emit({**machine(), **{name: version(name) for name in libraries}, "rounds": args.rounds})

    def work(_: Path) -> None:
        with served() as url:
            measure_starts(url, args.starts, emit)
            for number in range(args.rounds):
                measure_calls(url, number, args.calls, emit)
                asyncio.run(measure_async(url, number, args.calls, emit))

    return carry_out(emit, work, markdown)


# --- starts -----------------------------------------------------------------------------------


def measure_starts(url: str, times: int, emit: Records) -> None:
    """Time of a whole process, in turns; the first of each is left out. Beside the time that passed
    stands that of the processor, which a busy machine does not lengthen so much."""
    environment = os.environ | {"DATABRICKS_HOST": url, "DATABRICKS_TOKEN": TOKEN}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for number in range(times + 1):
        for name, code in STARTS.items():
            cpu, began = children_seconds(), time.perf_counter()
            subprocess.run([sys.executable, "-c", code], env=environment, check=True)
            took, used = time.perf_counter() - began, children_seconds() - cpu
            if number:
                figures = {"ms": round(took * 1000, 1), "cpu_ms": round(used * 1000, 1)}
                emit({"kind": "start", "round": number, "what": name, **figures})


def children_seconds() -> float:
    """Of the processor, by processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- calls ------------------------------------------------------------------------------------


def measure_calls(url: str, number: int, calls: int, emit: Records) -> None:
    import httpx2
    from databricks.sdk import WorkspaceClient

    from lakeport import Client

    with ExitStack() as stack:
        bare = stack.enter_context(httpx2.Client(headers=headers()))
        ours = stack.enter_context(Client(url, TOKEN))
        sdk = WorkspaceClient(host=url, token=TOKEN).serving_endpoints
        body = {"dataframe_records": RECORDS}
        asked: dict[str, Callable[[], Any]] = {
            "httpx2": lambda: json.loads(bare.post(url + PATH, content=BODY).content)[
                "predictions"
            ],
            "lakeport, a body": lambda: ours.predict("iris", body=body).predictions,
            "lakeport, records checked": lambda: ours.predict("iris", records=RECORDS).predictions,
            "databricks-sdk": lambda: sdk.query("iris", dataframe_records=RECORDS).predictions,
        }
        for name, ask in in_turns(asked, number):
            for _ in range(calls // 10):
                check(name, ask())
            taken = []
            for _ in range(calls):
                began = time.perf_counter()
                ask()
                taken.append(time.perf_counter() - began)
            emit(call_record(name, number, taken))


async def measure_async(url: str, number: int, calls: int, emit: Records) -> None:
    import httpx2

    from lakeport import AsyncClient

    async with AsyncExitStack() as stack:
        bare = await stack.enter_async_context(httpx2.AsyncClient(headers=headers()))
        ours = await stack.enter_async_context(AsyncClient(url, TOKEN))

        async def by_httpx2() -> Any:
            answer = await bare.post(url + PATH, content=BODY)
            return json.loads(answer.content)["predictions"]

        async def by_lakeport() -> Any:
            return (await ours.predict("iris", body={"dataframe_records": RECORDS})).predictions

        asked: dict[str, Callable[[], Awaitable[Any]]] = {
            "httpx2, async": by_httpx2,
            "lakeport, async": by_lakeport,
        }
        for name, ask in in_turns(asked, number):
            for _ in range(calls // 10):
                check(name, await ask())
            taken = []
            for _ in range(calls):
                began = time.perf_counter()
                await ask()
                taken.append(time.perf_counter() - began)
            emit(call_record(name, number, taken))


def headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


def in_turns(asked: Mapping[str, Any], number: int) -> list[tuple[str, Any]]:
    """Whoever comes second finds a warmer machine."""
    return list(asked.items()) if number % 2 == 0 else list(asked.items())[::-1]


def check(name: str, predictions: Any) -> None:
    if predictions != ANSWER["predictions"]:
        raise Wrong(f"{name}: the answer was {predictions!r}")


def call_record(name: str, number: int, taken: Sequence[float]) -> dict[str, Any]:
    cuts = statistics.quantiles([each * 1000 for each in taken], n=100)
    return {
        "kind": "call",
        "round": number,
        "what": name,
        "calls": len(taken),
        "p50_ms": round(cuts[49], 4),
        "p99_ms": round(cuts[98], 4),
        "load_average": round(os.getloadavg()[0], 2),
    }


# --- the server -------------------------------------------------------------------------------

_COLUMNS = ["a", "b", "c", "d"]
_NUMBER = {"type": "number", "format": "double"}
_RECORD = {
    "type": "object",
    "properties": dict.fromkeys(_COLUMNS, _NUMBER),
    "required": _COLUMNS,
}
_FORM = {
    "properties": {"dataframe_records": {"type": "array", "items": _RECORD}},
    "required": ["dataframe_records"],
}
_PAGE = {
    "paths": {
        "/served-models/iris/invocations": {
            "post": {
                "requestBody": {"content": {"application/json": {"schema": {"oneOf": [_FORM]}}}}
            }
        }
    }
}


class Answering(asyncio.Protocol):
    """HTTP as far as these clients speak it: one request at a time, bodies with a length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._got = b""

    def data_received(self, data: bytes) -> None:
        self._got += data
        while (end := self._got.find(b"\r\n\r\n")) >= 0:
            head = self._got[:end].lower()
            _, _, after = head.partition(b"\r\ncontent-length: ")
            whole = end + 4 + int(after.split(b"\r\n", 1)[0] or b"0")
            if len(self._got) < whole:
                return
            self._got = self._got[whole:]
            body = json.dumps(_PAGE if b"/openapi " in head else ANSWER).encode()
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: 1\r\n"
                b"served-model-name: iris\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            )


@contextmanager
def served() -> Iterator[str]:
    """A process of its own that answers; its address."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


# --- tables -----------------------------------------------------------------------------------


def markdown(records: Sequence[Mapping[str, Any]]) -> str:
    starts = {name: median(records, "start", name, "ms") for name in STARTS}
    lines = ["| a fresh process | ms | ms above Python alone | ms of CPU |", "|---|---|---|---|"]
    for name, took in starts.items():
        cpu = median(records, "start", name, "cpu_ms")
        lines.append(f"| {name} | {took:.0f} | {took - starts[PYTHON]:.0f} | {cpu:.0f} |")
    names = list(dict.fromkeys(record["what"] for record in records if record["kind"] == "call"))
    lines += ["", "| a call | p50 ms | above httpx2 | p99 ms |", "|---|---|---|---|"]
    above = {}
    for name in names:
        base = "httpx2, async" if name.endswith("async") else "httpx2"
        p50 = median(records, "call", name, "p50_ms")
        above[name] = p50 - median(records, "call", base, "p50_ms")
        p99 = median(records, "call", name, "p99_ms")
        lines.append(f"| {name} | {p50:.3f} | {above[name]:+.3f} | {p99:.3f} |")
    targets = [
        (f"`import lakeport` under {IMPORT:.0f} ms", starts["import lakeport"] < IMPORT),
        (f"`Client()` under {MAKE:.0f} ms", starts["lakeport Client()"] < MAKE),
        (
            f"calls under {OVERHEAD} ms above httpx2",
            all(above[name] < OVERHEAD for name in names if name.startswith("lakeport")),
        ),
    ]
    return "\n".join(
        [*lines, "", *(f"- {what}: {'yes' if is_met else 'NO'}" for what, is_met in targets)]
    )


def median(records: Sequence[Mapping[str, Any]], kind: str, name: str, figure: str) -> float:
    return statistics.median(
        float(record[figure])
        for record in records
        if record["kind"] == kind and record["what"] == name
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of calls, in turns")
    parser.add_argument("--calls", type=int, default=1000, help="by each client in a round")
    parser.add_argument("--starts", type=int, default=7, help="fresh processes of each kind")
    parser.add_argument("--out", type=Path, help="the file of JSON lines to write")
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        asyncio.run(serve())
    else:
        sys.exit(main())
