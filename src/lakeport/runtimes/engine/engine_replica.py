"""One engine replica, from its start to its end."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any, ClassVar

import aiohttp

from lakeport.processes.child import how_it_ended, start_guarded
from lakeport.providers.base import ENGINE_SCHEME
from lakeport.runtimes.base import StartFailed
from lakeport.runtimes.engine.command import Command, Order
from lakeport.runtimes.local.logs import Lines
from lakeport.runtimes.local.memory import MemoryWatch
from lakeport.runtimes.local.replica import LocalReplica
from lakeport.runtimes.local.wording import exception_line, for_people
from lakeport.wire.chat import Operation, Task

#: Seconds between looks at an engine that loads its model.
POLL = 0.05
#: Seconds between looks at an engine that serves, and how many may go by without an answer: one
#: that hangs is then ended, and another one started.
HEARTBEAT = 10.0
MISSES = 3
#: Characters of an engine's refusal that are shown.
SHOWN = 300
#: The smallest question of each kind: an engine that cannot answer it is not ready.
QUESTIONS: Mapping[Task, Mapping[str, object]] = {
    Task.CHAT: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
    Task.COMPLETIONS: {"prompt": "Hi", "max_tokens": 1},
    Task.EMBEDDINGS: {"input": "Hi"},
}


class EngineReplica(LocalReplica):
    """An engine under a guard; made by `start_engine`. Its address is engine:SOCKET#SECRET."""

    scheme: ClassVar = ENGINE_SCHEME
    word: ClassVar = "engine"

    @staticmethod
    def how(code: int) -> str:
        # The guard exits with 128 plus the number of the signal that killed the engine.
        return how_it_ended(128 - code if 128 < code < 128 + 65 else code)


async def start_engine(
    id: str,
    order: Order,
    command: Command,
    *,
    environment: Mapping[str, str],
    folder: Path,
    timeout: float,
    log: Lines,
    watch: MemoryWatch,
    started: Callable[[EngineReplica], None],
    heartbeat: float = HEARTBEAT,
) -> EngineReplica:
    """Start an engine and wait until it has answered once; cancelling kills it.

    `folder` is its working directory, `timeout` seconds. `started` is told of the replica as soon
    as its process exists; `heartbeat` is the seconds between two looks at whether it still answers.
    Raises StartFailed.
    """
    try:
        child = await start_guarded(
            command.argv,
            env=dict(environment) | dict(command.environment),
            cwd=folder,
            output=log.feed,
        )
    except OSError as error:
        log.end()
        reason = error.strerror or type(error).__name__
        raise StartFailed(f"the engine could not be started: {reason}") from error
    log.say(f"[lakeport] engine started, pid {child.pid}")
    child.output_ended.add_done_callback(lambda _: log.end())
    replica = EngineReplica(id, order, child, log=log, watch=watch)
    started(replica)
    answered = asyncio.ensure_future(_answers_once(order))
    try:
        async with asyncio.timeout(timeout):
            ends: set[asyncio.Future[Any]] = {answered, child.exited}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            code = await child.exited
            await child.output_ended
            raise StartFailed(_why_it_died(replica, code, list(log.last)))
        answered.result()
    except TimeoutError:
        replica.why = f"killed: not ready in {timeout:g} s"
        await replica.stop(grace=0)
        raise StartFailed(f"the model did not become ready in {timeout:g} s") from None
    except BaseException:  # a cancellation above all: no engine without an owner
        await replica.stop(grace=0)
        raise
    finally:
        answered.cancel()
        with suppress(asyncio.CancelledError, StartFailed):
            await answered
    log.say("[lakeport] the engine is ready")
    pulse = asyncio.ensure_future(_watch_pulse(replica, order.socket, every=heartbeat))
    child.exited.add_done_callback(lambda _: pulse.cancel())
    return replica


async def _watch_pulse(replica: EngineReplica, socket: str, *, every: float) -> None:
    """End an engine that hangs: llama.cpp answers /health while it works, however busy it is."""
    connector = aiohttp.UnixConnector(socket, force_close=True)
    patience = aiohttp.ClientTimeout(total=every)
    async with aiohttp.ClientSession(
        "http://engine", connector=connector, timeout=patience
    ) as session:
        missed = 0
        while missed < MISSES:
            await asyncio.sleep(every)
            missed = 0 if await _healthy(session) else missed + 1
    replica.why = f"killed: it did not answer for {MISSES * every:g} s"
    await replica.stop(grace=0)


async def _answers_once(order: Order) -> None:
    """Returns once it is healthy and has generated a token, or embedded a word."""
    connector = aiohttp.UnixConnector(order.socket, force_close=True)
    # Whoever waits has a limit of their own.
    patience = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        "http://engine", connector=connector, timeout=patience
    ) as session:
        while not await _healthy(session):  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(POLL)
        operation: Operation = order.task.operation
        question = {"model": order.name, **QUESTIONS[order.task]}
        try:
            async with session.post(f"/v1/{operation}", json=question) as answer:
                if answer.status == 200:
                    await answer.read()
                    return
                said = for_people(await answer.text(errors="replace"), limit=SHOWN)
                raise StartFailed(
                    f"the engine answered its first request with {answer.status}: {said}"
                )
        except aiohttp.ClientError:
            await asyncio.Event().wait()  # it died, which is noticed elsewhere, or hangs


async def _healthy(session: aiohttp.ClientSession) -> bool:
    try:
        async with session.get("/health") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, OSError):
        return False  # it does not listen yet, or hangs: TimeoutError is an OSError


def _why_it_died(replica: EngineReplica, code: int, last: list[str]) -> str:
    if replica.why is not None:
        return f"the engine was {replica.why}, while it loaded the model"
    how = replica.how(code)
    if how.startswith("killed"):
        how = f"was {how}"
    if code == 128 + SIGKILL:
        how += " (out of memory?)"
    said = exception_line(last) or next((line for line in reversed(last) if _telling(line)), "")
    why = f": {for_people(said, limit=500)}" if said else ""
    return f"the engine {how} while it loaded the model{why}"


def _telling(line: str) -> bool:
    """Whether a line is the engine's own, and says something."""
    return bool(line.strip()) and not line.startswith("[lakeport]")
