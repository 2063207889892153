"""Replicas that join from outside: a test's own process, which listens on a socket in the home and
speaks the worker protocol. The server neither starts nor ends them; it watches whether they live.
"""

import asyncio
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lakeport.runtimes.base import (
    DeploymentSpec,
    Link,
    ModelInterface,
    ReplicaLost,
    StartFailed,
    Usage,
)
from lakeport.runtimes.local.link import UnixConnector

#: Seconds for a process that joins to greet: it listens already.
GREETING = 5.0
#: Bytes that a socket's path may have; see docs/internals/worker-protocol.md.
_LONGEST = 99


class JoinedRuntime:
    """The `Runtime` of Kind.JOINED. Sockets lie in `folder`, which only its owner may enter.

    `open` empties the folder: what an earlier life left there is nobody's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connector = UnixConnector(welcome_timeout=GREETING)

    async def open(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700)

    async def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    async def prepare(self, spec: DeploymentSpec) -> None:
        """Nothing to do."""

    async def start(self, spec: DeploymentSpec, replica_id: str) -> "JoinedReplica":
        address = str((spec.external or {})["address"])
        path = socket_path(address, self._folder)
        try:
            found = path.lstat()
        except OSError as problem:
            raise StartFailed("There is no socket at the address.") from problem
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise StartFailed("What lies at the address is no socket of the server's own user.")
        try:
            link = await self._connector.connect(address)
        except ReplicaLost as problem:
            raise StartFailed(
                "Nothing at the address speaks the worker protocol, or the secret is wrong."
            ) from problem
        return JoinedReplica(replica_id, address, link)

    def logs(self, deployment_id: str) -> str:
        return ""

    def build_logs(self, deployment_id: str) -> str:
        return ""

    def forget(self, deployment_id: str) -> None:
        """Nothing was kept."""

    def signature(self, spec: DeploymentSpec) -> ModelInterface | None:
        said: Mapping[str, Any] = spec.external or {}
        shown = said.get("signature") or {}
        return ModelInterface(
            shown.get("inputs"), shown.get("outputs"), shown.get("params"), task=said.get("task")
        )


def socket_path(address: str, folder: Path) -> Path:
    """The path in `unix:PATH#SECRET`, directly in `folder`. Raises StartFailed, saying what was
    expected."""
    scheme, _, rest = address.partition(":")
    text, mark, secret = rest.rpartition("#")
    if scheme != "unix" or not mark or not secret:
        raise StartFailed("An address has the form unix:PATH#SECRET.")
    path = Path(text)
    if path.parent != folder or path.name in ("", ".", "..") or "\0" in text:
        raise StartFailed("The socket must lie directly in the folder for sockets.")
    if len(os.fsencode(text)) > _LONGEST:
        raise StartFailed(f"The path of a socket has at most {_LONGEST} bytes.")
    return path


class JoinedReplica:
    """A `Replica` whose process is not ours: a link of its own tells whether it lives."""

    def __init__(self, id: str, address: str, link: Link) -> None:
        self.id = id
        self.address = address
        self._link = link
        self._exited: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        link.lost.add_done_callback(lambda _: self._gone("its process closed the socket"))

    @property
    def exited(self) -> "asyncio.Future[str]":
        return self._exited

    def usage(self) -> Usage | None:
        return None

    async def stop(self, *, grace: float) -> None:
        """Let go of it; whose process it is ends it."""
        self._gone("stopped")
        self._link.close()

    def _gone(self, why: str) -> None:
        if not self._exited.done():
            self._exited.set_result(why)
