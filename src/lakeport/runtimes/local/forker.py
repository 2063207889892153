"""The server's end of a zygote or a template: a process that forks on request.

The other end of `docs/internals/zygote.md`.
"""

import asyncio
import json
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from lakeport.processes import linux
from lakeport.processes.adopted import adopt, adopting, can_adopt
from lakeport.processes.child import Child, Output

_SIZE = struct.Struct("<I")
#: Bytes of an answer.
_LARGEST = 64 * 1024
#: Seconds that a fork may take; it takes a few hundredths of one.
FORK_TIMEOUT = 10.0


def can_fork() -> bool:
    """Whether this machine has what it takes."""
    if not can_adopt():
        return False
    try:
        os.close(linux.memfd_create("any"))
    except OSError:
        return False
    return True


class CannotFork(Exception):
    """No process came of it; the message says why."""


class Refused(CannotFork):
    """It must not fork, now or ever: a thread of the model's runs, say."""


class Forker:
    """Forks the process at the other end of `control`.

    Requests wait for each other. After one that failed in any way but by a refusal this is not
    `usable` any more, and its owner ends the process.
    """

    def __init__(self, control: socket.socket, *, timeout: float = FORK_TIMEOUT) -> None:
        """`timeout`: seconds that a fork may take."""
        control.setblocking(False)
        self._timeout = timeout
        self._control = control
        self._one_at_a_time = asyncio.Lock()
        self._forks: set[asyncio.Task[Child]] = set()
        self._listening = 0
        self.usable = True

    def close(self) -> None:
        """Whoever waits for an answer hears that it is gone."""
        self.usable = False
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        if not self._listening:  # nobody may close what a loop waits for
            self._control.close()

    async def heard(self, timeout: float) -> Mapping[str, object]:
        """What it says next. Raises CannotFork."""
        self._listening += 1
        try:
            async with asyncio.timeout(timeout):
                size = _SIZE.unpack(await self._exactly(_SIZE.size))[0]
                if size > _LARGEST:
                    raise ValueError(size)
                answer: dict[str, object] = json.loads(await self._exactly(size))
                return answer
        except TimeoutError:
            self.usable = False
            raise CannotFork(f"it gave no answer in {timeout:g} s") from None
        except (OSError, ValueError) as error:
            self.usable = False
            raise CannotFork("it is gone") from error
        finally:
            self._listening -= 1
            if not self.usable:
                self.close()

    async def fork(
        self,
        *,
        environment: Mapping[str, str] | None,
        folder: Path,
        order: bytes,
        output: Output,
        status: int,
        control: int | None = None,
    ) -> Child:
        """A new process, as `processes.child.start` would start one. Raises CannotFork, and OSError
        where there are no descriptors left.

        `environment` and `folder`, its working directory, are left as they are where `environment`
        is None. `order`, at most 4 KiB, waits on its stdin. `status` is the descriptor to which it
        writes how its start goes. With `control`, its end of a socket, it becomes a template.
        """
        request = {"folder": None if environment is None else str(folder)}
        fds: list[int] = []
        try:
            fds.append(os.dup(status))  # of our own: who is cancelled closes theirs
            if environment is not None:
                fds.append(_unread(environment))
            if control is not None:
                fds.append(os.dup(control))
        except OSError:
            _close(fds)
            raise
        task = asyncio.get_running_loop().create_task(self._fork(request, fds, order, output))
        self._forks.add(task)
        task.add_done_callback(self._forks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_unwanted)
            raise

    async def _fork(
        self, request: Mapping[str, object], fds: list[int], order: bytes, output: Output
    ) -> Child:
        with ExitStack() as ours, ExitStack() as theirs:
            theirs.callback(_close, fds)
            stdin, to_stdin = os.pipe()
            theirs.callback(os.close, stdin)
            writer = ours.enter_context(os.fdopen(to_stdin, "wb", buffering=0))
            writer.write(order)  # now: the answer comes later than the fork can use it
            from_output, stdout = os.pipe()
            theirs.callback(os.close, stdout)
            reader = ours.enter_context(os.fdopen(from_output, "rb", buffering=0))
            async with self._one_at_a_time:
                if not self.usable:
                    raise CannotFork("it is gone")
                pid = await self._ask(request, [stdin, stdout, *fds])
            try:
                child = adopt(pid, stdin=writer, stdout=reader, output=output)
            except OSError as error:
                raise CannotFork("what it forked cannot be found") from error
            ours.pop_all()
            return child

    async def _ask(self, request: Mapping[str, object], fds: list[int]) -> int:
        """The pid of what was forked."""
        text = json.dumps(request).encode()
        head = _SIZE.pack(len(text))
        try:
            with adopting():
                if socket.send_fds(self._control, [head], fds) < len(head):
                    raise OSError("too little was sent")
                await asyncio.get_running_loop().sock_sendall(self._control, text)
                answer = await self.heard(self._timeout)
        except OSError as error:
            self.usable = False
            raise CannotFork("it is gone") from error
        pid = answer.get("pid")
        if "failed" in answer:
            raise CannotFork(str(answer["failed"]))
        if not isinstance(pid, int):
            raise Refused(str(answer.get("refused") or "it did not say why"))
        return pid

    async def settled(self) -> None:
        """Wait for the forks that are under way, wanted or not."""
        if self._forks:
            await asyncio.wait(self._forks)

    async def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = await asyncio.get_running_loop().sock_recv(self._control, size - len(data))
            if not piece:
                raise ValueError("the end")
            data += piece
        return data


def _unread(environment: Mapping[str, str]) -> int:
    """A descriptor from which what is forked reads it. The zygote does not: what one deployment is
    told, its secrets above all, would stay in memory of which all others get a copy."""
    fd = linux.memfd_create("environment")
    try:
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(json.dumps(dict(environment)).encode())
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _unwanted(fork: "asyncio.Task[Child]") -> None:
    """Whoever asked for it was cancelled meanwhile."""
    if not fork.cancelled() and fork.exception() is None:
        fork.result().kill()
