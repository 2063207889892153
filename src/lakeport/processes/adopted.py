"""Children that another process of ours forked, and that became this one's.

Linux only. A process whose parent dies becomes the child of the nearest ancestor that is a *child
subreaper*. So a zygote, itself a child of this process, forks twice and lets the one in the middle
end, while this process is a subreaper: what is left is this process' own child, which it may wait
for, and which does not care for the zygote's end.
"""

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from typing import IO

from lakeport.processes import linux
from lakeport.processes.child import Child, Output

_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
#: A child may end before the one in the middle has: until then it is not ours to wait for.
_NOT_OURS_YET = 0.01
_NEVER_OURS = 500


def can_adopt() -> bool:
    """Whether this machine's kernel has what it takes."""
    if sys.platform != "linux":
        return False
    try:
        own = linux.pidfd_open(os.getpid())
        try:
            # Kernels have known this later than such descriptors. They say that it is no child.
            with contextlib.suppress(ChildProcessError):
                os.waitid(linux.P_PIDFD, own, os.WEXITED | os.WNOHANG)
        finally:
            os.close(own)
        with adopting():
            return True
    except OSError:
        return False


class _Adopting:
    """How many wait for a child now, and what this process was before."""

    count = 0
    before = 0


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """This process is a child subreaper meanwhile. Raises OSError where that can't be had.

    Not for good: orphans of whatever other children left behind would then become ours too, and
    nobody would wait for them.
    """
    if _Adopting.count == 0:
        _Adopting.before = _subreaper()
        _become_subreaper(1)
    _Adopting.count += 1
    try:
        yield
    finally:
        _Adopting.count -= 1
        if _Adopting.count == 0:
            _become_subreaper(_Adopting.before)


def adopt(pid: int, *, stdin: IO[bytes], stdout: IO[bytes], output: Output) -> Child:
    """A `Child` for `pid`, which is a child of this process or becomes one soon; `stdin` and
    `stdout` are our ends of its pipes. It leads a process group of its own. Raises OSError."""
    pidfd = linux.pidfd_open(pid)
    child = Child(pid, stdin=stdin, stdout=stdout, output=output)
    loop = asyncio.get_running_loop()

    def reap(tries: int = 0) -> None:
        try:
            found = os.waitid(linux.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            if tries < _NEVER_OURS:
                loop.remove_reader(pidfd)
                loop.call_later(_NOT_OURS_YET, reap, tries + 1)
                return
            found = None
        else:
            if found is None:
                return  # a wake-up for nothing
        loop.remove_reader(pidfd)
        os.close(pidfd)
        if found is None:
            child.ended(1)
        else:
            exited = found.si_code == os.CLD_EXITED
            child.ended(found.si_status if exited else -found.si_status)

    loop.add_reader(pidfd, reap)
    return child


def _subreaper() -> int:
    value = ctypes.c_int()
    linux.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(value))
    return value.value


def _become_subreaper(value: int) -> None:
    linux.prctl(_PR_SET_CHILD_SUBREAPER, value)
