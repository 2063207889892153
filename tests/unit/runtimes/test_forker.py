"""The server's end of a zygote, with a test at the other end."""

import asyncio
import json
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakeport.runtimes.local.forker import CannotFork, Forker, Refused, can_fork

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")

SIZE = struct.Struct("<I")


@pytest.fixture
def other() -> Iterator[tuple[Forker, socket.socket]]:
    """A forker that waits two tenths of a second, and the zygote's end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    forker = Forker(ours, timeout=0.2)
    with theirs:
        yield forker, theirs
        forker.close()


@pytest.fixture
def status() -> Iterator[int]:
    readable, writable = os.pipe()
    yield writable
    os.close(readable)
    os.close(writable)


async def ask(forker: Forker, status: int) -> None:
    await forker.fork(
        environment={"A": "b"},
        folder=Path("/"),
        order=b"{}\n",
        output=lambda _: None,
        status=status,
    )


def answer(theirs: socket.socket, document: object) -> None:
    text = json.dumps(document).encode()
    theirs.send(SIZE.pack(len(text)) + text)


async def test_it_sends_what_a_fork_needs(other: tuple[Forker, socket.socket], status: int) -> None:
    forker, theirs = other
    answer(theirs, {"refused": "no"})

    with pytest.raises(CannotFork, match="no"):
        await ask(forker, status)

    head, fds, _, _ = socket.recv_fds(theirs, SIZE.size, 8)
    assert json.loads(theirs.recv(4096)) == {"folder": "/"}
    assert SIZE.unpack(head)
    assert len(fds) == 4
    assert os.read(fds[0], 100) == b"{}\n"
    assert json.loads(os.read(fds[3], 100)) == {"A": "b"}
    for fd in fds:
        os.close(fd)


async def test_a_refusal_leaves_it_usable(other: tuple[Forker, socket.socket], status: int) -> None:
    forker, theirs = other
    for _ in range(2):
        answer(theirs, {"refused": "2 further threads run"})

        with pytest.raises(CannotFork, match="2 further threads run"):
            await ask(forker, status)

        assert forker.usable


async def test_a_shortage_is_no_refusal(other: tuple[Forker, socket.socket], status: int) -> None:
    forker, theirs = other
    answer(theirs, {"failed": "there can be no more processes"})

    with pytest.raises(CannotFork, match="no more processes") as raised:
        await ask(forker, status)

    assert not isinstance(raised.value, Refused)
    assert forker.usable


async def test_one_that_hangs_is_given_up(other: tuple[Forker, socket.socket], status: int) -> None:
    forker, _ = other
    waiting = asyncio.create_task(ask(forker, status))
    second = asyncio.create_task(ask(forker, status))

    for task in (waiting, second):
        with pytest.raises(CannotFork):
            await task

    assert not forker.usable


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", SIZE.pack(3) + b"{x}", b"\0"])
async def test_one_that_talks_nonsense_or_dies_is_given_up(
    other: tuple[Forker, socket.socket], status: int, garbage: bytes
) -> None:
    forker, theirs = other
    theirs.send(garbage)
    theirs.close()

    with pytest.raises(CannotFork, match="gone"):
        await ask(forker, status)

    assert not forker.usable


async def test_closing_ends_who_waits(status: int) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    forker = Forker(ours)
    waiting = asyncio.create_task(ask(forker, status))
    await asyncio.get_running_loop().sock_recv(theirs, 1)
    forker.close()

    with pytest.raises(CannotFork, match="gone"):
        await waiting

    theirs.close()
    await forker.settled()


def test_a_python_that_was_built_for_older_kernels_can_fork(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("pidfd_open", "P_PIDFD", "memfd_create"):
        monkeypatch.delattr(os, name, raising=False)

    assert can_fork()


def test_nothing_is_forked_elsewhere_than_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    assert not can_fork()
