"""A worker's life: take the order, guard against outliving the server, load the model, serve."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from .log import say, say_exception

#: sysexits.h has no word for it; the local runtime only reports it.
EXIT_OUT_OF_MEMORY: Final = 70
_MIB = 1024 * 1024
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Order:
    """What the runtime wants: docs/internals/worker-protocol.md has the meanings."""

    model: Path
    socket: Path
    secret: str
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
    """Never returns: what a model left running must not hold up the end."""
    code = 1
    try:
        code = _run(Status(status_fd))
    except BaseException:  # noqa: BLE001  it is on the way out, and must say why
        say_exception("the worker failed")
    finally:
        for stream in (sys.stdout, sys.stderr):
            # It may be a model's own object, or closed: there is nothing to be done about it.
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _run(status: Status) -> int:
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = Order.parse(_take_line(0))
    _die_with_parent(order.parent)
    _hold_lifeline()
    _bound_memory(order.memory_limit)
    status.tell(state="loading")

    # Late, so that the runtime hears soon; numpy alone takes a while.
    from . import model, refusal, scorer, server

    refusal.hide_path(str(order.model))
    try:
        loaded = model.load(order.model, merge=order.merge)
        serving = server.Server(
            scorer.Scorer(loaded, max_body=order.max_body),
            secret=order.secret,
            concurrency=order.concurrency,
        )
        serving.listen(order.socket)
    except BaseException as error:  # noqa: BLE001  the author's code may raise anything
        say_exception("the model could not be loaded")
        status.tell(state="failed", message=refusal.without_paths(_reason(error, order)))
        return 1
    # What a model and its libraries made stays: to look through it for cycles would stop every
    # request for a tenth of a second, again and again.
    gc.collect()
    gc.freeze()
    status.tell(
        state="ready",
        pid=os.getpid(),
        row_wise=loaded.row_wise,
        credit=serving.credit,
        streams=loaded.streams,
    )
    status.close()
    return 0 if serving.run() else EXIT_OUT_OF_MEMORY


def _reason(error: BaseException, order: Order) -> str:
    """Why a model was not loaded, in a line for people."""
    if isinstance(error, MemoryError):
        limit = f" of {order.memory_limit // _MIB} MiB" if order.memory_limit else ""
        return f"The model ran out of memory while it was loaded: its limit{limit} is too small."
    if isinstance(error, SystemExit):
        return f"The model ended the process while it was loaded: exit({error.code})."
    return f"The model could not be loaded: {type(error).__name__}: {error}"


# --- the ties to the server ---------------------------------------------------------------------


def _take_line(fd: int) -> bytes:
    """One line, and not a byte more than was sent with it: nothing follows it."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(fd, 65536)
        if not piece:
            raise EOFError("the order ended before its line did")
        line += piece
    return line


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            say("no death signal was to be had; the lifeline alone must do")
    if parent and os.getppid() != parent:
        raise RuntimeError("the server ended before the worker began")


def _hold_lifeline() -> None:
    """End at once when stdin does: the server holds its other end as long as it lives."""
    lifeline = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)

    def wait() -> None:
        while os.read(lifeline, 4096):
            pass
        os._exit(0)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def _bound_memory(limit: int) -> None:
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
