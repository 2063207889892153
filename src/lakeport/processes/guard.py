"""Runs a program that is not ours so that nothing of it outlives whoever started it.

    python -I -S guard.py [--grace SECONDS] [--folder PATH] -- COMMAND [ARGUMENT ...]

The command gets a process group of its own; its stdout and stderr are the guard's, its stdin is
empty. The guard ends the whole group, and on Linux every other descendant too, when

- it gets SIGTERM, SIGINT or SIGHUP (a second one skips the grace),
- its stdin ends: whoever started it holds the other end of that pipe, and does so for life,
- its parent changes, or (on Linux) dies.

First SIGTERM, and SIGKILL to what is left after the grace. When the command ends by itself, what it
left behind is ended the same way. The folder is the command's: where whoever started it has died,
the guard removes it. It exits with the command's code, or 128 plus the number of the signal that
killed it.

A script of its own, standard library only: it starts in about 15 ms and holds about 10 MB.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import FrameType

GRACE = 3.0
#: After SIGKILL only a process in the middle of a system call can be left; don't wait for it long.
KILL_WAIT = 5.0
#: How often to look at the parent: the last resort, where both the pipe and the signal failed.
POLL = 1.0

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the pipe and the poll have to do."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Requests:
    """Signals as facts to wait for."""

    def __init__(self) -> None:
        #: How often the guard was asked to end.
        self.ends = 0
        self.readable, self._writable = os.pipe()
        os.set_blocking(self.readable, False)
        os.set_blocking(self._writable, False)
        signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self.ends += 1

    def wait(self, seconds: float, *others: int) -> bool:
        """Until a signal came or `seconds` have passed; whether one of `others` is readable."""
        ready, _, _ = select.select([self.readable, *others], [], [], max(seconds, 0))
        if self.readable in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self.readable, 4096)
        return any(other in ready for other in others)


class Family:
    """The command and all that came of it."""

    def __init__(self, command: list[str]) -> None:
        guard = os.getpid()

        def die_with_the_guard() -> None:
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != guard:
                os._exit(1)

        self.leader = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=die_with_the_guard,  # noqa: PLW1509 - the guard has no threads
        ).pid
        self.code: int | None = None

    def reap(self) -> bool:
        """Take the exit codes that are there; whether anybody is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return self._group_exists()
            if pid == 0:
                return True
            if pid == self.leader:
                code = os.waitstatus_to_exitcode(status)
                self.code = code if code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        """To each once: a second SIGTERM can catch a program in the middle of its own end."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.leader, number)
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getpgid(pid) != self.leader:
                    os.kill(pid, number)

    def _group_exists(self) -> bool:
        try:
            os.killpg(self.leader, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            # macOS says so of a group in which only zombies are left.
            return False
        return True


def descendants(root: int) -> Iterator[int]:
    """Every process below `root`; also those that left its group, which on Linux come to their
    subreaper when their parent dies. Nothing where there is no /proc."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(FileNotFoundError):
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
                    children.setdefault(parent, []).append(int(entry))
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        waiting += below
        yield from below


def watch(family: Family, requests: Requests) -> None:
    """Until the command has ended or the guard has to."""
    parent = os.getppid()
    while family.reap() and family.code is None and not requests.ends and os.getppid() == parent:
        if requests.wait(POLL, 0) and not os.read(0, 4096):
            return


def end(family: Family, requests: Requests, grace: float) -> None:
    """SIGTERM, a grace, SIGKILL."""
    family.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace
    while family.reap() and requests.ends < 2 and time.monotonic() < deadline:
        requests.wait(min(deadline - time.monotonic(), 0.05))
    deadline = time.monotonic() + KILL_WAIT
    while family.reap() and time.monotonic() < deadline:
        # Again and again: what forks while it is being killed is found in the next round.
        family.signal(signal.SIGKILL)
        requests.wait(0.02)


def main(arguments: list[str]) -> int:
    split = arguments.index("--")
    options, command = arguments[:split], arguments[split + 1 :]
    grace = float(options[options.index("--grace") + 1]) if "--grace" in options else GRACE
    folder = options[options.index("--folder") + 1] if "--folder" in options else None
    parent = os.getppid()
    requests = Requests()
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        family = Family(command)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"cannot run {command[0]}: {error}", file=sys.stderr)  # noqa: T201 - its output
        return 127
    watch(family, requests)
    end(family, requests, grace)
    if folder is not None and os.getppid() != parent:
        import shutil  # noqa: PLC0415  heavier than all the rest

        shutil.rmtree(folder, ignore_errors=True)
    return 1 if family.code is None else family.code


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # Not sys.exit: an interpreter that winds down has let go of its signal handlers, and a late
    # signal would then be taken for the command's end.
    os._exit(code)
