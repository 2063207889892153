"""`lakeport serve --faults` as a child of the tests: its folder, its address, its end."""

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import lakeport

#: Seconds for a server to say that it is ready: two on an idle machine.
START_TIMEOUT: Final = 60.0
#: Seconds for it and its workers to end by themselves.
GRACE: Final = 3.0
_POLL = 0.01
_READY = re.compile(rb"Lakeport is ready: (http://\S+)")
_ENTRY = "import sys; from lakeport.cli.main import main; sys.exit(main())"
#: What a server cannot be imported without; the extra brings all of them.
_NEEDED = ("aiohttp", "fastapi", "mlflow", "pydantic", "sqlalchemy", "uvicorn")
#: Lines of its log that a failed start shows.
_SHOWN = 30


class ServerFailed(Exception):
    """The server could not be started; the message has the end of its log."""


class Server:
    """A running server, from `start` to `close`. It also ends when this process does, however."""

    def __init__(self, process: "subprocess.Popen[bytes]", *, folder: Path, token: str) -> None:
        self._process = process
        #: Of this user alone; gone at the end.
        self.folder = folder
        self.token = token
        self.url = ""

    @property
    def log(self) -> Path:
        """What the server says of itself."""
        return self.folder / "server.log"

    def close(self) -> None:
        """Nothing of it runs when this returns, and its folder is gone."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()  # the guard's sign to end all of it
        try:
            self._process.wait(GRACE + 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def start(*, python: str | None = None, timeout: float = START_TIMEOUT) -> Server:
    """A server that answers. Raises ServerFailed.

    `python`: an interpreter whose environment has `lakeport[server]`, where this one has not.
    """
    if python is None:
        _check_environment()
    # Short: the paths of sockets below it are.
    folder = Path(tempfile.mkdtemp(prefix="lakeport-"))
    token = secrets.token_urlsafe(24)
    try:
        server = Server(_begin(folder, token, python or sys.executable), folder=folder, token=token)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ServerFailed(f"{python or sys.executable} cannot be run: {error}") from error
    try:
        server.url = _wait(server, time.monotonic() + timeout)
    except BaseException:
        server.close()
        raise
    return server


def _check_environment() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ServerFailed(
            f"A test workspace is a Lakeport server, and this environment lacks what one needs "
            f"({', '.join(missing)}). Install it: pip install 'lakeport[testing]'. Or name another "
            "environment that has it by the ini option lakeport_python."
        )


def _begin(folder: Path, token: str, python: str) -> "subprocess.Popen[bytes]":
    # By its path: the guard is a script that imports nothing of ours.
    guard = Path(lakeport.__file__).parent / "processes" / "guard.py"
    command = [
        *(sys.executable, "-I", "-S", str(guard), "--grace", f"{GRACE:g}"),
        *("--folder", str(folder), "--"),
        *(python, "-c", _ENTRY, "serve"),
        *("--faults", "--home", str(folder / "home"), "--port", "0"),
        *("--host", "127.0.0.1", "--stop-grace", "0"),
    ]
    kept = {name: value for name, value in os.environ.items() if not _misleads(name)}
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=kept | {"LAKEPORT_ADMIN_TOKEN": token},
        )


def _misleads(name: str) -> bool:
    """Whether a variable is for the tests, or for a server of the user's own."""
    # Without bytecode every start compiles the world again.
    return name.startswith(("LAKEPORT_", "DATABRICKS_", "MLFLOW_", "PYTHONDONTWRITEBYTECODE"))


def _wait(server: Server, deadline: float) -> str:
    while True:
        code = server._process.poll()
        said = server.log.read_bytes()  # after the look at the process: its last words are there
        if found := _READY.search(said):
            return found[1].decode()
        if code is not None:
            raise ServerFailed(f"The test workspace's server ended with {code}:\n{_end_of(said)}")
        if time.monotonic() > deadline:
            raise ServerFailed(f"The test workspace's server did not start:\n{_end_of(said)}")
        time.sleep(_POLL)


def _end_of(log: bytes) -> str:
    return "\n".join(log.decode("utf-8", "replace").splitlines()[-_SHOWN:])
