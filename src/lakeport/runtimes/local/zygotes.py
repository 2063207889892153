"""The zygotes of this machine: one a breed, started with the first model that is of it."""

import asyncio
import json
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lakeport.processes.child import Child, Output, start
from lakeport.runtimes.local.breeds import Breed
from lakeport.runtimes.local.forker import CannotFork, Forker

log = logging.getLogger(__name__)

#: Seconds that the imports of a zygote may take.
START_TIMEOUT = 120.0
#: Seconds without any deployment after which a zygote ends.
IDLE = 600.0
#: Seconds until a breed whose zygote could not be started gets another chance.
AGAIN = 600.0
#: Seconds until one that has ended, while deployments may want it, is started again.
RENEW = 1.0
#: For the libraries' allocators: they start no thread of their own, and take what they use instead
#: of a GiB at once, which would count against the limit of every fork.
ALLOCATORS = {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "_RJEM_MALLOC_CONF": "background_thread:false",
    "MIMALLOC_ARENA_EAGER_COMMIT": "0",
}


@dataclass(eq=False)
class _Zygote:
    #: Deployments that may want it.
    users: set[str]
    #: Its forker once it has imported all; None where it could not be started.
    starting: "asyncio.Task[Forker | None]" = field(init=False)
    child: Child | None = None
    ending: asyncio.TimerHandle | None = None


class Zygotes:
    """Starts them, and ends those that nobody has needed for `idle` seconds.

    `environment` is what all of them get; `folder` is their working directory, made when it is
    needed.
    """

    def __init__(
        self,
        worker: Path,
        folder: Path,
        environment: Callable[[], Mapping[str, str]],
        *,
        idle: float = IDLE,
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        self._worker = worker
        self._folder = folder
        self._environment = environment
        self._idle = idle
        self._start_timeout = start_timeout
        self._zygotes: dict[Breed, _Zygote] = {}
        self._failed: dict[Breed, float] = {}

    def want(self, breed: Breed, deployment: str) -> None:
        """Have a zygote ready soon, and keep it until `leave`."""
        found = self._zygotes.get(breed)
        if found is None or _is_gone(found):
            if time.monotonic() < self._failed.get(breed, 0.0):
                return
            users = set[str]()
            if found is not None:
                users = found.users
                if found.ending is not None:  # it would end the new one
                    found.ending.cancel()
            found = self._zygotes[breed] = _Zygote(users)
            starting = self._start(breed, found)
            found.starting = asyncio.get_running_loop().create_task(starting)
        found.users.add(deployment)
        if found.ending is not None:
            found.ending.cancel()
            found.ending = None

    def leave(self, deployment: str) -> None:
        """The deployment is gone."""
        for breed, zygote in self._zygotes.items():
            if deployment in zygote.users:
                zygote.users.discard(deployment)
                if not zygote.users:
                    zygote.ending = asyncio.get_running_loop().call_later(
                        self._idle, self._end, breed
                    )

    async def forker(self, breed: Breed, deployment: str) -> Forker | None:
        """What forks workers of the breed; None where there is none to be had."""
        self.want(breed, deployment)
        zygote = self._zygotes.get(breed)
        return await asyncio.shield(zygote.starting) if zygote is not None else None

    def pids(self) -> list[int]:
        return [z.child.pid for z in self._zygotes.values() if z.child is not None]

    async def close(self) -> None:
        """All are gone when this returns; what they forked is not their business."""
        zygotes = list(self._zygotes.values())
        self._zygotes.clear()
        for zygote in zygotes:
            if zygote.ending is not None:
                zygote.ending.cancel()
            zygote.starting.cancel()
            with suppress(asyncio.CancelledError):
                forker = await zygote.starting
                if forker is not None:
                    await forker.settled()
                    forker.close()
            if zygote.child is not None:
                await zygote.child.stop(grace=0)

    def _end(self, breed: Breed) -> None:
        """Nobody needs it any more."""
        zygote = self._zygotes.pop(breed)
        zygote.starting.cancel()
        if zygote.child is not None:
            zygote.child.kill()

    def _has_ended(self, breed: Breed, zygote: _Zygote, forker: Forker) -> None:
        """Whoever asks next shall have another, and better not wait for its imports."""
        forker.close()
        if zygote.users and self._zygotes.get(breed) is zygote:
            loop = asyncio.get_running_loop()
            zygote.ending = loop.call_later(RENEW, self._renew, breed, zygote)

    def _renew(self, breed: Breed, zygote: _Zygote) -> None:
        if zygote.users and self._zygotes.get(breed) is zygote:
            self.want(breed, next(iter(zygote.users)))

    async def _start(self, breed: Breed, zygote: _Zygote) -> Forker | None:
        last: deque[bytes] = deque(maxlen=20)
        try:
            return await self._begin(breed, zygote, last.append)
        except (OSError, CannotFork) as error:
            self._failed[breed] = time.monotonic() + AGAIN
            said_last = b"".join(last).decode(errors="replace").strip().rpartition("\n")[2]
            log.warning("no zygote, workers are spawned: %s %s", error, said_last)
            return None

    async def _begin(self, breed: Breed, zygote: _Zygote, output: Output) -> Forker:
        ours, theirs = socket.socketpair()
        forker = Forker(ours)
        try:
            with theirs:
                child = zygote.child = await self._spawn(breed, theirs.fileno(), output)
            child.exited.add_done_callback(lambda _: self._has_ended(breed, zygote, forker))
            order = {"parent": os.getpid(), "imports": breed.imports}
            child.write(json.dumps(order).encode() + b"\n")
            said = await forker.heard(self._start_timeout)
            if said.get("state") != "ready":
                raise CannotFork("it did not become ready")
        except BaseException:
            forker.close()
            if zygote.child is not None:
                zygote.child.kill()
            raise
        return forker

    async def _spawn(self, breed: Breed, control: int, output: Output) -> Child:
        self._folder.mkdir(exist_ok=True, mode=0o700)
        return await start(
            [str(breed.interpreter), "-I", "-u", str(self._worker), "zygote", str(control)],
            env={**self._environment(), **ALLOCATORS},
            cwd=self._folder,
            output=output,
            pass_fds=(control,),
        )


def _is_gone(zygote: _Zygote) -> bool:
    """Whether it has ended, hangs, or never was."""
    if not zygote.starting.done():
        return False
    if zygote.starting.cancelled():
        return True
    forker = zygote.starting.result()
    if forker is not None and not forker.usable and zygote.child is not None:
        zygote.child.kill()
    return forker is None or not forker.usable
