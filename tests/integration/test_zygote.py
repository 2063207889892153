"""Replicas that are forked, of real models: from a zygote, from a template, and when they die."""

import asyncio
import errno
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from lakeport.runtimes.base import Answer, Call, DeploymentSpec, ReplicaLost, StartFailed, Stream
from lakeport.runtimes.local.breeds import COMMON, Breed
from lakeport.runtimes.local.link import UnixConnector
from lakeport.runtimes.local.replica import LocalReplica
from lakeport.runtimes.local.runtime import WORKER, LocalRuntime
from lakeport.runtimes.local.zygotes import Zygotes
from tests.models.fixtures import SavedModel

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked"),
]

PATIENCE = 120.0
IRIS = {
    "columns": [
        f"{part} {size} (cm)" for part in ("sepal", "petal") for size in ("length", "width")
    ],
    "data": [[5.1, 3.5, 1.4, 0.2], [6.3, 2.9, 5.6, 1.8]],
}
DIABETES = {
    "columns": ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"],
    "data": [[0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02]],
}
PASSENGERS = {
    "columns": ["age", "fare", "class", "port", "alone"],
    "data": [[22.0, 7.25, 3, "S", False], [38.0, 71.28, 1, "C", False]],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalRuntime]:
    """One for all tests, so that they share zygotes. Its replicas may use a GiB."""
    home = tmp_path_factory.mktemp("zygote") / "home"
    runtime = LocalRuntime(home, env_manager="local", memory_limit=1 << 30)
    await runtime.open()
    yield runtime
    await runtime.close()


@pytest.fixture
def id() -> str:
    """A deployment's that no other test has."""
    return f"d{time.monotonic_ns()}"


def spec(id: str, path: Path, **more: Any) -> DeploymentSpec:
    return DeploymentSpec(
        id=id,
        endpoint="e",
        entity="e-1",
        model_name="m",
        model_version="1",
        model_key="k",
        path=str(path),
        workload_type="CPU",
        concurrency=4,
        **more,
    )


@asynccontextmanager
async def started(
    runtime: LocalRuntime, spec: DeploymentSpec, count: int
) -> AsyncIterator[list[LocalReplica]]:
    """Some replicas, started one after the other; their deployment is forgotten at the end."""
    replicas: list[LocalReplica] = []
    async with asyncio.timeout(PATIENCE):
        try:
            while len(replicas) < count:
                replicas += [await runtime.start(spec, f"r{len(replicas)}")]
            yield replicas
        finally:
            await asyncio.gather(*(replica.stop(grace=1) for replica in replicas))
            runtime.forget(spec.id)


async def predictions(replica: LocalReplica, rows: Mapping[str, Any]) -> list[Any]:
    link = await UnixConnector().connect(replica.address)
    heard: asyncio.Future[Answer | Stream | ReplicaLost] = asyncio.Future()
    call = Call(
        body=json.dumps({"dataframe_split": rows}).encode(),
        content_type="application/json",
        content_encoding=None,
        deadline=time.monotonic() + PATIENCE,
    )
    link.send(call, heard.set_result)
    answer = await heard
    link.close()
    assert isinstance(answer, Answer)
    assert answer.status == 200, answer
    found: list[Any] = json.loads(answer.body)["predictions"]
    return found


def holds(pid: int, word: bytes) -> bool:
    """Whether a process has it anywhere in memory that it may write to."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, flags, *_ = line.split()
            begin, end = (int(address, 16) for address in span.split("-"))
            if flags.startswith("rw"):
                memory.seek(begin)
                if word in memory.read(end - begin):
                    return True
    return False


async def until(fact: Callable[[], bool]) -> None:
    """Wait for a fact that nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def templates(runtime: LocalRuntime, id: str) -> int:
    return runtime.logs(id).count("[lakeport] template started")


def named(name: str) -> list[psutil.Process]:
    """This process' children of that name, zombies aside."""
    found = []
    for child in psutil.Process().children():
        try:
            if child.name() == name and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


# --- from a template ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        ("iris_pickle", IRIS),
        ("forest", IRIS),
        ("mixed", PASSENGERS),
        ("xgboost", IRIS),
        ("lightgbm", DIABETES),
    ],
)
async def test_replicas_of_known_flavors_come_from_one_that_has_loaded_the_model(
    runtime: LocalRuntime, saved_model: SavedModel, id: str, model: str, rows: Mapping[str, Any]
) -> None:
    import mlflow.pyfunc
    import pandas as pd

    folder = saved_model(model)
    loaded = mlflow.pyfunc.load_model(str(folder))
    expected = loaded.predict(pd.DataFrame(**rows)).tolist()

    async with started(runtime, spec(id, folder), 2) as replicas:
        answers = [await predictions(replica, rows) for replica in replicas for _ in range(3)]

        assert answers == [expected] * 6
        assert templates(runtime, id) == 1
        assert {psutil.Process(replica.pid).ppid() for replica in replicas} == {os.getpid()}


