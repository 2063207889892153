"""Starts, failures and ends of engines, with a stand-in for llama-server and vLLM."""

import asyncio
import json
import os
import re
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from lakeport.models.catalogue import CatalogueModel
from lakeport.runtimes.base import DeploymentSpec, StartFailed
from lakeport.runtimes.engine.runtime import EngineRuntime
from lakeport.runtimes.local.machine import Machine
from lakeport.runtimes.local.runtime import LocalRuntime
from lakeport.wire.chat import Task
from tests.integration.engines import (
    deployment,
    engine_of,
    listens,
    opened,
    socket_of,
    talking,
    until,
)

FAKE = Path(__file__).with_name("fake_engine.py")
VLLM = CatalogueModel(
    "system.ai.big", Task.CHAT, "vllm", (), 512, hub="org/big", arguments=("--seed", "1")
)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "engine"
    file.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{FAKE}' \"$@\"\n")
    file.chmod(0o700)
    return file


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    file = tmp_path / "mine.gguf"
    file.write_bytes(b"GGUF\3\0\0\0")
    return file


def on_llama(gguf: Path, behaviour: str = "answers", **more: Any) -> DeploymentSpec:
    return deployment(
        "mine", path=str(gguf), task="llm/v1/chat", environment={"BEHAVIOUR": behaviour}, **more
    )


def on_vllm(behaviour: str = "answers") -> DeploymentSpec:
    return deployment("big", workload_type="GPU_SMALL", environment={"BEHAVIOUR": behaviour})


def started_with(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "work/d1/started.json").read_text())
    return found


async def test_a_llama_server_that_is_named_serves_a_file(
    tmp_path: Path, program: Path, gguf: Path
) -> None:
    async with opened(tmp_path / "home", llama_server=str(program)) as runtime:
        await runtime.prepare(on_llama(gguf))
        replica = await runtime.start(on_llama(gguf), "r1")

        async with talking(replica) as talk:
            assert (await talk.ask("Hello"))["model"] == "my-entity"
        assert str(gguf) in started_with(tmp_path / "home")["argv"]
        assert "the engine begins" in runtime.logs("d1")
        assert "Using the file of model system.ai.mine in place." in runtime.build_logs("d1")


async def test_vllm_is_ready_once_it_has_generated_a_token(tmp_path: Path, program: Path) -> None:
    async with opened(tmp_path / "home", models={VLLM.name: VLLM}, vllm=str(program)) as runtime:
        await runtime.prepare(on_vllm())
        replica = await runtime.start(on_vllm(), "r1")

        async with talking(replica) as talk:
            assert (await talk.ask("Hello"))["model"] == "my-entity"
        assert started_with(tmp_path / "home")["argv"] == [
            "serve", "org/big", "--uds", socket_of(replica), "--served-model-name", "my-entity",
            "--max-model-len", "512", "--max-num-seqs", "8", "--seed", "1",
        ]  # fmt: skip


async def test_an_engine_sees_nothing_of_the_server(
    tmp_path: Path, program: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEPORT_ADMIN_TOKEN", "canary-canary-canary")
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    environment = {"LLAMA_ARG_ENDPOINT_SLOTS": "true", "LLAMA_ARG_HOST": "0.0.0.0", "MINE": "yes"}
    spec = deployment("mine", path=str(gguf), environment=environment)
    async with opened(tmp_path / "home", llama_server=str(program)) as runtime:
        replica = await runtime.start(spec, "r1")

        seen = started_with(tmp_path / "home")["environment"]
        assert "canary" not in json.dumps(seen)
        assert seen["MINE"] == "yes"
        assert seen["LLAMA_ARG_ENDPOINT_SLOTS"] == "false"
        assert "LLAMA_ARG_HOST" not in seen
        assert seen["HOME"] == str(tmp_path / "home/work/d1")
        folder = Path(socket_of(replica)).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("said_by", ["nobody", "server", "entity"])
async def test_its_threads_do_not_spin_for_long_unless_someone_says_so(
    tmp_path: Path,
    program: Path,
    gguf: Path,
    monkeypatch: pytest.MonkeyPatch,
    said_by: str,
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if said_by == "server":
        monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    environment = {"GOMP_SPINCOUNT": "7"} if said_by == "entity" else {}
    spec = deployment("mine", path=str(gguf), environment=environment)
    async with opened(tmp_path / "home", llama_server=str(program)) as runtime:
        await runtime.start(spec, "r1")

        seen = started_with(tmp_path / "home")["environment"]
        assert seen["GOMP_SPINCOUNT"] == ("1000" if said_by == "nobody" else "7")


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (
            "raises",
            (
                "the engine exited with code 1 while it loaded the model: RuntimeError: Failed to "
                "infer device type in config.py"
            ),
        ),
        (
            "complains",
            (
                "the engine exited with code 1 while it loaded the model: error: invalid argument: "
                "--alias"
            ),
        ),
        (
            "killed",
            (
                "the engine was killed by SIGKILL (out of memory?) while it loaded the model: the "
                "engine begins"
            ),
        ),
        ("dies_at_work", "the engine was killed by SIGILL while it loaded the model"),
        ("cannot_generate", "the engine answered its first request with 500: "),
        ("loads_for_ever", "the model did not become ready in 3 s"),
        ("hangs_at_work", "the model did not become ready in 3 s"),
    ],
)
async def test_a_start_that_fails_says_why_and_leaves_nothing(
    tmp_path: Path, program: Path, gguf: Path, behaviour: str, said: str
) -> None:
    patience = 3 if "3 s" in said else 60
    async with opened(
        tmp_path / "home", llama_server=str(program), start_timeout=patience
    ) as runtime:
        with pytest.raises(StartFailed, match=f"^{re.escape(said)}") as told:
            await runtime.start(on_llama(gguf, behaviour), "r1")

        assert str(tmp_path) not in str(told.value)
        assert not engines()


