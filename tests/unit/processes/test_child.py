"""Children under either event loop: output, end, stop."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from lakeport.processes.child import Child, Output, how_it_ended, start, start_guarded
from lakeport.processes.environment import scrubbed
from tests.unit.processes.family import PATIENCE, TREE, Family, Run

Start = Callable[[list[str], Output], Awaitable[Child]]


async def plain(argv: list[str], output: Output) -> Child:
    return await start(argv, env=scrubbed(), output=output)


async def guarded(argv: list[str], output: Output) -> Child:
    return await start_guarded(argv, env=scrubbed(), output=output)


@pytest.fixture(params=[plain, guarded])
def begin(request: pytest.FixtureRequest) -> Start:
    chosen: Start = request.param
    return chosen


def test_output_and_exit_code_arrive(run: Run, begin: Start) -> None:
    async def main() -> None:
        heard: list[bytes] = []
        program = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)"

        child = await begin([sys.executable, "-c", program], heard.append)

        assert await child.exited == 3
        await child.output_ended
        assert b"".join(heard) == b"out\nerr\n"

    run(main())


def test_many_at_once_do_not_mix_up(run: Run) -> None:
    async def main() -> None:
        async def one(number: int) -> bytes:
            heard: list[bytes] = []
            child = await plain(["/bin/sh", "-c", f"echo {number}; exit {number}"], heard.append)
            assert await child.exited == number
            await child.output_ended
            return b"".join(heard)

        said = await asyncio.gather(*map(one, range(40)))

        assert said == [b"%d\n" % number for number in range(40)]

    run(main())


def test_stop_is_gentle_first(run: Run, begin: Start) -> None:
    async def main() -> None:
        up = asyncio.Event()
        heard: list[bytes] = []

        def output(data: bytes) -> None:
            heard.append(data)
            up.set()

        program = (
            "import signal, sys\n"
            "def end(*_): print('bye'); sys.exit(0)\n"
            "signal.signal(signal.SIGTERM, end); print('up', flush=True)\n"
            "while True: signal.pause()"
        )
        child = await begin([sys.executable, "-c", program], output)
        await up.wait()

        await child.stop(grace=PATIENCE)

        assert await child.exited == 0
        await child.output_ended
        assert b"".join(heard) == b"up\nbye\n"

    run(main())


def test_stop_kills_what_does_not_listen(run: Run, begin: Start) -> None:
    async def main() -> None:
        up = asyncio.Event()
        program = (
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "print('up', flush=True)\n"
            "while True: signal.pause()"
        )
        child = await begin([sys.executable, "-c", program], lambda _: up.set())
        await up.wait()

        await child.stop(grace=0.1)

        assert how_it_ended(await child.exited) in {"killed by SIGKILL", "exited with code 137"}

    run(main())


def test_a_cancelled_stop_kills_at_once(run: Run, begin: Start) -> None:
    async def main() -> None:
        up = asyncio.Event()
        program = (
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "print('up', flush=True)\n"
            "while True: signal.pause()"
        )
        child = await begin([sys.executable, "-c", program], lambda _: up.set())
        await up.wait()
        stopping = asyncio.ensure_future(child.stop(grace=100 * PATIENCE))
        await asyncio.sleep(0)

        stopping.cancel()

        await child.exited

    run(main())


def test_stop_ends_a_whole_guarded_family(run: Run, family: Family) -> None:
    async def main() -> None:
        child = await guarded([sys.executable, str(TREE), str(family.fifo)], lambda _: None)
        await asyncio.to_thread(family.wait_until_up)

        await child.stop(grace=0.1)

        await asyncio.to_thread(family.wait_until_gone)

    run(main())


def test_waiting_for_the_end_can_be_cancelled(run: Run) -> None:
    async def main() -> None:
        child = await plain([sys.executable, "-c", "input()"], lambda _: None)
        waiting = asyncio.ensure_future(child.exited)

        waiting.cancel()
        await asyncio.wait([waiting])

        assert not child.exited.done()
        await child.stop(grace=PATIENCE)

    run(main())


def test_a_plain_child_takes_its_group_along(run: Run, tmp_path: Path) -> None:
    """A model's subprocesses end with its worker, also when that crashes."""
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    async def main() -> None:
        up = asyncio.Event()
        program = (
            "import os, signal, sys\n"
            "if os.fork() == 0:\n"
            "    os.open(sys.argv[1], os.O_WRONLY); os.write(1, b'up'); signal.pause()\n"
            "signal.pause()"
        )
        child = await plain([sys.executable, "-c", program, str(fifo)], lambda _: up.set())
        await up.wait()

        os.kill(child.pid, signal.SIGKILL)

        assert await child.exited == -signal.SIGKILL
        await child.output_ended

    run(main())
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_only_the_descriptors_that_are_meant_are_inherited(run: Run) -> None:
    async def main() -> None:
        readable, writable = os.pipe()
        os.set_inheritable(readable, True)
        heard: list[bytes] = []
        program = (
            "import os\nprint([fd for fd in range(3, 200) if os.path.exists(f'/dev/fd/{fd}')])"
        )

        child = await start(
            [sys.executable, "-c", program],
            env=scrubbed(),
            output=heard.append,
            pass_fds=[writable],
        )

        await child.output_ended
        assert b"".join(heard).decode().strip() == f"[{writable}]"
        os.close(readable)
        os.close(writable)

    run(main())


def test_files_of_a_child_are_its_owners_alone(run: Run, begin: Start, tmp_path: Path) -> None:
    async def main() -> None:
        child = await begin(["/bin/sh", "-c", f"echo > {tmp_path}/file"], lambda _: None)
        await child.exited

        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600

    run(main())


def test_a_guarded_family_ends_with_a_server_that_is_killed(family: Family) -> None:
    server = (
        "import asyncio, sys\n"
        "from lakeport.processes.child import start_guarded\n"
        "async def main():\n"
        "    await start_guarded(sys.argv[1:], env={}, output=print)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    argv = [sys.executable, "-c", server, sys.executable, str(TREE), str(family.fifo)]
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(argv, env=os.environ | paths) as parent:
        family.wait_until_up()

        parent.kill()

        family.wait_until_gone()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with code 0"),
        (3, "exited with code 3"),
        (-11, "killed by SIGSEGV"),
        (-9, "killed by SIGKILL"),
        (-250, "killed by signal 250"),
    ],
)
def test_the_end_in_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words


def test_a_child_that_no_thread_can_wait_for_is_not_left_behind(
    run: Run, begin: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        monkeypatch.setattr(threading.Thread, "start", start_none)
        with pytest.raises(OSError, match="unavailable"):
            await begin(["sleep", "60"], lambda _: None)

    before = psutil.Process().children(recursive=True)
    run(main())

    new = [child for child in psutil.Process().children(recursive=True) if child not in before]
    _, alive = psutil.wait_procs(new, timeout=10)
    assert not alive
