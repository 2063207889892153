"""A zygote has imported what workers need, and forks them; a template has loaded the model, too.

The server asks on a socket, `docs/internals/zygote.md` says how. A fork copies one thread only, and
whatever the others held stays held for ever: so neither forks while it has a second thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NoReturn

from .log import say
from .main import (
    Order,
    Status,
    be_adopted,
    begin,
    bound_memory,
    die_with_parent,
    flush,
    forked,
    leave,
    load,
    name_process,
    take_line,
)

#: Its siblings that a worker imports once it has its order.
_SIBLINGS = ("model", "scorer", "server", "refusal")
#: What can't be forked once it is imported: threads, devices, or channels that a copy breaks.
_UNSAFE = ("cupy", "jax", "polars", "pyspark", "ray", "tensorflow", "torch")
#: Starts threads when it is imported; MLflow does so where it is installed, and needs it for data
#: sets only.
_LEFT_OUT = "polars"
_SIZE = struct.Struct("<I")
#: Descriptors that come with a request, at most.
_FDS = 5
#: Threads that have been told to end take a moment to be gone.
_ENDING = 0.2

Become = Callable[[int], int]


def run(control_fd: int) -> NoReturn:
    """The life of a zygote: its order, a line on stdin, says what to import."""
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)

    def life() -> int:
        begin("lakeport-zygote")
        order = json.loads(take_line(0))
        die_with_parent(order["parent"])
        bound_memory(0)
        _import(order["imports"])
        _settle()
        _send(control, {"state": "ready"})
        return _serve(control, lambda fd: forked(fd, None), None)

    leave(life)


def _import(names: list[str]) -> None:
    """What is not there is left to the worker that needs it."""
    blocked = _LEFT_OUT not in sys.modules
    if blocked:
        sys.modules[_LEFT_OUT] = None  # type: ignore[assignment]
    for name in [*names, *(f"{__package__}.{sibling}" for sibling in _SIBLINGS)]:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if blocked:
        del sys.modules[_LEFT_OUT]
    for first in (_look_up_packages, _check_a_frame):
        try:
            first()
        except Exception as error:  # noqa: BLE001  others' insides: the worker does it then
            say(f"{first.__name__.strip('_')}: {error}")


def _look_up_packages() -> None:
    """What MLflow does when it loads its first model, and remembers: a second or more where many
    packages are installed."""
    known = sys.modules.get("mlflow.utils.requirements_utils")
    look_up = getattr(known, "_init_packages_to_modules_map", None)
    if look_up is not None:
        look_up()


def _check_a_frame() -> None:
    """What scikit-learn does before each predict; the first time, it imports more for it."""
    validation, pandas = map(sys.modules.get, ("sklearn.utils.validation", "pandas"))
    if validation is not None and pandas is not None:
        validation.check_array(pandas.DataFrame({"x": [1.0]}))


def _template(control: socket.socket, status_fd: int) -> int:
    """The life of a template; its exit code."""
    status = Status(status_fd)
    name_process("lakeport-tmpl")
    order = Order.parse(take_line(0))
    be_adopted(order.parent)
    bound_memory(order.memory_limit)
    status.tell(state="loading")
    before = _channels()
    loaded = load(order, status)
    if loaded is None:
        return 1
    unfit = "the model holds connections" if _channels() - before else None
    _settle()
    status.tell(state="ready", pid=os.getpid())
    status.close()
    return _serve(control, lambda fd: forked(fd, loaded), unfit)


def _serve(control: socket.socket, become: Become, unfit: str | None) -> int:
    """Fork for as long as the server lives; returns when it has gone, or let go of this. `unfit`
    is why it never may."""
    while True:
        ready, _, _ = select.select([control.fileno(), 0], [], [])
        if 0 in ready:
            return 0  # its lifeline: nothing is ever written there
        received = _receive(control)
        if received is None:
            return 0
        request, fds = received
        refused = unfit or _unsafe()
        answer = {"refused": refused} if refused else _fork(request, fds, control, become)
        for fd in fds:
            os.close(fd)
        _send(control, answer)


def _fork(
    request: dict[str, Any], fds: list[int], control: socket.socket, become: Become
) -> dict[str, Any]:
    """Fork twice: the one in the middle ends, so that the server adopts the other."""
    flush()
    readable, writable = os.pipe()
    try:
        middle = os.fork()
        if middle == 0:
            try:
                pid = os.fork()
            except OSError:
                os._exit(1)
            if pid:
                os.write(writable, b"%d" % pid)
                os._exit(0)
            leave(lambda: _begin(request, fds, control, (readable, writable), become))
    except OSError as error:
        os.close(readable)
        return {"failed": f"there can be no more processes: {error.strerror}"}
    finally:
        os.close(writable)
    told = os.read(readable, 32)
    os.close(readable)
    os.waitpid(middle, 0)
    return {"pid": int(told)} if told else {"failed": "there can be no more processes"}


def _begin(
    request: dict[str, Any],
    fds: list[int],
    control: socket.socket,
    pipe: tuple[int, int],
    become: Become,
) -> int:
    """What was just forked becomes a worker or a template, as one that was spawned would be."""
    control.close()
    for fd in pipe:
        os.close(fd)
    os.setsid()
    stdin, output, status_fd, *further = fds
    os.dup2(stdin, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(stdin)
    os.close(output)
    os.umask(0o077)
    if request["folder"] is not None:  # a template's own is what its model was loaded with
        with os.fdopen(further.pop(0), "rb") as environment:
            os.environ.clear()
            os.environ.update(json.load(environment))
        time.tzset()
        os.chdir(request["folder"])
    _forget_what_all_would_share()
    if further:
        return _template(socket.socket(fileno=further[0]), status_fd)
    return become(status_fd)


def _forget_what_all_would_share() -> None:
    """The standard library's `random` does so by itself."""
    tempfile.tempdir = None
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _unsafe() -> str | None:
    """Why this process must not fork now."""
    deadline = time.monotonic() + _ENDING
    while len(threads := os.listdir("/proc/self/task")) > 1:
        if time.monotonic() > deadline:
            return f"{len(threads) - 1} further threads run: {', '.join(_names(threads))}"
        time.sleep(0.005)
    found = [name for name in _UNSAFE if name in sys.modules]
    if found:
        return f"it has imported {', '.join(found)}"
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return "it has a child"