async def test_a_start_that_is_given_up_leaves_nothing(
    tmp_path: Path, program: Path, gguf: Path
) -> None:
    async with opened(tmp_path / "home", llama_server=str(program)) as runtime:
        starting = asyncio.create_task(runtime.start(on_llama(gguf, "loads_for_ever"), "r1"))
        await until(lambda: "the engine begins" in runtime.logs("d1"))

        starting.cancel()
        await asyncio.wait([starting])

        assert starting.cancelled()
        assert not engines()


def engines() -> list[psutil.Process]:
    """Those of this test process."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if str(FAKE) in " ".join(process.cmdline())]


async def test_a_death_tells_its_reason_and_another_can_be_started(
    tmp_path: Path, program: Path, gguf: Path
) -> None:
    async with opened(tmp_path / "home", llama_server=str(program)) as runtime:
        replica = await runtime.start(on_llama(gguf), "r1")

        os.kill(engine_of(replica).pid, signal.SIGSEGV)

        assert await replica.exited == "killed by SIGSEGV"
        assert not listens(replica)
        assert "[r1] [lakeport] the engine is gone: killed by SIGSEGV" in runtime.logs("d1")
        again = await runtime.start(on_llama(gguf), "r2")
        async with talking(again) as talk:
            assert await talk.ask("Hello")


async def test_stop_ends_it(tmp_path: Path, program: Path, gguf: Path) -> None:
    async with opened(tmp_path / "home", llama_server=str(program)) as runtime:
        replica = await runtime.start(on_llama(gguf), "r1")

        await replica.stop(grace=5)

        assert await replica.exited == "stopped"
        assert not engines()


async def test_memory_is_that_of_the_engine_not_of_its_guard(
    tmp_path: Path, program: Path, gguf: Path
) -> None:
    machine = Machine(tmp_path / "home", memory_interval=0.05)
    options = {"llama_server": str(program), "machine": machine}
    async with opened(tmp_path / "home", **options) as runtime:
        replica = await runtime.start(on_llama(gguf), "r1")
        engine = engine_of(replica)

        def measured() -> bool:
            usage = replica.usage()
            return usage is not None and usage.memory_bytes > engine.memory_info().rss

        await until(measured)


async def test_too_much_memory_ends_it(tmp_path: Path, program: Path, gguf: Path) -> None:
    machine = Machine(tmp_path / "home", memory_interval=0.05)
    options = {"llama_server": str(program), "machine": machine, "memory_limit": 1024 * 1024}
    async with opened(tmp_path / "home", **options) as runtime:
        with pytest.raises(StartFailed, match="used more than 1 MB of memory"):
            await runtime.start(on_llama(gguf, "loads_for_ever"), "r1")


async def test_what_cannot_be_prepared_is_told_in_the_build_log(tmp_path: Path) -> None:
    async with opened(tmp_path / "home") as runtime:
        with pytest.raises(StartFailed, match=r"the catalogue has no model system\.ai\.none"):
            await runtime.prepare(deployment("none"))

        assert "FAILED: the catalogue has no model" in runtime.build_logs("d1")


async def test_a_folder_of_safetensors_is_refused_on_a_processor(tmp_path: Path) -> None:
    folder = tmp_path / "big"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    async with opened(tmp_path / "home") as runtime:
        with pytest.raises(StartFailed, match=r"llama\.cpp runs GGUF files"):
            await runtime.prepare(deployment("big", path=str(folder)))


async def test_two_runtimes_share_a_machine(tmp_path: Path, program: Path, gguf: Path) -> None:
    home = tmp_path / "home"
    machine = Machine(home)
    workers = LocalRuntime(home, machine=machine)
    engines = EngineRuntime(home, models={}, llama_server=str(program), machine=machine)
    await workers.open()
    await engines.open()
    replica = await engines.start(on_llama(gguf), "r1")

    await workers.close()

    assert psutil.pid_exists(replica.pid)
    assert "the engine begins" in engines.logs("d1")
    await engines.close()
    assert not psutil.pid_exists(replica.pid)
    assert not (home / "run/life").exists()


async def test_what_is_forgotten_leaves_no_folder(
    tmp_path: Path, program: Path, gguf: Path
) -> None:
    async with opened(tmp_path / "home", llama_server=str(program)) as runtime:
        replica = await runtime.start(on_llama(gguf), "r1")
        await replica.stop(grace=1)

        runtime.forget("d1")

        assert not (tmp_path / "home/work/d1").exists()
        assert runtime.signature(on_llama(gguf)) is None


async def test_an_engine_that_hangs_is_given_up(tmp_path: Path, program: Path, gguf: Path) -> None:
    home = tmp_path / "home"
    async with opened(home, llama_server=str(program), heartbeat=0.1) as runtime:
        replica = await runtime.start(on_llama(gguf), "r1")
        engine = engine_of(replica)

        engine.send_signal(signal.SIGSTOP)
        why = await asyncio.wait_for(replica.exited, 30)

        assert "it did not answer for 0.3 s" in why
        assert not engine.is_running()
