"""The local runtime against workers that behave and workers that don't."""

import asyncio
import errno
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from lakeport.models.base import ModelNotFound, ModelVersion, RegistryUnavailable
from lakeport.runtimes.base import DeploymentSpec, Replica, Runtime, StartFailed
from lakeport.runtimes.local.runtime import WORKER, LocalRuntime

FAKE = Path(__file__).with_name("fake_worker.py")
PATIENCE = 30.0
#: A frame's head, as docs/internals/worker-protocol.md has it.
HEAD = struct.Struct("<IBBHIIQ")


def model(folder: Path, behaviour: str = "ready") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_text("flavors:\n  python_function: {}\n")
    (folder / "behaviour").write_text(behaviour)
    return folder


def deployment(path: Path | None, id: str = "d1", **more: Any) -> DeploymentSpec:
    return DeploymentSpec(
        id=id,
        endpoint="iris",
        entity="iris-1",
        model_name="iris",
        model_version="1",
        model_key=more.pop("model_key", "k1"),
        path=None if path is None else str(path),
        workload_type="CPU",
        concurrency=4,
        **more,
    )


class Registry:
    """One model, `k1`, whose fetch waits for `go`."""

    running = True

    def __init__(self) -> None:
        self.fetches = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def resolve(self, name: str, version: str) -> ModelVersion:
        raise NotImplementedError

    async def fetch(self, version: ModelVersion, into: Path, log: Callable[[str], None]) -> None:
        self.fetches += 1
        log("downloading")
        model(into)
        await self.go.wait()
        if self.error is not None:
            raise self.error


Make = Callable[..., LocalRuntime]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    opened: list[LocalRuntime] = []

    def make(**options: Any) -> LocalRuntime:
        defaults: dict[str, Any] = {"worker": FAKE, "env_manager": "local"}
        runtime = LocalRuntime(tmp_path / "home", **defaults | options)
        opened.append(runtime)
        return runtime

    yield make
    for runtime in opened:
        await runtime.close()


@asynccontextmanager
async def started(runtime: LocalRuntime, spec: DeploymentSpec) -> AsyncIterator[Replica]:
    await runtime.open()
    await runtime.prepare(spec)
    async with asyncio.timeout(PATIENCE):
        yield await runtime.start(spec, "r1")


