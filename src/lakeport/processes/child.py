"""One child process: its output, its end, and how to make it end.

The same under every event loop: `subprocess.Popen` starts it and a thread waits for it, so nothing
depends on a loop's own idea of children. One that another process of ours forked is adopted
instead: see `adopted.py`.
"""

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from lakeport.processes.pipes import PipeReader

Output = Callable[[bytes], None]

GUARD = Path(__file__).with_name("guard.py")
#: Seconds that the guard gives a foreign program between SIGTERM and SIGKILL.
GUARD_GRACE = 3.0
#: Seconds that a guard needs to kill what is left; see guard.KILL_WAIT.
GUARD_KILLS = 6.0
#: Seconds for the output of a child that ended to arrive.
LAST_WORDS = 1.0


class Child:
    """A running child and its process group; `stop` it, or it ends with the server.

    Its stdin stays open until it has ended: end of file there tells it that the server is gone.
    """

    def __init__(
        self,
        pid: int,
        *,
        stdin: IO[bytes],
        stdout: IO[bytes],
        output: Output,
        guarded: bool = False,
    ) -> None:
        """`stdin` and `stdout` are our ends of its pipes. Whoever makes it calls `ended`."""
        self._pid = pid
        self._stdin = stdin
        self._guarded = guarded
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = self._loop.create_future()
        self._output = PipeReader(stdout, output)

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def exited(self) -> "asyncio.Future[int]":
        """Done with the exit code once it has ended; minus the signal's number if one killed it.

        Awaiting it may be cancelled without harm.
        """
        return asyncio.shield(self._exited)

    @property
    def output_ended(self) -> "asyncio.Future[None]":
        """Done when no more output can come: it has ended, and all heirs of its stdout too (or a
        second has passed)."""
        return asyncio.shield(self._output.ended)

    def write(self, line: bytes) -> None:
        """Write to its stdin: at most 4 KiB in all, so that a child that reads nothing blocks
        nobody."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(line)

    async def stop(self, *, grace: float) -> None:
        """Ask it to end, kill its group after `grace` seconds; returns once it is gone.

        A cancelled stop kills at once.
        """
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.exited, grace)
        except TimeoutError:
            self.kill()
        except asyncio.CancelledError:
            self.kill()
            raise
        if self._guarded:
            # The guard kills its group, then ends. Killed itself, it could no longer do that.
            try:
                await asyncio.wait_for(self.exited, GUARD_KILLS)
            except TimeoutError:
                self._signal_group(signal.SIGKILL)
        await self.exited

    def kill(self) -> None:
        """Kill its whole group, now."""
        if self._exited.done():
            return  # its number may be another's by now
        if self._guarded:
            # A second SIGTERM is the guard's word for "now"; the first may have been sent or not.
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGINT)
        else:
            self._signal_group(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if not self._exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _signal_group(self, number: int) -> None:
        # macOS answers EPERM for a group in which only zombies are left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def ended(self, code: int) -> None:
        """It has ended with `code`, as `exited` has it: say so, on the loop."""
        # What it left behind in its group: subprocesses of a model that crashed.
        self._signal_group(signal.SIGKILL)
        self._stdin.close()
        self._exited.set_result(code)
        # A process that left the group may hold the pipe for ever; we don't.
        self._loop.call_later(LAST_WORDS, self._output.close)


async def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    output: Output,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start a program of ours: one that ends by itself when its stdin does.

    It leads a process group of its own (a session, so no terminal reaches it), has umask 077 and no
    descriptors but stdin, stdout and stderr (both to `output`) and `pass_fds`. Raises OSError.
    """
    return await _start(argv, env=env, cwd=cwd, output=output, pass_fds=pass_fds, guarded=False)


async def start_guarded(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    output: Output,
) -> Child:
    """Start a foreign program under a guard (`guard.py`), which ends all that came of it when it is
    stopped and when the server is gone. Its stdin is empty. A program that cannot be run exits with
    127. Raises OSError.
    """
    guard = [sys.executable, "-I", "-S", str(GUARD), "--grace", str(GUARD_GRACE), "--", *argv]
    return await _start(guard, env=env, cwd=cwd, output=output, pass_fds=(), guarded=True)


async def _start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None,
    output: Output,
    pass_fds: Sequence[int],
    guarded: bool,
) -> Child:
    # Returns once the program is loaded, a few milliseconds; from a thread that ends, the child's
    # death signal would come when that thread does.
    process = subprocess.Popen(  # noqa: ASYNC220
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        env=dict(env),
        cwd=cwd,
        pass_fds=pass_fds,
        start_new_session=True,
        umask=0o077,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    child = Child(
        process.pid, stdin=process.stdin, stdout=process.stdout, output=output, guarded=guarded
    )
    loop = asyncio.get_running_loop()

    def wait() -> None:
        code = process.wait()
        # A loop that is closed already has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(child.ended, code)

    try:
        threading.Thread(target=wait, name=f"child-{child.pid}", daemon=True).start()
    except RuntimeError as error:  # no more threads: nobody would hear of its end
        process.kill()
        child.ended(process.wait())
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
    return child


def how_it_ended(code: int) -> str:
    """An exit code of `Child.exited` in words: "exited with code 3", "killed by SIGSEGV"."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
