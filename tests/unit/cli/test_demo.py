"""What of `lakeport demo` needs no server; tests/e2e/test_demo.py plays it."""

import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from lakeport.cli import demo


def stand_in(monkeypatch: pytest.MonkeyPatch, play: Callable[..., None]) -> list[Path]:
    """A demo that does `play`; returns the folders of the servers that were ended in order."""
    ended: list[Path] = []

    @contextmanager
    def served(folder: Path, console: Console) -> Iterator[demo.Workspace]:
        try:
            yield demo.Workspace("http://127.0.0.1:1", "token")
        finally:
            ended.append(folder)

    monkeypatch.setattr(demo, "_served", served)
    monkeypatch.setattr(demo, "_play", play)
    return ended


def test_a_failure_is_told_as_it_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise demo.DemoFailed("pip install 'lakeport[server]'")

    stand_in(monkeypatch, fail)
    said = io.StringIO()

    status = demo.run(console=Console(file=said))

    assert status == 1
    assert "pip install 'lakeport[server]'" in said.getvalue()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_demo_and_its_server_in_order(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = stand_in(monkeypatch, lambda *_: os.kill(os.getpid(), number))
    before = signal.signal(number, signal.SIG_DFL)
    try:
        status = demo.run(console=Console(file=io.StringIO()))
        after = signal.getsignal(number)
    finally:
        signal.signal(number, before)

    assert status == 130
    (folder,) = ended
    assert not folder.exists()
    assert after is signal.SIG_DFL


def test_a_hangup_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = stand_in(monkeypatch, lambda *_: os.kill(os.getpid(), signal.SIGHUP))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        status = demo.run(console=Console(file=io.StringIO()))
    finally:
        signal.signal(signal.SIGHUP, before)

    assert status == 0
    assert len(ended) == 1
