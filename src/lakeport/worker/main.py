"""A worker's life: take the order, guard against outliving the server, load the model, serve.

It begins as a program of its own (`run`), or forked by a zygote or a template (`forked`).
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from .log import say, say_exception

#: sysexits.h has no word for it; the local runtime only reports it.
EXIT_OUT_OF_MEMORY: Final = 70
_MIB = 1024 * 1024
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
#: Seconds until a forked process must be the server's child; it takes milliseconds.
_ADOPTION = 30.0

if TYPE_CHECKING:
    from .model import Model


@dataclass(frozen=True, slots=True)
class Order:
    """What the runtime wants: docs/internals/worker-protocol.md has the meanings."""

    model: Path
    socket: Path
    secret: str = field(repr=False)
    concurrency: int
    max_body: int
    memory_limit: int
    merge: bool | None
    parent: int

    @classmethod
    def parse(cls, line: bytes) -> Order:
        fields = json.loads(line)
        return cls(
            model=Path(fields["model"]),
            socket=Path(fields["socket"]),
            secret=fields["secret"],
            concurrency=fields["concurrency"],
            max_body=fields["max_body"],
            memory_limit=fields["memory_limit"],
            merge=fields["merge"],
            parent=fields["parent"],
        )


class Status:
    """The pipe on which the runtime hears how the start goes."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._file = os.fdopen(fd, "wb", buffering=0)

    def tell(self, **state: Any) -> None:
        # Broken: the runtime has gone, and the lifeline ends this process.
        with contextlib.suppress(BrokenPipeError):
            self._file.write(json.dumps(state).encode() + b"\n")

    def close(self) -> None:
        self._file.close()


def run(status_fd: int) -> NoReturn:
    """The life of a worker that is a program of its own."""

    def life() -> int:
        status = Status(status_fd)
        begin("lakeport-worker")
        order = Order.parse(take_line(0))
        die_with_parent(order.parent)
        _hold_lifeline(lambda: None)
        return _live(order, status, None)

    leave(life)


def forked(status_fd: int, loaded: Model | None) -> int:
    """The life of a worker that was forked, `loaded` by a template or by nobody; its exit code."""
    status = Status(status_fd)
    name_process("lakeport-worker")
    order = Order.parse(take_line(0))
    # A thread's death signal is the process': it may serve before the server has adopted it.
    _hold_lifeline(lambda: be_adopted(order.parent))
    return _live(order, status, loaded)


def leave(life: Callable[[], int]) -> NoReturn:
    """Live, and exit with the code: what a model left running must not hold up the end."""
    code = 1
    try:
        code = life()
    except BaseException:  # noqa: BLE001  it is on the way out, and must say why
        say_exception("the worker failed")
    finally:
        flush()
        os._exit(code)


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # It may be a model's own object, or closed: there is nothing to be done about it.
        with contextlib.suppress(Exception):
            stream.flush()


def begin(name: str) -> None:
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name_process(name)


def load(order: Order, status: Status) -> Model | None:
    """The model; None when it could not be loaded, which is said."""
    # Late, so that the runtime hears soon; numpy alone takes a while.
    from . import model, refusal

    refusal.hide_path(str(order.model))
    try:
        return model.load(order.model, merge=order.merge)
    except BaseException as error:  # noqa: BLE001  the author's code may raise anything
        _fail(error, order, status)
        return None


def _live(order: Order, status: Status, loaded: Model | None) -> int:
    if loaded is None:
        bound_memory(order.memory_limit)
    status.tell(state="loading")
    if loaded is None:
        loaded = load(order, status)
        if loaded is None:
            return 1
        # What a model and its libraries made stays: to look through it for cycles would stop every
        # request for a tenth of a second, again and again.
        gc.collect()
        gc.freeze()

    from . import scorer, server

    try:
        serving = server.Server(
            scorer.Scorer(loaded, max_body=order.max_body),
            secret=order.secret,
            concurrency=order.concurrency,
        )
        serving.listen(order.socket)
    except BaseException as error:  # noqa: BLE001  the author's code may raise anything
        _fail(error, order, status)
        return 1
    status.tell(
        state="ready",
        pid=os.getpid(),
        row_wise=loaded.row_wise,
        credit=serving.credit,
        streams=loaded.streams,
    )
    status.close()
    return 0 if serving.run() else EXIT_OUT_OF_MEMORY


def _fail(error: BaseException, order: Order, status: Status) -> None:
    from . import refusal

    say_exception("the model could not be loaded")
    status.tell(state="failed", message=refusal.without_paths(_reason(error, order)))


def _reason(error: BaseException, order: Order) -> str:
    """Why a model was not loaded, in a line for people."""
    if isinstance(error, MemoryError):
        limit = f" of {order.memory_limit // _MIB} MiB" if order.memory_limit else ""
        return f"The model ran out of memory while it was loaded: its limit{limit} is too small."
    if isinstance(error, SystemExit):
        return f"The model ended the process while it was loaded: exit({error.code})."
    return f"The model could not be loaded: {type(error).__name__}: {error}"


# --- the ties to the server ---------------------------------------------------------------------


def take_line(fd: int) -> bytes:
    """One line, and not a byte more than was sent with it: nothing follows it."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(fd, 65536)
        if not piece:
            raise EOFError("the order ended before its line did")
        line += piece
    return line


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent's thread ends. Raises RuntimeError where
    that has happened, or the parent is another than `parent`."""
    if not _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL):
        say("no death signal was to be had; the lifeline alone must do")
    if parent and os.getppid() != parent:
        raise RuntimeError("the server ended before the worker began")


def be_adopted(parent: int) -> None:
    """Wait until this process is the child of `parent`, then as `die_with_parent`: the one that
    forked it is about to end, and asked for earlier, the signal would come then."""
    deadline = time.monotonic() + _ADOPTION
    while os.getppid() != parent and time.monotonic() < deadline:
        time.sleep(0.001)
    die_with_parent(parent)


def name_process(name: str) -> None:
    """What `ps` and `top` call it: at most 15 characters."""
    _prctl(_PR_SET_NAME, name.encode())


def _prctl(option: int, value: int | bytes) -> bool:
    """Whether the kernel took it; elsewhere than on Linux there is none."""
    if sys.platform != "linux":
        return True
    return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)


def _hold_lifeline(first: Callable[[], None]) -> None:
    """End at once when stdin does: the server holds its other end as long as it lives. `first`
    comes first in the thread that waits for it, and ends the process when it raises."""
    lifeline = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)

    def wait() -> None:
        try:
            first()
            while os.read(lifeline, 4096):
                pass
        finally:
            os._exit(0)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def bound_memory(limit: int) -> None:
    """Have this process, rather than the machine, run out of memory."""
    if sys.platform == "linux":
        try:
            Path("/proc/self/oom_score_adj").write_text("800", encoding="ascii")
        except OSError as error:
            say(f"the kernel's choice of victims could not be swayed: {error}")
    if not limit:
        return
    import resource

    try:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    except (ValueError, OSError) as error:  # macOS knows the limit, and does not always take it
        say(f"memory is not bounded: {error}")
