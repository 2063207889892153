"""One replica: a worker process from its start to its end.

The other end of `docs/internals/worker-protocol.md`, section Start.
"""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from signal import SIGKILL
from typing import BinaryIO, ClassVar, Protocol, TypeVar

from lakeport.processes.child import Child, Output, how_it_ended, start
from lakeport.processes.pipes import PipeReader
from lakeport.runtimes.base import StartFailed, Usage
from lakeport.runtimes.local.logs import Lines
from lakeport.runtimes.local.memory import MemoryWatch
from lakeport.runtimes.local.wording import exception_line, for_people, gigabytes

#: Bytes of one status line.
STATUS_LINE = 64 * 1024
#: A worker's exit code when its model ran into the limit on its memory.
EXIT_OUT_OF_MEMORY = 70
#: How the reason begins for which a replica ended that needed more memory than it may use.
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is told on its stdin."""

    model: str
    socket: str
    secret: str = field(repr=False)
    concurrency: int
    max_body: int
    memory_limit: int
    parent: int
    #: None: the worker decides.
    merge: bool | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a worker."""

    interpreter: Path
    worker: Path
    #: Holds secrets in clear.
    environment: Mapping[str, str] = field(repr=False)
    #: Its working directory, and its HOME.
    folder: Path
    order: Order
    #: Seconds it may take to become ready.
    timeout: float
    #: Bytes of memory above which a fresh one should take its place; 0: never.
    recycle: int = 0

    def order_line(self) -> bytes:
        """What it reads from its stdin."""
        return json.dumps(asdict(self.order)).encode() + b"\n"


class Crashed(StartFailed):
    """A signal that we did not send ended the worker while it loaded the model."""


class Begin(Protocol):
    """A way to start a worker's process, which has its order and writes to the descriptor
    `status`."""

    async def __call__(self, launch: Launch, output: Output, status: int) -> Child:
        """Raises StartFailed, or what the way's own words are."""


async def spawn(launch: Launch, output: Output, status: int) -> Child:
    """As a program of its own."""
    try:
        child = await start(
            [str(launch.interpreter), "-I", "-u", str(launch.worker), str(status)],
            env=launch.environment,
            cwd=launch.folder,
            output=output,
            pass_fds=(status,),
        )
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StartFailed(f"the worker could not be started: {reason}") from error
    child.write(launch.order_line())
    return child


class Terms(Protocol):
    """What a replica must know of its own order."""

    @property
    def socket(self) -> str: ...

    @property
    def secret(self) -> str: ...

    @property
    def memory_limit(self) -> int:
        """Bytes; 0 is no limit."""


class LocalReplica:
    """A worker process; made by `start_replica`."""

    scheme: ClassVar = "unix"
    #: What its log calls it.
    word: ClassVar = "worker"

    def __init__(
        self, id: str, order: Terms, child: Child, *, log: Lines, watch: MemoryWatch
    ) -> None:
        self._id = id
        self._order = order
        self._child = child
        self._log = log
        self._watch = watch
        self._exited: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._watched = watch.watch(child.pid, limit=order.memory_limit, over=self._used_too_much)
        #: Why it ended or will end, where its exit code alone would not tell.
        self.why: str | None = None
        #: Bytes of memory above which its usage says that it should be recycled; 0: never.
        self.recycle = 0
        self._too_much = False
        child.exited.add_done_callback(self._ended)

    @property
    def id(self) -> str:
        return self._id

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def address(self) -> str:
        """SCHEME:PATH#SECRET"""
        return f"{self.scheme}:{self._order.socket}#{self._order.secret}"

    @property
    def exited(self) -> "asyncio.Future[str]":
        """Awaiting it may be cancelled without harm."""
        return asyncio.shield(self._exited)

    def usage(self) -> Usage | None:
        usage = self._watched.usage if self._watched is not None else None
        if usage is not None and 0 < self.recycle < usage.memory_bytes:
            return replace(usage, recycle=True)
        return usage

    async def stop(self, *, grace: float) -> None:
        self.why = self.why or "stopped"
        await self._child.stop(grace=grace)
        await self.exited

    def end(self, why: str) -> None:
        """Kill it, and don't wait for that."""
        self.why = self.why or why
        self._child.kill()

    @staticmethod
    def how(code: int) -> str:
        """An exit code in words."""
        return how_it_ended(code) + (f" ({OUT_OF_MEMORY})" if code == EXIT_OUT_OF_MEMORY else "")

    def _used_too_much(self) -> None:
        self._too_much = self.why is None
        self.end(f"killed: used more than {gigabytes(self._order.memory_limit)} of memory")

    def _ended(self, code: "asyncio.Future[int]") -> None:
        reason = self.why or self.how(code.result())
        if self._too_much:
            reason = f"{OUT_OF_MEMORY}: {reason.removeprefix('killed: ')}"
        elif self.why is None and code.result() == EXIT_OUT_OF_MEMORY:
            reason = f"{OUT_OF_MEMORY}: {how_it_ended(code.result())}"
        self._watch.unwatch(self._watched)
        with suppress(OSError):
            os.unlink(self._order.socket)
        self._log.say(f"[lakeport] the {self.word} is gone: {reason}")
        self._exited.set_result(reason)