def _names(threads: list[str]) -> set[str]:
    found = set()
    for thread in threads:
        if int(thread) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/comm") as file:
                found.add(file.read().strip())
    return found


def _channels() -> set[str]:
    """What is open and would be one thing for all copies: connections, pipes, polls."""
    links = {_link(int(fd)) for fd in os.listdir("/proc/self/fd")}
    return {link for link in links if link.startswith(("socket:", "pipe:", "anon_inode:"))}


def _link(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def _settle() -> None:
    """Leave pages alone from now on, so that copies share them."""
    gc.collect()
    gc.freeze()
    with contextlib.suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


# --- the socket ---------------------------------------------------------------------------------


def _receive(control: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """A request with its descriptors; None when the server has closed."""
    head, fds, _, _ = socket.recv_fds(control, _SIZE.size, _FDS, socket.MSG_CMSG_CLOEXEC)
    if len(head) < _SIZE.size:
        return None
    left = _SIZE.unpack(head)[0]
    pieces = []
    while left:
        piece = control.recv(left)
        if not piece:
            return None
        pieces.append(piece)
        left -= len(piece)
    return json.loads(b"".join(pieces)), fds


def _send(control: socket.socket, answer: dict[str, Any]) -> None:
    text = json.dumps(answer).encode()
    try:
        control.sendall(_SIZE.pack(len(text)) + text)
    except OSError:
        say("the server has gone")
