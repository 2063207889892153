"""The supervisor, with a small program in MLflow's place (tests/integration has the real one)."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import pytest

from lakeport.models.base import RegistryUnavailable
from lakeport.models.mlflow.server import RegistryServer, back_off
from lakeport.processes.child import Child, start_guarded

PROGRAM = """
import asyncio, os, sys
async def answer(reader, writer):
    body = str(os.getpid()).encode()
    while await reader.readline():
        while (await reader.readline()).strip():
            pass
        writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body)
    writer.close()
async def main():
    print("hello from the registry", flush=True)
    server = await asyncio.start_unix_server(answer, sys.argv[1])
    await server.serve_forever()
asyncio.run(main())
"""


class Starter:
    """Starts PROGRAM for MLflow, and counts."""

    def __init__(self, program: str = PROGRAM) -> None:
        self.program = program
        self.children: list[Child] = []
        self.environments: list[Mapping[str, str]] = []

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None,
        output: Callable[[bytes], None],
    ) -> Child:
        (path,) = (word.partition("=")[2] for word in argv if word.startswith("--socket="))
        command = [sys.executable, "-I", "-c", self.program, path]
        self.environments.append(env)
        self.children.append(await start_guarded(command, env=env, cwd=cwd, output=output))
        return self.children[-1]


@pytest.fixture
def starter() -> Starter:
    return Starter()


@pytest.fixture
async def server(tmp_path: Path, starter: Starter) -> AsyncIterator[RegistryServer]:
    server = RegistryServer(tmp_path, tmp_path, wait=20, start=starter)
    yield server
    await server.close()


async def ask(server: RegistryServer) -> int:
    """The pid of the program that answers."""
    session, base_url = await server.session()
    async with session.get(base_url + "/") as answer:
        return int(await answer.text())


async def test_it_starts_at_its_first_use_and_once_for_all(
    server: RegistryServer, starter: Starter
) -> None:
    assert not server.up
    assert starter.children == []

    pids = await asyncio.gather(*(ask(server) for _ in range(50)))

    assert len(set(pids)) == 1
    assert len(starter.children) == 1
    assert server.up


async def test_eager_starts_without_being_asked(server: RegistryServer, starter: Starter) -> None:
    server.begin()
    server.begin()
    await ask(server)

    assert len(starter.children) == 1


async def test_it_comes_back_when_it_dies_and_requests_wait_for_it(
    server: RegistryServer, starter: Starter
) -> None:
    first = await ask(server)

    os.kill(first, signal.SIGKILL)
    await starter.children[0].exited
    second = await ask(server)

    assert second != first
    assert len(starter.children) == 2


async def test_it_comes_back_when_its_guard_dies(server: RegistryServer, starter: Starter) -> None:
    first = await ask(server)

    os.kill(starter.children[0].pid, signal.SIGKILL)
    await starter.children[0].exited

    assert await ask(server) != first


async def test_it_is_gone_once_closed(server: RegistryServer, starter: Starter) -> None:
    pid = await ask(server)

    await server.close()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(RegistryUnavailable):
        await server.session()


async def test_who_waits_for_it_is_let_go_when_the_server_stops(tmp_path: Path) -> None:
    server = RegistryServer(tmp_path, tmp_path, wait=600, start=Starter("input()"))
    waiting = [asyncio.create_task(server.session()) for _ in range(3)]
    await asyncio.sleep(0)

    await server.close()

    for waiter in waiting:
        with pytest.raises(RegistryUnavailable):
            await waiter


async def test_one_that_does_not_come_up_is_refused_in_time_and_the_log_is_named(
    tmp_path: Path,
) -> None:
    starter = Starter("import sys; sys.exit('no such database')")
    server = RegistryServer(tmp_path, tmp_path, wait=0.5, start=starter)

    with pytest.raises(RegistryUnavailable) as refusal:
        await server.session()
    await server.close()

    assert "logs/registry.log" in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)
    assert "no such database" in (tmp_path / "logs/registry.log").read_text()


async def test_a_machine_without_room_is_tried_again(tmp_path: Path) -> None:
    class Exhausted(Starter):
        async def __call__(
            self,
            argv: Sequence[str],
            *,
            env: Mapping[str, str],
            cwd: Path | None,
            output: Callable[[bytes], None],
        ) -> Child:
            if not self.environments:
                self.environments.append({})
                raise OSError("no processes left")
            return await super().__call__(argv, env=env, cwd=cwd, output=output)

    server = RegistryServer(tmp_path, tmp_path, wait=20, start=Exhausted())

    assert await ask(server)
    await server.close()


async def test_no_secret_of_the_server_reaches_it(
    server: RegistryServer, starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEPORT_ADMIN_TOKEN", "secret-of-the-admin")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret-of-mlflow")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-aws")

    await ask(server)

    assert "secret-of" not in " ".join(starter.environments[0].values())
    assert starter.environments[0]["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_the_back_off_doubles_up_to_a_minute() -> None:
    assert [back_off(n) for n in (1, 2, 3, 6, 7, 100)] == [1, 2, 4, 32, 60, 60]
