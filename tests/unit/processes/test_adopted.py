"""Children that another process forked, under either event loop."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import psutil
import pytest

from lakeport.processes.adopted import adopt, adopting, can_adopt
from lakeport.processes.child import Child, start
from lakeport.processes.environment import scrubbed
from tests.unit.processes.family import PATIENCE, Run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is adopted")

#: Forks as a zygote does, what its arguments say, and tells the pid. Stays until its stdin ends.
FORKS = """
import os, sys, time
stdin, stdout = int(sys.argv[1]), int(sys.argv[2])
readable, writable = os.pipe()
if not os.fork():
    if os.fork():
        os._exit(0)
    os.setsid()  # before it is known: it must not end with the group of the one that forked it
    os.write(writable, b"%d" % os.getpid())
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    os.close(stdin)
    os.close(stdout)
    exec(sys.argv[3])
    os._exit(0)
os.wait()
print(int(os.read(readable, 32)), flush=True)
sys.stdin.read()
"""
WAITS = "os.read(0, 1)"
#: Leaves one in a group of its own, which tells whose child it is then.
LEAVES_AN_ORPHAN = """
import os, time
readable, writable = os.pipe()
parent = os.getpid()
if os.fork():
    os.read(readable, 1)
    os._exit(0)
os.setsid()
os.write(writable, b".")
while os.getppid() == parent:
    time.sleep(0.01)
print(os.getppid(), flush=True)
"""


@contextmanager
def pipe() -> Iterator[tuple[int, IO[bytes]]]:
    """A child's end to read from, and ours to write to."""
    theirs, ours = os.pipe()
    try:
        yield theirs, os.fdopen(ours, "wb", buffering=0)
    finally:
        os.close(theirs)


async def forked(program: str, heard: list[bytes]) -> tuple[Child, Child]:
    """Who forked, and who was adopted."""
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    ours, theirs = os.pipe()
    with pipe() as (stdin, writer), adopting():
        parent = await start(
            [sys.executable, "-c", FORKS, str(stdin), str(theirs), program],
            env=scrubbed(),
            output=lambda data: told.set_result(int(data)),
            pass_fds=(stdin, theirs),
        )
        os.close(theirs)
        pid = await told
    child = adopt(pid, stdin=writer, stdout=os.fdopen(ours, "rb", buffering=0), output=heard.append)
    return parent, child


def test_its_output_and_exit_code_arrive(run: Run) -> None:
    async def main() -> None:
        heard: list[bytes] = []

        parent, child = await forked("os.write(1, b'out'); os._exit(3)", heard)

        assert await child.exited == 3
        await child.output_ended
        assert b"".join(heard) == b"out"
        await parent.stop(grace=0)

    run(main())


def test_it_is_this_process_child_and_outlives_the_one_that_forked_it(run: Run) -> None:
    async def main() -> None:
        parent, child = await forked(WAITS, [])

        parent.kill()
        await parent.exited

        assert psutil.Process(child.pid).ppid() == os.getpid()
        child.write(b".")
        assert await child.exited == 0

    run(main())


def test_a_signal_is_told_and_it_can_be_stopped(run: Run) -> None:
    async def main() -> None:
        parent, killed = await forked(WAITS, [])
        parent_too, stopped = await forked(WAITS, [])

        os.kill(killed.pid, signal.SIGSEGV)
        await stopped.stop(grace=PATIENCE)

        assert await killed.exited == -signal.SIGSEGV
        assert await stopped.exited == -signal.SIGTERM
        assert not psutil.pid_exists(killed.pid)  # it was waited for
        await asyncio.gather(parent.stop(grace=0), parent_too.stop(grace=0))

    run(main())


def test_orphans_of_others_do_not_come_once_the_child_is_here(run: Run) -> None:
    async def main() -> None:
        parent, child = await forked(WAITS, [])
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        middle = await start(
            [sys.executable, "-c", LEAVES_AN_ORPHAN],
            env=scrubbed(),
            output=lambda data: told.set_result(int(data)),
        )
        await middle.exited

        assert await told != os.getpid()
        child.kill()
        await child.exited
        await parent.stop(grace=0)

    run(main())


def test_the_kernel_is_asked_whether_it_can() -> None:
    assert can_adopt()
