"""Engine replicas for tests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from lakeport.models.catalogue import load
from lakeport.runtimes.base import DeploymentSpec, Kind, Replica
from lakeport.runtimes.engine.engine_replica import EngineReplica
from lakeport.runtimes.engine.runtime import EngineRuntime

#: Seconds.
PATIENCE = 60.0


def deployment(model: str, id: str = "d1", **more: Any) -> DeploymentSpec:
    given: dict[str, Any] = {
        "endpoint": "chat",
        "entity": "my-entity",
        "model_version": "1",
        "model_key": model,
        "path": None,
        "workload_type": "CPU",
        "concurrency": 4,
        "kind": Kind.ENGINE,
    }
    return DeploymentSpec(id=id, model_name=f"system.ai.{model}", **given | more)


@asynccontextmanager
async def opened(home: Path, **options: Any) -> AsyncIterator[EngineRuntime]:
    defaults: dict[str, Any] = {"models": load(None), "start_timeout": PATIENCE, "threads": 1}
    runtime = EngineRuntime(home, **defaults | options)
    await runtime.open()
    try:
        yield runtime
    finally:
        await runtime.close()


def socket_of(replica: Replica) -> str:
    return replica.address.removeprefix("engine:").partition("#")[0]


def listens(replica: Replica) -> bool:
    return Path(socket_of(replica)).exists()


@asynccontextmanager
async def talking(replica: Replica) -> AsyncIterator["Talk"]:
    connector = aiohttp.UnixConnector(socket_of(replica), force_close=True)
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(
        "http://engine", connector=connector, timeout=timeout
    ) as session:
        yield Talk(session)


class Talk:
    """The OpenAI wire, without a gateway before it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def post(self, operation: str, **body: Any) -> tuple[int, dict[str, Any]]:
        async with self.session.post(f"/v1/{operation}", json=body) as answer:
            return answer.status, await answer.json()

    async def ask(self, text: str, **more: Any) -> dict[str, Any]:
        """A chat's answer."""
        messages = [{"role": "user", "content": text}]
        given = {"messages": messages, "max_tokens": 16, "temperature": 0} | more
        status, answer = await self.post("chat/completions", **given)
        assert status == 200, answer
        return answer


def engine_of(replica: EngineReplica) -> psutil.Process:
    """The engine itself, below its guard."""
    (engine,) = psutil.Process(replica.pid).children()
    return engine


async def until(fact: Callable[[], bool]) -> None:
    """Wait for a fact that nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
