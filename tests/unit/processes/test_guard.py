"""Nothing of a guarded program outlives whoever started it."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from lakeport.processes.child import GUARD
from tests.unit.processes.family import PATIENCE, TREE, Family


@contextmanager
def guarded(*command: str, grace: float = 0.2) -> Iterator["subprocess.Popen[bytes]"]:
    argv = [sys.executable, "-I", "-S", str(GUARD), "--grace", str(grace), "--", *command]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guard:
        try:
            yield guard
        finally:
            guard.terminate()
            guard.wait(PATIENCE)


def tree(family: Family) -> Sequence[str]:
    return sys.executable, str(TREE), str(family.fifo)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_whole_family(family: Family, number: int) -> None:
    with guarded(*tree(family)) as guard:
        family.wait_until_up()

        guard.send_signal(number)

        family.wait_until_gone()
        assert guard.wait(PATIENCE) == 128 + signal.SIGTERM


def test_the_end_of_stdin_ends_the_whole_family(family: Family) -> None:
    with guarded(*tree(family)) as guard:
        family.wait_until_up()
        assert guard.stdin is not None

        guard.stdin.close()

        family.wait_until_gone()


def test_a_second_signal_skips_the_grace(family: Family) -> None:
    with guarded(*tree(family), grace=10 * PATIENCE) as guard:
        family.wait_until_up()

        guard.send_signal(signal.SIGTERM)
        guard.send_signal(signal.SIGINT)

        family.wait_until_gone()


def test_the_death_of_the_parent_ends_the_whole_family(family: Family) -> None:
    """The parent dies by SIGKILL, and somebody else keeps the guard's stdin open."""
    held, kept = os.pipe()
    starts_a_guard = (
        "import subprocess, sys; print(subprocess.Popen(sys.argv[1:]).pid, flush=True);"
        "import signal; signal.pause()"
    )
    argv = [sys.executable, "-I", "-S", str(GUARD), "--grace", "0.2", "--", *tree(family)]
    with subprocess.Popen(
        [sys.executable, "-c", starts_a_guard, *argv], stdin=held, stdout=subprocess.PIPE
    ) as parent:
        os.close(held)
        family.wait_until_up()

        parent.kill()

        family.wait_until_gone()
    os.close(kept)


def test_what_a_program_leaves_behind_is_ended(family: Family) -> None:
    program = (
        "import os, subprocess, sys; subprocess.Popen(sys.argv[1:]);"
        "open(sys.argv[-1] + '.go').read(); os._exit(7)"
    )
    os.mkfifo(f"{family.fifo}.go")
    with guarded(sys.executable, "-c", program, *tree(family)) as guard:
        family.wait_until_up()

        with open(f"{family.fifo}.go", "w", encoding="ascii"):
            pass

        family.wait_until_gone()
        assert guard.wait(PATIENCE) == 7


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(3)", 3),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
    ],
)
def test_it_exits_with_the_programs_code(program: str, code: int) -> None:
    with guarded(sys.executable, "-c", program) as guard:
        assert guard.wait(PATIENCE) == code


def test_a_program_that_cannot_be_run_is_code_127() -> None:
    with guarded("/nonexistent/program") as guard:
        assert guard.wait(PATIENCE) == 127


def test_the_program_gets_an_empty_stdin_and_the_guards_stdout() -> None:
    with guarded(
        sys.executable, "-c", "print([input])\ntry: input()\nexcept EOFError: print('eof')"
    ) as guard:
        assert guard.stdout is not None
        assert b"eof" in guard.stdout.read()
    with contextlib.suppress(ProcessLookupError):
        os.kill(guard.pid, 0)
