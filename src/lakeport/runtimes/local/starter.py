"""Starts replicas by the quickest way that is safe: from a template, from a zygote, anew."""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

import psutil

from lakeport.processes.child import Child, Output
from lakeport.runtimes.base import StartFailed
from lakeport.runtimes.local.breeds import Breed
from lakeport.runtimes.local.forker import CannotFork, Forker, Refused
from lakeport.runtimes.local.logs import Logs
from lakeport.runtimes.local.memory import MemoryWatch
from lakeport.runtimes.local.once import Once, Say
from lakeport.runtimes.local.replica import (
    Begin,
    Crashed,
    Launch,
    LocalReplica,
    spawn,
    start_replica,
)
from lakeport.runtimes.local.zygotes import Zygotes

log = logging.getLogger(__name__)

#: Seconds that a worker with a loaded model may take to become ready.
READY = 20.0
#: Seconds between looks at what templates use, where no replica is started.
LOOK = 60.0


class TemplateProcess(LocalReplica):
    """A process that has loaded a model, and serves nobody."""

    word: ClassVar = "template"


@dataclass(eq=False, slots=True)
class _Template:
    process: TemplateProcess
    forker: Forker
    #: What it was loaded with.
    launch: Launch
    #: loop.time() of its last fork.
    used: float


@dataclass(frozen=True, slots=True)
class _Forked:
    """The way of a worker, or of a template where `control` is its end of a socket."""

    forker: Forker
    #: Whether it gets an environment, or has its own already.
    fresh: bool
    control: socket.socket | None = None

    async def __call__(self, launch: Launch, output: Output, status: int) -> Child:
        return await self.forker.fork(
            environment=launch.environment if self.fresh else None,
            folder=launch.folder,
            order=launch.order_line(),
            output=output,
            status=status,
            control=None if self.control is None else self.control.fileno(),
        )


