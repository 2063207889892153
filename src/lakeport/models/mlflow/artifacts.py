"""Files that an MLflow server keeps (`mlflow-artifacts:`), copied to a folder of ours."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from lakeport.models.base import ModelNotFound, RegistryUnavailable
from lakeport.models.mlflow import rest

PIECE = 1024 * 1024
#: More than any model has: a registry may not keep us busy for ever.
MOST_FILES = 100_000
DEEPEST = 32


def safe_name(name: object) -> str:
    """`name` when it can only be an entry of the folder that it is put into.

    Names come from a registry that others may write to. Raises RegistryUnavailable.
    """
    safe = isinstance(name, str) and name not in {"", ".", ".."} and not set(name) & set("/\\\0")
    if not safe:
        raise RegistryUnavailable(f"The model registry names a file that cannot be: {name!r}.")
    assert isinstance(name, str)
    return name


def artifact_path(uri: str, server_url: str | None) -> str:
    """The path below the server's artifact root of an `mlflow-artifacts:` URI, decoded.

    Such a URI may name a host. It must be that of `server_url` (None: no host may be named), for
    credentials go with the request. Raises RegistryUnavailable.
    """
    try:
        url = URL(uri)
        own = URL(server_url) if server_url else None
        named = (url.host, url.explicit_port or (own.port if own else None))
    except ValueError as error:
        raise RegistryUnavailable("The model registry gave an address that is none.") from error
    if url.host and (own is None or named != (own.host, own.port)):
        raise RegistryUnavailable("The model's files are on another server than the registry's.")
    parts = [safe_name(part) for part in url.path.split("/") if part]
    if not parts:
        raise RegistryUnavailable("The model registry names no folder for the model's files.")
    return "/".join(parts)


async def download(server: rest.Server, path: str, into: Path, log: Callable[[str], None]) -> None:
    """Copy all that lies below `path` to the folder `into`, which is made.

    `log` is told each file and its size. Raises ModelNotFound when there is nothing, Registry-
    Unavailable, OSError.
    """
    copier = _Copier(server, log)
    await copier.copy_folder(path, into, depth=0)
    if copier.files == 0:
        raise ModelNotFound("The model's files are not in the registry's artifact store.")


class _Copier:
    def __init__(self, server: rest.Server, log: Callable[[str], None]) -> None:
        self._server = server
        self._log = log
        self.files = 0

    async def copy_folder(self, path: str, into: Path, *, depth: int) -> None:
        if depth > DEEPEST:
            raise RegistryUnavailable("The model's folders are nested too deep.")
        await asyncio.to_thread(into.mkdir, parents=True)
        for entry in await self._entries(path):
            name = safe_name(entry.get("path"))
            if entry.get("is_dir"):
                await self.copy_folder(f"{path}/{name}", into / name, depth=depth + 1)
            else:
                await self._copy_file(f"{path}/{name}", into / name)

    async def _entries(self, path: str) -> list[dict[str, Any]]:
        try:
            listing = await rest.get(self._server, rest.ARTIFACTS, {"path": path})
        except rest.Refused as error:
            raise RegistryUnavailable(
                f"The model registry does not list the model's files: {error.message}"
            ) from error
        files = listing.get("files", [])
        if not isinstance(files, list) or not all(isinstance(entry, dict) for entry in files):
            raise RegistryUnavailable(
                "The model registry gave a list of files that cannot be read."
            )
        return files

    async def _copy_file(self, path: str, into: Path) -> None:
        self.files += 1
        if self.files > MOST_FILES:
            raise RegistryUnavailable(f"The model has more than {MOST_FILES} files.")
        session, base_url = await self._server.session()
        url = URL(f"{base_url}{rest.ARTIFACTS}/{quote(path, safe='/')}", encoded=True)
        try:
            async with session.get(
                url, headers=rest.PLAIN, timeout=rest.FILE_TIMEOUT, allow_redirects=False
            ) as answer:
                await rest.check(answer)
                size = await _write(answer, into)
        except rest.Refused as error:
            raise RegistryUnavailable(
                f"The model registry does not give {path}: {error.message}"
            ) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise rest.unreachable(error) from error
        self._log(f"  {path} ({size:,} bytes)")


async def _write(answer: aiohttp.ClientResponse, into: Path) -> int:
    """The answer's body as a new file; its size in bytes."""
    # "x": two names that the file system takes for one must not overwrite each other.
    file = await asyncio.to_thread(into.open, "xb")
    size = 0
    try:
        async for piece in answer.content.iter_chunked(PIECE):
            await asyncio.to_thread(file.write, piece)
            size += len(piece)
    finally:
        await asyncio.to_thread(file.close)
    return size
