"""The embedded registry: an MLflow server as a supervised child of ours."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import aiohttp

from lakeport.models.base import RegistryUnavailable
from lakeport.processes.child import Child, how_it_ended, start_guarded
from lakeport.processes.environment import scrubbed
from lakeport.telemetry.rotated import RotatedFile

log = logging.getLogger(__name__)

PROGRAM = Path(__file__).with_name("process.py")
#: Any host will do over a unix socket; MLflow serves this one by default.
BASE_URL = "http://localhost"
#: Seconds between looks at a child that comes up.
POLL = 0.05
#: Seconds that a child may take to come up before it is started anew. A first start makes tables.
START_TIMEOUT = 120.0
#: A child that lived this many seconds starts the back-off anew.
STEADY = 60.0
STOP_GRACE = 3.0
#: Idle connections end here before MLflow ends them (process.KEEP_ALIVE).
IDLE_CONNECTION = 30.0
CONNECTIONS = 128

Start = Callable[..., Awaitable[Child]]


def back_off(failures: int) -> float:
    """Seconds to wait before the next start after so many failures in a row: 1, 2, 4 ... 60."""
    return float(min(60, 2 ** min(failures - 1, 6)))


class RegistryServer:
    """MLflow's server as a child: started at its first use, and again whenever it dies.

    Its database is HOME/registry/mlflow.db, its files are in HOME/artifacts, its output is
    HOME/logs/registry.log. It listens on RUN/registry.sock; `run` is a private folder with a short
    path.
    """

    def __init__(
        self,
        home: Path,
        run: Path,
        *,
        wait: float,
        environment: Mapping[str, str] | None = None,
        start: Start = start_guarded,
    ) -> None:
        self._home = home
        self._wait = wait
        self._environment = environment or {}
        self._start = start
        self._socket = run / "registry.sock"
        self._log = RotatedFile(home / "logs" / "registry.log")
        self._supervisor: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._child: Child | None = None
        self._up = asyncio.Event()
        self._closed = False

    @property
    def up(self) -> bool:
        """Whether it answers, as far as is known."""
        return self._up.is_set()

    @property
    def pid(self) -> int | None:
        """Of the guard that holds the running child."""
        return self._child.pid if self._child is not None else None

    def begin(self) -> None:
        """Start it, without a wait. From now on it is kept running until `close`."""
        if self._closed:
            raise RegistryUnavailable("The model registry is being shut down.")
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise(), name="registry")

    async def session(self) -> tuple[aiohttp.ClientSession, str]:
        """Connections to it and the URL below which it answers, once it is up.

        Raises RegistryUnavailable when it is not up in time.
        """
        self.begin()
        try:
            async with asyncio.timeout(self._wait):
                await self._up.wait()
        except TimeoutError:
            raise RegistryUnavailable(
                f"The model registry did not come up in {self._wait:g} seconds; "
                "logs/registry.log in Lakeport's home says why."
            ) from None
        if self._closed:
            raise RegistryUnavailable("The model registry is being shut down.")
        return self._connections(), BASE_URL

    async def close(self) -> None:
        """It is gone when this returns."""
        self._closed = True
        self._up.set()  # lets go who waits for it
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        if self._session is not None:
            await self._session.close()
        self._socket.unlink(missing_ok=True)
        self._log.close()

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(
                    str(self._socket), limit=CONNECTIONS, keepalive_timeout=IDLE_CONNECTION
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _supervise(self) -> None:
        failures = 0
        while True:
            begun = time.monotonic()
            try:
                ended = await self._run_once()
            except OSError as error:  # no room, no processes: the machine may recover
                ended = str(error)
            failures = 1 if time.monotonic() - begun > STEADY else failures + 1
            pause = back_off(failures)
            log.warning("The model registry ended: %s. Next start in %g s", ended, pause)
            await asyncio.sleep(pause)

    async def _run_once(self) -> str:
        """One life of the child; how it ended, for people. Raises OSError."""
        begun = time.monotonic()
        self._prepare_folders()
        child = self._child = await self._start(
            self._command(), env=self._child_environment(), cwd=None, output=self._log.append
        )
        exited = child.exited
        try:
            if not await self._answers(exited):
                return f"it did not answer in {START_TIMEOUT:g} s"
            if not exited.done():
                log.info("The model registry is up after %.1f s", time.monotonic() - begun)
                self._up.set()
            return how_it_ended(await exited)
        finally:
            if not self._closed:
                self._up.clear()
            await child.stop(grace=STOP_GRACE)
            self._child = None

    def _prepare_folders(self) -> None:
        for folder in ("registry", "artifacts", "logs"):
            (self._home / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        # One that a killed child left would refuse connections until the new one replaces it.
        self._socket.unlink(missing_ok=True)

    def _command(self) -> list[str]:
        database = self._home / "registry" / "mlflow.db"
        options = {
            "database": database,
            "artifacts": self._home / "artifacts",
            "socket": self._socket,
        }
        # Safe path: this folder's modules must not pass for others of their names.
        command = [sys.executable, "-P", str(PROGRAM)]
        return command + [f"--{name}={value}" for name, value in options.items()]

    def _child_environment(self) -> dict[str, str]:
        return scrubbed(
            {
                # MLflow keeps small files of its own below it.
                "HOME": str(self._home / "registry"),
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "DO_NOT_TRACK": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_ENABLE_REMOTE_ASSISTANT": "false",
                "MLFLOW_ENABLE_WORKSPACES": "false",
                "GIT_PYTHON_REFRESH": "quiet",
                **self._environment,
            }
        )

    async def _answers(self, exited: "asyncio.Future[int]") -> bool:
        """Wait until it answers or has ended; False when neither came to pass in time."""
        deadline = time.monotonic() + START_TIMEOUT
        timeout = aiohttp.ClientTimeout(total=5)
        while not exited.done() and time.monotonic() < deadline:
            if self._socket.exists():
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    session = self._connections()
                    async with session.get(f"{BASE_URL}/health", timeout=timeout) as answer:
                        if answer.status == 200:
                            return True
            await asyncio.sleep(POLL)
        return exited.done()