async def until(fact: Callable[[], bool]) -> None:
    """Wait for a fact that nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def socket_of(replica: Replica) -> Path:
    return Path(replica.address.removeprefix("unix:").partition("#")[0])


def exists(path: Path) -> bool:
    return path.exists()


def pid_of(replica: Replica) -> int:
    return replica.pid  # type: ignore[attr-defined, no-any-return]


# --- a good start ---------------------------------------------------------------------------------


async def test_it_is_a_runtime(make: Make) -> None:
    runtime: Runtime = make()

    await runtime.open()


async def test_a_replica_listens_where_its_address_says(make: Make, tmp_path: Path) -> None:
    async with started(make(), deployment(model(tmp_path / "m"))) as replica:
        _, writer = await asyncio.open_unix_connection(socket_of(replica))

        writer.close()
        assert len(replica.address.partition("#")[2]) == 32
        assert replica.id == "r1"


async def test_the_worker_gets_what_the_protocol_says_and_no_more(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEPORT_ADMIN_TOKEN", "secret")
    monkeypatch.setenv("DATABRICKS_TOKEN", "secret")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    folder = model(tmp_path / "m", "tells")
    spec = deployment(folder, environment={"MODE": "fast", "OMP_NUM_THREADS": "3"})

    async with started(make(memory_limit=1 << 32, max_body=1 << 20), spec) as replica:
        told = json.loads((folder / "told.json").read_text())

    secret = replica.address.partition("#")[2]
    assert told["order"] == {
        "model": str(folder),
        "socket": str(socket_of(replica)),
        "secret": secret,
        "concurrency": 4,
        "max_body": 1 << 20,
        "memory_limit": 1 << 32,
        "parent": os.getpid(),
        "merge": None,
    }
    environment = told["environment"]
    assert "secret" not in environment.values()
    assert environment["MODE"] == "fast"
    assert environment["IS_IN_DB_MODEL_SERVING_ENV"] == "true"
    assert environment["IS_IN_DATABRICKS_MODEL_SERVING_ENV"] == "true"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["OPENBLAS_NUM_THREADS"] == "2"
    assert environment["MKL_NUM_THREADS"] == "1"
    assert environment["HOME"] == told["cwd"] != os.environ.get("HOME")
    assert told["argv"][:3] == ["-I", "-u", str(FAKE)]
    assert told["group"]
    assert told["umask"] == 0o077
    assert told["descriptors"] == [0, 1, 2, int(told["argv"][3])]


async def test_stop_lets_it_end_and_tells_the_reason(make: Make, tmp_path: Path) -> None:
    runtime = make()
    async with started(runtime, deployment(model(tmp_path / "m"))) as replica:
        await replica.stop(grace=PATIENCE)

        assert await replica.exited == "stopped"
        assert not exists(socket_of(replica))
        assert not psutil.pid_exists(pid_of(replica))


async def test_stop_kills_what_does_not_listen(make: Make, tmp_path: Path) -> None:
    async with started(make(), deployment(model(tmp_path / "m", "stubborn"))) as replica:
        await replica.stop(grace=0.1)

        assert not psutil.pid_exists(pid_of(replica))


async def test_close_ends_everything(make: Make, tmp_path: Path) -> None:
    runtime = make()
    folder = model(tmp_path / "m", "has_children")
    os.mkfifo(folder / "alive")
    reader = os.open(folder / "alive", os.O_RDONLY | os.O_NONBLOCK)
    async with started(runtime, deployment(folder)) as replica:
        await runtime.close()

        assert replica.exited.done()
        os.set_blocking(reader, True)
        assert os.read(reader, 1) == b""  # what the model had started is gone as well
        os.close(reader)
        assert not exists(socket_of(replica).parent)


def test_it_runs_under_uvloop(tmp_path: Path) -> None:
    async def main() -> str:
        runtime = LocalRuntime(tmp_path / "home", worker=FAKE, env_manager="local")
        async with started(runtime, deployment(model(tmp_path / "m"))) as replica:
            _, writer = await asyncio.open_unix_connection(socket_of(replica))
            writer.close()
            os.kill(pid_of(replica), signal.SIGKILL)
            reason = await replica.exited
        await runtime.close()
        return reason

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == "killed by SIGKILL"


# --- a start that fails ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("raises", "the model raised FileNotFoundError: weights.bin"),
        (
            "crashes",
            (
                "the worker exited with code 1 while it loaded the model: "
                "ModuleNotFoundError: No module named 'frobnicate'"
            ),
        ),
        ("exits", "the worker exited with code 5 while it loaded the model"),
        (
            "runs_out_of_memory",
            "the worker exited with code 70 (out of memory) while it loaded the model",
        ),
        ("killed", "the worker was killed by SIGKILL (out of memory?) while it loaded the model"),
        ("segfaults", "the worker was killed by SIGSEGV while it loaded the model"),
    ],
)
async def test_a_start_that_fails_says_why(
    make: Make, tmp_path: Path, behaviour: str, message: str
) -> None:
    runtime = make()

    with pytest.raises(StartFailed) as failure:
        async with started(runtime, deployment(model(tmp_path / "m", behaviour))):
            pass

    assert str(failure.value) == message
    assert f"[r1] loading, to be {behaviour}" in runtime.logs("d1")


async def test_a_start_that_hangs_ends_in_time(make: Make, tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=r"^the model did not become ready in 0.5 s$"):
        async with started(make(start_timeout=0.5), deployment(model(tmp_path / "m", "hangs"))):
            pass

    assert children() == []


async def test_a_start_that_is_cancelled_leaves_nothing(make: Make, tmp_path: Path) -> None:
    runtime = make()
    spec = deployment(model(tmp_path / "m", "hangs"))
    await runtime.open()
    await runtime.prepare(spec)
    starting = asyncio.ensure_future(runtime.start(spec, "r1"))
    await until(lambda: "loading" in runtime.logs("d1"))

    starting.cancel()
    await asyncio.wait([starting])

    assert starting.cancelled()
    assert children() == []


async def test_a_worker_that_cannot_be_run_is_a_failed_start(make: Make, tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="exited with code 2"):
        async with started(make(worker=tmp_path / "none.py"), deployment(model(tmp_path / "m"))):
            pass


async def test_too_much_memory_while_loading(make: Make, tmp_path: Path) -> None:
    runtime = make(memory_limit=200 << 20, memory_interval=0.05)

    with pytest.raises(StartFailed, match=r"killed: used more than 200 MB of memory"):
        async with started(runtime, deployment(model(tmp_path / "m", "hoards_early"))):
            pass


def children() -> list[psutil.Process]:
    """Workers of this test process."""
    return [p for p in psutil.Process().children() if str(FAKE) in " ".join(p.cmdline())]


# --- a replica that dies --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGKILL, "killed by SIGKILL"), (signal.SIGSEGV, "killed by SIGSEGV")],
)
async def test_a_death_tells_its_reason(
    make: Make, tmp_path: Path, number: int, reason: str
) -> None:
    runtime = make()
    async with started(runtime, deployment(model(tmp_path / "m"))) as replica:
        os.kill(pid_of(replica), number)

        assert await replica.exited == reason
        assert f"the worker is gone: {reason}" in runtime.logs("d1")


async def test_too_much_memory_ends_the_replica(make: Make, tmp_path: Path) -> None:
    runtime = make(memory_limit=200 << 20, memory_interval=0.05)
    async with started(runtime, deployment(model(tmp_path / "m", "hoards"))) as replica:
        await until(lambda: replica.usage() is not None)
        usage = replica.usage()
        assert usage is not None
        assert 0 < usage.memory_bytes < usage.memory_limit_bytes == 200 << 20

        _, writer = await asyncio.open_unix_connection(socket_of(replica))

        assert await replica.exited == "out of memory: used more than 200 MB of memory"
        writer.close()


@pytest.mark.parametrize(("bound", "above"), [(0, False), (1 << 40, False), (1 << 20, True)])
async def test_usage_says_whether_a_replica_should_be_recycled(
    make: Make, tmp_path: Path, bound: int, above: bool
) -> None:
    runtime = make(recycle=bound, memory_interval=0.05)
    async with started(runtime, deployment(model(tmp_path / "m"))) as replica:
        # The first look may see a process that has only just begun.
        await until(lambda: (now := replica.usage()) is not None and now.memory_bytes > 1 << 20)
        usage = replica.usage()

        assert usage is not None
        assert usage.recycle is above


@pytest.mark.parametrize(("said", "merge"), [("true", True), ("False", False)])
async def test_a_variable_says_whether_requests_may_be_merged(
    make: Make, tmp_path: Path, said: str, merge: bool
) -> None:
    folder = model(tmp_path / "m", "tells")
    spec = deployment(folder, environment={"LAKEPORT_MERGE": said})

    async with started(make(), spec):
        told = json.loads((folder / "told.json").read_text())

    assert told["order"]["merge"] is merge
    assert "LAKEPORT_MERGE" not in json.dumps(told["environment"])


async def test_what_is_neither_true_nor_false_is_a_failed_start(make: Make, tmp_path: Path) -> None:
    spec = deployment(model(tmp_path / "m"), environment={"LAKEPORT_MERGE": "perhaps"})

    with pytest.raises(StartFailed, match="LAKEPORT_MERGE must be true or false"):
        async with started(make(), spec):
            pass


async def test_a_full_disk_hurts_neither_model_nor_server(make: Make, tmp_path: Path) -> None:
    def no_room(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    runtime = make(log_write=no_room)
    async with started(runtime, deployment(model(tmp_path / "m", "babbles"))) as replica:
        assert not replica.exited.done()
        assert runtime.logs("d1") == ""


# --- the life of the server -----------------------------------------------------------------------


class DeadServer:
    """A server that was killed; it had a replica whose model had started a process."""

    def __init__(self, folder: Path, home: Path) -> None:
        model(folder, "has_children")
        os.mkfifo(folder / "alive")
        self._alive = os.open(folder / "alive", os.O_RDONLY | os.O_NONBLOCK)
        paths = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
        argv = [sys.executable, "-c", self._CODE, str(home), str(folder)]
        with subprocess.Popen(argv, env=os.environ | paths, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            replica, undertaker = map(int, server.stdout.readline().split())
            self.replica = psutil.Process(replica)
            self.undertaker = psutil.Process(undertaker)
            self.before_the_kill()
            server.kill()

    _CODE = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.integration.test_local_runtime import *\n"
        "async def main():\n"
        "    runtime = LocalRuntime(Path(sys.argv[1]), worker=FAKE, env_manager='local')\n"
        "    async with started(runtime, deployment(Path(sys.argv[2]))) as replica:\n"
        "        print(replica.pid, runtime._machine._undertaker.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )

    def before_the_kill(self) -> None:
        """For the one whose safeguards fail."""

    def wait_until_gone(self) -> None:
        self.replica.wait(PATIENCE)
        os.set_blocking(self._alive, True)
        assert os.read(self._alive, 1) == b""
        os.close(self._alive)


class UnluckyServer(DeadServer):
    def before_the_kill(self) -> None:
        self.undertaker.kill()


def test_nothing_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    server = DeadServer(tmp_path / "m", tmp_path / "home")

    server.wait_until_gone()

    server.undertaker.wait(PATIENCE)


async def test_the_next_life_ends_what_the_last_one_left(make: Make, tmp_path: Path) -> None:
    server = UnluckyServer(tmp_path / "m", tmp_path / "home")

    await make().open()

    server.wait_until_gone()


# --- the real worker ------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_real_model_becomes_ready_in_a_real_worker(make: Make, tmp_path: Path) -> None:
    import mlflow.sklearn
    from sklearn.linear_model import LinearRegression

    folder = tmp_path / "m"
    regressor = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    mlflow.sklearn.save_model(regressor, folder)
    runtime = make(worker=WORKER, env_manager="uv")
    async with started(runtime, deployment(folder)) as replica:
        reader, writer = await asyncio.open_unix_connection(socket_of(replica))

        secret = replica.address.partition("#")[2]
        hello = json.dumps({"protocol": 1, "secret": secret}).encode()
        writer.write(HEAD.pack(len(hello), 1, 0, 0, len(hello), 0, 0) + hello)

        kind = HEAD.unpack(await reader.readexactly(HEAD.size))[1]
        assert kind == 2  # WELCOME
        writer.close()
        await replica.stop(grace=PATIENCE)
    assert "own environment meets" in runtime.build_logs("d1")


async def test_a_real_model_that_cannot_load_says_why(make: Make, tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    (folder / "MLmodel").write_text(
        "flavors: {python_function: {loader_module: mlflow.sklearn, model_path: gone.pkl}}\n"
    )

    with pytest.raises(StartFailed, match=r"gone\.pkl|sklearn") as failure:
        async with started(make(worker=WORKER), deployment(folder)):
            pass

    assert str(tmp_path) not in str(failure.value)
    assert "Traceback" not in str(failure.value)


# --- preparing ------------------------------------------------------------------------------------


async def test_a_folder_without_a_model_is_refused_without_its_path(
    make: Make, tmp_path: Path
) -> None:
    runtime = make()
    await runtime.open()

    with pytest.raises(StartFailed) as failure:
        await runtime.prepare(deployment(tmp_path))

    message = "the folder of model iris cannot be served: there is no MLmodel file in it"
    assert str(failure.value) == message
    assert message in runtime.build_logs("d1")


async def test_a_model_is_fetched_once_for_all_who_want_it(make: Make) -> None:
    registry = Registry()
    runtime = make(registry=registry)
    await runtime.open()
    both = [asyncio.ensure_future(runtime.prepare(deployment(None, id))) for id in ("d1", "d2")]
    await until(lambda: "downloading" in runtime.build_logs("d2"))

    registry.go.set()
    await asyncio.gather(*both)
    await runtime.prepare(deployment(None, "d3"))

    assert registry.fetches == 1
    assert all("downloading" in runtime.build_logs(id) for id in ("d1", "d2"))
    replica = await runtime.start(deployment(None, "d3"), "r1")
    await replica.stop(grace=PATIENCE)


@pytest.mark.parametrize(
    "error",
    [
        ModelNotFound("model iris has no version 1"),
        RegistryUnavailable("the model registry did not come up in 60 s"),
    ],
)
async def test_a_fetch_that_fails_leaves_nothing_and_may_be_tried_again(
    make: Make, tmp_path: Path, error: Exception
) -> None:
    registry = Registry()
    registry.go.set()
    registry.error = error
    runtime = make(registry=registry)
    await runtime.open()

    with pytest.raises(StartFailed, match=str(error)):
        await runtime.prepare(deployment(None))

    assert list((tmp_path / "home/models").iterdir()) == []
    registry.error = None
    await runtime.prepare(deployment(None))


async def test_a_cancelled_fetch_leaves_nothing(make: Make, tmp_path: Path) -> None:
    runtime = make(registry=Registry())
    await runtime.open()
    preparing = asyncio.ensure_future(runtime.prepare(deployment(None)))
    await until(lambda: "downloading" in runtime.build_logs("d1"))

    preparing.cancel()
    await asyncio.wait([preparing])

    assert list((tmp_path / "home/models").iterdir()) == []


async def test_the_interface_is_known_once_prepared(make: Make, tmp_path: Path) -> None:
    runtime = make()
    folder = model(tmp_path / "m")
    (folder / "MLmodel").write_text(
        'flavors: {python_function: {}}\nsignature:\n  inputs: \'[{"name": "x"}]\'\n'
    )
    spec = deployment(folder)
    await runtime.open()
    assert runtime.signature(spec) is None

    await runtime.prepare(spec)

    interface = runtime.signature(spec)
    assert interface is not None
    assert interface.inputs == [{"name": "x"}]
    assert interface.outputs is None


async def test_what_is_forgotten_leaves_no_working_folder(make: Make, tmp_path: Path) -> None:
    runtime = make()
    spec = deployment(model(tmp_path / "m"))
    async with started(runtime, spec) as replica:
        await replica.stop(grace=PATIENCE)

    runtime.forget("d1")

    assert not (tmp_path / "home/work/d1").exists()
    assert runtime.signature(spec) is None
    assert "worker started" in runtime.logs("d1")
