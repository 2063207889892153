"""A server's left-overs are known by their mark, not by their pid."""

import secrets
import subprocess
import sys

from lakeport.processes.leftovers import MARK, end_marked
from tests.unit.processes.family import TREE, Family


def test_all_that_carries_the_mark_is_ended_and_nothing_else(family: Family) -> None:
    mark = secrets.token_hex(16)
    pause = [sys.executable, "-c", "input()"]
    other = {MARK: secrets.token_hex(16)}
    with (
        subprocess.Popen([sys.executable, TREE, family.fifo], env={MARK: mark}),
        subprocess.Popen(pause, env=other, stdin=subprocess.PIPE) as bystander,
    ):
        family.wait_until_up()

        found = end_marked(mark)

        family.wait_until_gone()
        assert found == 4
        assert bystander.poll() is None


def test_nothing_left_is_no_error() -> None:
    assert end_marked(secrets.token_hex(16)) == 0
