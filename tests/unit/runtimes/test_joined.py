"""Where a replica that joins from outside may listen."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakeport.runtimes.base import DeploymentSpec, Kind, StartFailed
from lakeport.runtimes.joined import JoinedRuntime, socket_path
from tests.integration.joined import JoinedProcess, joined, waits

FOLDER = Path("/run/joined")


def test_an_address_names_a_socket_of_the_folder() -> None:
    assert socket_path("unix:/run/joined/a.sock#s", FOLDER) == FOLDER / "a.sock"


@pytest.mark.parametrize(
    "address",
    [
        "unix:/run/joined/a.sock",
        "unix:/run/joined/a.sock#",
        "unix:#s",
        "tcp:/run/joined/a.sock#s",
        "http://example/#s",
        "unix:/run/a.sock#s",
        "unix:/run/joined/deep/a.sock#s",
        "unix:/run/joined/../a.sock#s",
        "unix:/run/joined/..#s",
        "unix:/run/joined/.#s",
        "unix:/run/joined#s",
        "unix:a.sock#s",
        "unix:/run/joined/a\0.sock#s",
        f"unix:/run/joined/{'a' * 100}#s",
    ],
)
def test_no_other_address_is_taken(address: str) -> None:
    with pytest.raises(StartFailed):
        socket_path(address, FOLDER)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Has a short path, as sockets need, and something of an earlier life."""
    short = Path(f"/tmp/lp-joined-{os.getpid()}")
    short.mkdir()
    (short / "old.sock").touch()
    yield short
    assert not short.exists()


def spec(address: str) -> DeploymentSpec:
    return DeploymentSpec(
        id="d1", endpoint="f", entity="f", model_name="f", model_version="1", model_key="path",
        path=None, workload_type="CPU", concurrency=4, kind=Kind.JOINED,
        external={"address": address, "task": "llm/v1/chat"},
    )  # fmt: skip


async def test_what_is_no_socket_or_a_link_to_one_is_refused(folder: Path, tmp_path: Path) -> None:
    runtime = JoinedRuntime(folder)
    await runtime.open()
    try:
        (folder / "file").touch()
        for path in (folder / "missing", folder / "file"):
            with pytest.raises(StartFailed):
                await runtime.start(spec(f"unix:{path}#s"), "r1")
        outside = folder.with_name(f"{folder.name}.sock")
        with joined(outside, waits(0)) as process:
            link = folder / "link"
            link.symlink_to(outside)
            with pytest.raises(StartFailed, match="no socket"):
                await runtime.start(spec(process.address.replace(str(outside), str(link))), "r1")
    finally:
        await runtime.close()


async def test_a_replica_lives_as_long_as_its_process_listens(folder: Path) -> None:
    runtime = JoinedRuntime(folder)
    await runtime.open()
    try:
        process = JoinedProcess(folder / "a.sock", waits(0))
        with pytest.raises(StartFailed, match="secret"):
            await runtime.start(spec(process.address + "0"), "r1")
        replica = await runtime.start(spec(process.address), "r2")
        interface = runtime.signature(spec(process.address))

        assert not replica.exited.done()
        assert interface is not None
        assert interface.task == "llm/v1/chat"
        process.close()
        assert "closed" in await replica.exited
    finally:
        await runtime.close()


async def test_its_folder_is_empty_and_private(folder: Path) -> None:
    runtime = JoinedRuntime(folder)

    await runtime.open()
    mode, left = os.stat(folder).st_mode, os.listdir(folder)
    await runtime.close()

    assert (mode & 0o777, left) == (0o700, [])
