"""Watches a family of processes by a pipe that all hold: it ends when the last of them does."""

import os
import select
from collections.abc import Callable, Coroutine
from pathlib import Path

TREE = Path(__file__).with_name("tree.py")
MEMBERS = 4
#: Seconds after which a fact that was waited for is taken for missing.
PATIENCE = 30
#: The fixture `run`: runs a coroutine on either event loop.
Run = Callable[[Coroutine[None, None, None]], None]


class Family:
    def __init__(self, folder: Path) -> None:
        self.fifo = folder / "alive"
        os.mkfifo(self.fifo)
        self._reader = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
        self._seen = b""

    def wait_until_up(self) -> None:
        self._read(until=lambda: self._seen.count(b"up\n") == MEMBERS)

    def wait_until_gone(self) -> None:
        assert self._seen, "nobody was ever up"
        self._read(until=lambda: False)

    def close(self) -> None:
        os.close(self._reader)

    def _read(self, until: Callable[[], bool]) -> None:
        """Until the fact holds, or everybody is gone."""
        while not until():
            ready, _, _ = select.select([self._reader], [], [], PATIENCE)
            assert ready, f"still waiting after {PATIENCE} s; so far: {self._seen!r}"
            data = os.read(self._reader, 4096)
            if not data and self._seen:
                return
            self._seen += data
