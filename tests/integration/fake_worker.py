"""Speaks the start of the worker protocol and does what its "model" says.

The model's folder holds a `behaviour` file: the name of one of the functions below.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from typing import Any

Order = dict[str, Any]


def say(state: str, **more: object) -> None:
    os.write(int(sys.argv[1]), json.dumps({"state": state} | more).encode() + b"\n")


def ready(order: Order) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(order["socket"])
    listener.listen()
    say("ready", pid=os.getpid(), row_wise=True, credit=64, streams=False)
    sys.stdin.read()


def stubborn(order: Order) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready(order)


def tells(order: Order) -> None:
    """Writes what it was given, for a test to look at."""
    with open(os.path.join(order["model"], "told.json"), "w", encoding="utf-8") as file:
        json.dump(
            {
                "order": order,
                "environment": dict(os.environ),
                "argv": sys.orig_argv[1:],
                "cwd": os.getcwd(),
                "group": os.getpgid(0) == os.getpid(),
                "umask": os.umask(0o077),
                "descriptors": [
                    fd for fd in range(200) if fd != 3 and os.path.exists(f"/dev/fd/{fd}")
                ],
            },
            file,
        )
    ready(order)


def raises(_: Order) -> None:
    say("failed", message="the model raised FileNotFoundError: /srv/models/secret/weights.bin")
    sys.exit(1)


def crashes(_: Order) -> None:
    raise ModuleNotFoundError("No module named 'frobnicate'")


def exits(_: Order) -> None:
    os._exit(5)


def runs_out_of_memory(_: Order) -> None:
    os._exit(70)


def killed(_: Order) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def segfaults(_: Order) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def hangs(_: Order) -> None:
    while True:
        signal.pause()


def babbles(order: Order) -> None:
    print("x" * 200_000, flush=True)
    ready(order)


def hoards(order: Order) -> None:
    """Takes memory once somebody connects."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(order["socket"])
    listener.listen()
    say("ready")
    listener.accept()
    hoard = b"x" * (300 << 20)
    while hoard:
        signal.pause()


def hoards_early(_: Order) -> None:
    hoard = b"x" * (300 << 20)
    while hoard:
        signal.pause()


def has_children(order: Order) -> None:
    """Starts a subprocess in a session of its own that nobody ends by its group."""
    fifo = os.path.join(order["model"], "alive")
    code = "import os, signal, sys; os.open(sys.argv[1], os.O_WRONLY); os.write(1, b'\\n')\n"
    code += "while True: signal.pause()"
    with subprocess.Popen(
        [sys.executable, "-c", code, fifo], stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        ready(order)
        os._exit(0)


if __name__ == "__main__":
    say("loading")
    order: Order = json.loads(sys.stdin.readline())
    with open(os.path.join(order["model"], "behaviour"), encoding="utf-8") as file:
        behaviour = file.read()
    print(f"loading, to be {behaviour}", flush=True)
    globals()[behaviour](order)