async def test_a_template_is_kept_without_a_replica_until_its_deployment_goes(
    runtime: LocalRuntime, saved_model: SavedModel, id: str
) -> None:
    deployment = spec(id, saved_model("iris_pickle"))
    async with started(runtime, deployment, 1):
        [template] = named("lakeport-tmpl")
    await until(lambda: not template.is_running())

    async with asyncio.timeout(PATIENCE):
        first = await runtime.start(deployment, "r1")
        await first.stop(grace=1)
        [template] = named("lakeport-tmpl")
        second = await runtime.start(deployment, "r2")
        assert named("lakeport-tmpl") == [template]
        await second.stop(grace=1)
    runtime.forget(id)

    await until(lambda: not template.is_running())


async def test_many_replicas_at_once_share_one_template(
    runtime: LocalRuntime, saved_model: SavedModel, id: str
) -> None:
    deployment = spec(id, saved_model("iris_pickle"))
    async with asyncio.timeout(PATIENCE):
        await runtime.prepare(deployment)
        replicas = await asyncio.gather(*(runtime.start(deployment, f"r{n}") for n in range(6)))

    assert len({replica.pid for replica in replicas}) == 6
    assert templates(runtime, id) == 1
    await asyncio.gather(*(replica.stop(grace=1) for replica in replicas))
    runtime.forget(id)


async def test_templates_that_use_more_memory_than_they_may_are_not_kept(
    tmp_path: Path, saved_model: SavedModel, id: str
) -> None:
    runtime = LocalRuntime(tmp_path, env_manager="local", template_memory=1e-8)
    await runtime.open()
    async with started(runtime, spec(id, saved_model("iris_pickle")), 1):
        await until(lambda: "[template] [lakeport] the template is gone" in runtime.logs(id))

        later = await runtime.start(spec(id, saved_model("iris_pickle")), "later")

        assert "templates use more memory than they may" in runtime.logs(id)
        assert templates(runtime, id) == 1
        assert len(await predictions(later, IRIS)) == 2
    await runtime.close()


async def test_a_start_that_is_cancelled_leaves_nothing(
    runtime: LocalRuntime, saved_model: SavedModel, id: str
) -> None:
    deployment = spec(id, saved_model("iris_pickle"))
    async with started(runtime, deployment, 1):
        for wait in (0.0, 0.001, 0.02):
            starting = asyncio.create_task(runtime.start(deployment, "cancelled"))
            await asyncio.sleep(wait)
            starting.cancel()
            await asyncio.wait([starting])
            if not starting.cancelled():
                await starting.result().stop(grace=0)

        await until(lambda: len(named("lakeport-worker")) == 1)


async def test_a_model_that_starts_a_thread_is_loaded_by_each_replica(
    runtime: LocalRuntime, saved_model: SavedModel, id: str
) -> None:
    async with started(runtime, spec(id, saved_model("starts_thread")), 2) as replicas:
        for replica in replicas:
            assert len(await predictions(replica, DIABETES)) == 1

        assert templates(runtime, id) == 1
        assert "1 further threads run" in runtime.logs(id)
        await until(lambda: not named("lakeport-tmpl"))


async def test_another_variable_makes_another_template(
    runtime: LocalRuntime, saved_model: SavedModel, id: str
) -> None:
    folder = saved_model("iris_pickle")
    async with started(runtime, spec(id, folder, environment={"MODE": "slow"}), 1):
        second = await runtime.start(spec(id, folder, environment={"MODE": "fast"}), "r2")
        await second.stop(grace=1)

        assert templates(runtime, id) == 2


