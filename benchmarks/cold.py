"""`python benchmarks/cold.py`: seconds from asking for a replica to its first prediction.

Each model in each way that a replica can start: spawned, forked by a zygote, forked from a
template, and the last again while another replica works on 32 requests at a time. The first start
of a way makes its zygote and its template, and counts apart. Beside them the memory of each further
replica (PSS: what is shared divided among those that share it).
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from models import MODELS, SavedModel, save

from lakeport.runtimes.base import Answer, Call, DeploymentSpec, Link, ReplicaLost, Stream
from lakeport.runtimes.local.link import UnixConnector
from lakeport.runtimes.local.replica import LocalReplica
from lakeport.runtimes.local.runtime import LocalRuntime

WAYS: Mapping[str, Mapping[str, Any]] = {
    "spawn": {"replica_start": "spawn"},
    "zygote": {"template_memory": 0.0},
    "template": {},
    "template, under load": {},
}
#: Requests at a time that the first replica works on, under load.
AT_A_TIME = 32
MIB = 1024 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=["iris", "xgboost"])
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--starts", type=int, default=10, help="further starts of each way")
    asked = parser.parse_args()
    print("| model | way | first start | further: median | largest | PSS of each |")
    print("| --- | --- | --- | --- | --- | --- |")
    with TemporaryDirectory(prefix="cold", dir="/tmp") as folder:
        for name in asked.models:
            model = save(name, Path(folder))
            for way in asked.ways:
                uvloop.run(measure(model, way, asked.starts if way != "spawn" else 2))


async def measure(model: SavedModel, way: str, starts: int) -> None:
    with TemporaryDirectory(prefix="cold", dir="/tmp") as home:
        runtime = LocalRuntime(Path(home), env_manager="local", **WAYS[way])
        await runtime.open()
        try:
            replicas, first = await start_and_ask(runtime, model)
            async with load(replicas, model, on="load" in way):
                seconds = []
                for _ in range(starts):
                    replica, took = await start_and_ask(runtime, model)
                    replicas += replica
                    seconds.append(took)
            pss = [await asyncio.to_thread(pss_of, replica.pid) for replica in replicas]
        finally:
            await runtime.close()
    median, largest = statistics.median(seconds), max(seconds)
    print(
        f"| {model.name} | {way} | {first:.2f} s | {median * 1000:.0f} ms | "
        f"{largest * 1000:.0f} ms | {statistics.median(pss) / MIB:.0f} MB |",
        flush=True,
    )


async def start_and_ask(
    runtime: LocalRuntime, model: SavedModel
) -> tuple[list[LocalReplica], float]:
    began = time.perf_counter()
    replica = await runtime.start(deployment(model), f"r{time.monotonic_ns()}")
    link = await UnixConnector().connect(replica.address)
    await ask(link, model)
    took = time.perf_counter() - began
    link.close()
    return [replica], took


def deployment(model: SavedModel) -> DeploymentSpec:
    return DeploymentSpec(
        id="d1",
        endpoint=model.name,
        entity=f"{model.name}-1",
        model_name=model.name,
        model_version="1",
        model_key="k1",
        path=str(model.folder),
        workload_type="CPU",
        concurrency=model.concurrency,
    )


async def ask(link: Link, model: SavedModel) -> None:
    heard: asyncio.Future[Answer | Stream | ReplicaLost] = asyncio.Future()
    call = Call(model.body(1), "application/json", None, time.monotonic() + 60)
    sending = link.send(call, lambda said: None if heard.done() else heard.set_result(said))
    try:
        answer = await heard
    finally:
        sending.cancel()
    assert isinstance(answer, Answer), answer
    assert answer.status == 200, answer


@asynccontextmanager
async def load(replicas: list[LocalReplica], model: SavedModel, *, on: bool) -> AsyncIterator[None]:
    """Meanwhile the first replica has work all the time."""
    if not on:
        yield
        return
    link = await UnixConnector().connect(replicas[0].address)

    async def go_on() -> None:
        while True:
            await ask(link, model)

    tasks = [asyncio.create_task(go_on()) for _ in range(AT_A_TIME)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
        link.close()


def pss_of(pid: int) -> int:
    """Bytes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    [line] = [line for line in text.splitlines() if line.startswith("Pss:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