R = TypeVar("R", bound=LocalReplica)


async def start_replica(
    id: str,
    launch: Launch,
    *,
    log: Lines,
    watch: MemoryWatch,
    started: Callable[[R], None],
    begin: Begin = spawn,
    kind: type[R],
) -> R:
    """Start a worker and wait until it is ready; cancelling kills it. Raises StartFailed, and what
    `begin` raises.

    `started` is told of the replica, a `kind`, as soon as its process exists.
    """
    readable, writable = os.pipe()
    status = _Status(os.fdopen(readable, "rb", buffering=0))
    try:
        child = await begin(launch, log.feed, writable)
    except BaseException:
        status.close()
        log.end()
        raise
    finally:
        os.close(writable)
    log.say(f"[lakeport] {kind.word} started, pid {child.pid}")
    child.output_ended.add_done_callback(lambda _: log.end())
    replica = kind(id, launch.order, child, log=log, watch=watch)
    replica.recycle = launch.recycle
    started(replica)
    try:
        async with asyncio.timeout(launch.timeout):
            await _ready(replica, child, status, log)
    except TimeoutError:
        replica.why = f"killed: not ready in {launch.timeout:g} s"
        await replica.stop(grace=0)
        message = f"the model did not become ready in {launch.timeout:g} s"
        raise StartFailed(message) from None
    except BaseException:  # a cancellation above all: no worker without an owner
        await replica.stop(grace=0)
        raise
    finally:
        status.close()
    return replica


class _Status:
    """What the worker says of itself, up to the word that ends its loading."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._lines = b""
        #: "ready" or "failed" and what came with it; {} when the pipe ended without either.
        self.word: asyncio.Future[Mapping[str, object]] = asyncio.get_running_loop().create_future()
        self._reader = PipeReader(pipe, self._received)
        self._reader.ended.add_done_callback(lambda _: self._say({}))

    def close(self) -> None:
        self._reader.close()

    def _received(self, data: bytes) -> None:
        *whole, self._lines = (self._lines + data).split(b"\n")
        for line in whole:
            with suppress(ValueError):
                state = json.loads(line)
                if isinstance(state, dict) and state.get("state") in {"ready", "failed"}:
                    self._say(state)
        if len(self._lines) > STATUS_LINE:
            self._reader.close()

    def _say(self, word: Mapping[str, object]) -> None:
        if not self.word.done():
            self.word.set_result(word)


async def _ready(replica: LocalReplica, child: Child, status: _Status, log: Lines) -> None:
    """Wait for the worker's word; StartFailed when it is a bad one, or the worker dies first."""
    heard = asyncio.Event()
    status.word.add_done_callback(lambda _: heard.set())
    # A process that the worker forked may hold the pipe open after the worker's death.
    child.exited.add_done_callback(lambda _: heard.set())
    await heard.wait()
    word = status.word.result() if status.word.done() else {}
    if word.get("state") == "ready":
        return
    if word.get("state") == "failed":
        replica.why = "the model failed to load"
        raise StartFailed(for_people(str(word.get("message") or "the model failed to load")))
    code = await child.exited
    await child.output_ended
    crashed = replica.why is None and code < 0 and code != -SIGKILL
    died = _why_it_died(replica, code, list(log.last))
    raise Crashed(died) if crashed else StartFailed(died)


def _why_it_died(replica: LocalReplica, code: int, last: list[str]) -> str:
    if replica.why is not None:
        return f"the worker was {replica.why}, while it loaded the model"
    how = f"was {replica.how(code)}" if code < 0 else replica.how(code)
    if code == -SIGKILL:
        how += " (out of memory?)"
    said = exception_line(last)
    why = f": {for_people(said, limit=500)}" if said else ""
    return f"the worker {how} while it loaded the model{why}"