async def test_a_model_that_cannot_be_loaded_says_why(
    runtime: LocalRuntime, saved_model: SavedModel, tmp_path: Path, id: str
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    text = (saved_model("iris_pickle") / "MLmodel").read_text()
    (broken / "MLmodel").write_text(text)

    with pytest.raises(StartFailed, match="The model could not be loaded"):
        async with started(runtime, spec(id, broken), 1):
            pass

    await until(lambda: not named("lakeport-tmpl"))


# --- from a zygote --------------------------------------------------------------------------------


async def test_a_fork_is_what_a_worker_of_its_own_would_be(
    runtime: LocalRuntime, saved_model: SavedModel, id: str
) -> None:
    asked = ["folder", "HOME", "mask", "group", "parent", "MODE", "IS_IN_DB_MODEL_SERVING_ENV"]
    asked += ["OMP_NUM_THREADS", "JE_ARROW_MALLOC_CONF", "squares", "LAKEPORT_MERGE"]
    variables = {"MODE": "fast", "LAKEPORT_MERGE": "false"}
    rows = {"columns": ["x"], "data": [[word] for word in asked]}

    async with started(runtime, spec(id, saved_model("tells"), environment=variables), 1) as [one]:
        told = dict(zip(asked, await predictions(one, rows), strict=True))

    assert templates(runtime, id) == 0
    assert told["folder"] == told["HOME"]
    assert told["folder"].endswith(f"/work/{id}")
    assert told | {"folder": "", "HOME": ""} == {
        "folder": "",
        "HOME": "",
        "mask": str(0o077),
        "group": "True",
        "parent": str(os.getpid()),
        "MODE": "fast",
        "IS_IN_DB_MODEL_SERVING_ENV": "true",
        "OMP_NUM_THREADS": "1",
        "JE_ARROW_MALLOC_CONF": "None",
        "squares": "[0, 1, 4, 9]",
        "LAKEPORT_MERGE": "None",
    }


async def test_no_two_draw_the_same_random_numbers(
    runtime: LocalRuntime, saved_model: SavedModel, id: str
) -> None:
    asked = ["random", "numpy", "uuid", "tls"]
    rows = {"columns": ["x"], "data": [[word] for word in asked]}

    async with started(runtime, spec(id, saved_model("tells")), 3) as replicas:
        told = [word for replica in replicas for word in await predictions(replica, rows)]

    assert len(set(told)) == len(told) == 12


async def test_a_zygote_never_has_the_environment_of_what_it_forks(
    runtime: LocalRuntime, saved_model: SavedModel, id: str
) -> None:
    secret = b"open-sesame-" + id.encode()
    deployment = spec(id, saved_model("tells"), environment={"WORD": secret.decode()})
    async with started(runtime, deployment, 1) as [replica]:
        zygotes = named("lakeport-zygote")
        assert zygotes
        assert not any(holds(zygote.pid, secret) for zygote in zygotes)
        assert holds(replica.pid, secret)


# --- what dies ------------------------------------------------------------------------------------


async def test_replicas_survive_their_template_and_their_zygote(
    runtime: LocalRuntime, saved_model: SavedModel, id: str
) -> None:
    deployment = spec(id, saved_model("iris_pickle"))
    async with started(runtime, deployment, 1) as [first]:
        for process in [*named("lakeport-tmpl"), *named("lakeport-zygote")]:
            process.kill()
        await until(lambda: not named("lakeport-tmpl") and not named("lakeport-zygote"))

        # The second may come before the news: then it does without.
        others = [await runtime.start(deployment, name) for name in ("second", "third")]

        answers = [await predictions(replica, IRIS) for replica in (first, *others)]
        assert answers == [answers[0]] * 3
        assert templates(runtime, id) == 2
        await asyncio.gather(*(replica.stop(grace=1) for replica in others))


async def test_a_zygote_that_was_killed_is_started_again(tmp_path: Path) -> None:
    zygotes = Zygotes(WORKER, tmp_path / "z", dict)
    breed = Breed(Path(sys.executable), ("json",), templates=True)
    assert await zygotes.forker(breed, "d1") is not None
    [killed] = zygotes.pids()

    psutil.Process(killed).kill()

    await until(lambda: [pid for pid in zygotes.pids() if pid != killed] != [])
    await zygotes.close()


async def test_a_zygote_that_cannot_start_is_none(tmp_path: Path) -> None:
    zygotes = Zygotes(WORKER, tmp_path / "z", dict, start_timeout=PATIENCE)
    breed = Breed(tmp_path / "no-python", COMMON, templates=True)

    assert await zygotes.forker(breed, "d1") is None
    assert await zygotes.forker(breed, "d2") is None
    await zygotes.close()


async def test_a_zygote_for_which_no_descriptor_is_left_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    zygotes = Zygotes(WORKER, tmp_path / "z", dict)
    breed = Breed(Path(sys.executable), ("json",), templates=True)
    with monkeypatch.context() as short:
        short.setattr(socket, "socketpair", none_left)
        assert await zygotes.forker(breed, "d1") is None

    assert await zygotes.forker(breed, "d2") is None
    await zygotes.close()


async def test_a_zygote_ends_when_nobody_has_needed_it_for_long(tmp_path: Path) -> None:
    zygotes = Zygotes(WORKER, tmp_path / "z", dict, idle=0.05)
    breed = Breed(Path(sys.executable), ("json",), templates=True)
    for deployment in ("d1", "d2"):
        assert await zygotes.forker(breed, deployment) is not None
    [pid] = zygotes.pids()

    zygotes.leave("d1")
    await asyncio.sleep(0.1)
    assert psutil.pid_exists(pid)
    zygotes.leave("d2")

    await until(lambda: not psutil.pid_exists(pid))
    await zygotes.close()


async def test_a_zygote_in_place_of_a_dead_one_does_not_end_when_that_would_have(
    tmp_path: Path,
) -> None:
    zygotes = Zygotes(WORKER, tmp_path / "z", dict, idle=0.3)
    breed = Breed(Path(sys.executable), ("json",), templates=True)
    dead = await zygotes.forker(breed, "d1")
    assert dead is not None
    [pid] = zygotes.pids()
    zygotes.leave("d1")
    psutil.Process(pid).kill()
    await until(lambda: not dead.usable)

    found = await zygotes.forker(breed, "d2")

    assert found is not None
    await asyncio.sleep(0.4)
    assert found.usable
    await zygotes.close()