class Starter:
    """`zygotes` is None where every worker is spawned.

    All templates together use at most `template_memory` bytes; 0: there are none. `kept` is told of
    every process.
    """

    def __init__(
        self,
        zygotes: Zygotes | None,
        *,
        template_memory: int,
        logs: Logs,
        watch: MemoryWatch,
        kept: Callable[[LocalReplica], None],
    ) -> None:
        self._zygotes = zygotes
        self._template_memory = template_memory
        self._logs = logs
        self._watch = watch
        self._kept = kept
        self._templates: dict[str, _Template] = {}
        #: Deployments whose model cannot be a template.
        self._unfit: set[str] = set()
        self._making: Once[_Template | None] = Once()
        self._looking: asyncio.Task[None] | None = None
        #: A replica was started since the last look.
        self._due = asyncio.Event()

    def prepare(self, deployment: str, breed: Breed | None) -> None:
        """A replica of the deployment will be wanted soon."""
        if self._zygotes is not None and breed is not None:
            self._zygotes.want(breed, deployment)

    async def start(
        self, deployment: str, replica_id: str, launch: Launch, breed: Breed | None
    ) -> LocalReplica:
        """A ready replica. Cancelling kills it. Raises StartFailed."""
        if self._zygotes is not None and breed is not None:
            for source, way in (("template", self._from_template), ("zygote", self._from_zygote)):
                try:
                    found = await way(deployment, replica_id, launch, breed)
                except CannotFork as reason:
                    self._say(deployment, f"the {source} cannot be forked: {reason}")
                except Crashed as reason:
                    self._say(deployment, f"{reason}; it is started anew, without a fork")
                    break
                else:
                    if found is not None:
                        return found
        return await self._start(deployment, replica_id, launch, spawn)

    def forget(self, deployment: str) -> None:
        """The deployment is gone."""
        self._unfit.discard(deployment)
        self._drop(deployment, "its deployment is gone")
        if self._zygotes is not None:
            self._zygotes.leave(deployment)

    async def close(self) -> None:
        """All templates and zygotes are gone when this returns; the replicas are not."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await self._making.close()
        for template in list(self._templates.values()):
            await template.forker.settled()
            template.forker.close()
            await template.process.stop(grace=0)
        self._templates.clear()
        if self._zygotes is not None:
            await self._zygotes.close()

    # --- the ways -------------------------------------------------------------------------------

    async def _from_template(
        self, deployment: str, replica_id: str, launch: Launch, breed: Breed
    ) -> LocalReplica | None:
        if not breed.templates or not self._template_memory or deployment in self._unfit:
            return None
        template = await self._template(deployment, launch, breed)
        if template is None:
            return None
        template.used = asyncio.get_running_loop().time()
        soon = replace(launch, timeout=min(launch.timeout, READY))
        try:
            return await self._start(
                deployment, replica_id, soon, _Forked(template.forker, fresh=False)
            )
        except (CannotFork, StartFailed) as error:
            if isinstance(error, (Refused, StartFailed)):
                # The model is loaded: whatever went wrong now comes from the fork.
                self._unfit.add(deployment)
            if self._templates.get(deployment) is template:
                self._drop(deployment, str(error))
            raise CannotFork(str(error)) from error
        finally:
            self._look_soon()

    async def _from_zygote(
        self, deployment: str, replica_id: str, launch: Launch, breed: Breed
    ) -> LocalReplica | None:
        assert self._zygotes is not None
        forker = await self._zygotes.forker(breed, deployment)
        if forker is None:
            return None
        return await self._start(deployment, replica_id, launch, _Forked(forker, fresh=True))

    async def _start(
        self, deployment: str, replica_id: str, launch: Launch, begin: Begin
    ) -> LocalReplica:
        return await start_replica(
            replica_id,
            launch,
            log=self._logs.replica(deployment, replica_id),
            watch=self._watch,
            started=self._kept,
            kind=LocalReplica,
            begin=begin,
        )

    # --- templates ------------------------------------------------------------------------------

    async def _template(self, deployment: str, launch: Launch, breed: Breed) -> _Template | None:
        """The deployment's, made where it has none. Raises StartFailed: the model cannot be loaded;
        CannotFork."""
        found = self._templates.get(deployment)
        if found is not None:
            fits = found.launch.environment == launch.environment  # a secret may have changed
            if fits and found.forker.usable:
                return found
            self._drop(deployment, "another is made")

        async def make(_: Say) -> _Template | None:
            return await self._make(deployment, launch, breed)

        return await self._making.run(deployment, make, lambda _: None)

    async def _make(self, deployment: str, launch: Launch, breed: Breed) -> _Template | None:
        assert self._zygotes is not None
        zygote = await self._zygotes.forker(breed, deployment)
        if zygote is None:
            return None
        ours, theirs = socket.socketpair()
        forker = Forker(ours)
        try:
            with theirs:
                process = await start_replica(
                    "template",
                    replace(launch, order=replace(launch.order, socket="", secret="")),
                    log=self._logs.replica(deployment, "template"),
                    watch=self._watch,
                    started=self._kept,
                    kind=TemplateProcess,
                    begin=_Forked(zygote, fresh=True, control=theirs),
                )
        except BaseException:
            forker.close()
            raise
        process.exited.add_done_callback(lambda _: forker.close())
        now = asyncio.get_running_loop().time()
        made = self._templates[deployment] = _Template(process, forker, launch, now)
        return made

    def _drop(self, deployment: str, why: str) -> None:
        template = self._templates.pop(deployment, None)
        if template is not None:
            template.forker.close()
            template.process.end(why)

    def _say(self, deployment: str, text: str) -> None:
        sink = self._logs.replica(deployment, "template")
        sink.say(f"[lakeport] {text}")
        sink.end()

    # --- what they use --------------------------------------------------------------------------

    def _look_soon(self) -> None:
        self._due.set()
        if self._templates and (self._looking is None or self._looking.done()):
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        """While there are templates, end those used longest ago that are too many."""
        while self._templates:
            self._due.clear()
            by_use = sorted(self._templates.items(), key=lambda item: -item[1].used)
            sizes = await asyncio.to_thread(_sizes, [t.process.pid for _, t in by_use])
            total = 0
            for (deployment, template), size in zip(by_use, sizes, strict=True):
                total += size
                if total > self._template_memory and self._templates.get(deployment) is template:
                    self._unfit.add(deployment)
                    self._drop(deployment, "templates use more memory than they may")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._due.wait()


def memory_share(fraction: float) -> int:
    """Bytes of this machine's memory."""
    return int(psutil.virtual_memory().total * fraction)


def _sizes(pids: list[int]) -> list[int]:
    """The bytes of each process, what it shares divided among those that share it."""
    return list(map(_size, pids))


def _size(pid: int) -> int:
    with suppress(OSError, ValueError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return 0
