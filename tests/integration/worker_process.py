"""A real worker, started as the local runtime does."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lakeport.runtimes.base import Link
from lakeport.runtimes.local.link import UnixConnector

MAIN = Path(__file__).parents[2] / "src" / "lakeport" / "worker" / "__main__.py"
SECRET = "0123456789abcdef" * 2
MAX_BODY = 256 * 1024
#: Of the environment, what no model may need more of.
ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1"}


@dataclass(slots=True)
class WorkerProcess:
    process: asyncio.subprocess.Process
    #: What it said on its status pipe, a line each.
    states: list[dict[str, Any]]
    address: str
    socket: Path
    log: Path

    @property
    def last(self) -> dict[str, Any]:
        return self.states[-1] if self.states else {}

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    async def connect(self) -> Link:
        return await UnixConnector().connect(self.address)


@asynccontextmanager
async def worker(model: Path, *, wait: bool = True, **order: Any) -> AsyncIterator[WorkerProcess]:
    """A worker that serves `model`; `order` overrides what it is told.

    With `wait` it is ready, or has failed, when this enters. It is killed when this exits.
    """
    with TemporaryDirectory(prefix="lp", dir="/tmp") as folder:
        socket, log = Path(folder, "w.sock"), Path(folder, "log")
        told = {
            "model": str(model),
            "socket": str(socket),
            "secret": SECRET,
            "concurrency": 4,
            "max_body": MAX_BODY,
            "memory_limit": 0,
            "merge": None,
            "parent": os.getpid(),
        } | order
        readable, writable = os.pipe()
        with log.open("wb") as output:  # noqa: ASYNC230  a file here is no wait
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-u", str(MAIN), str(writable)),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(writable,),
                env=ENVIRONMENT,
                cwd=folder,
                start_new_session=True,
            )
        os.close(writable)
        found = WorkerProcess(process, [], f"unix:{socket}#{SECRET}", socket, log)
        assert process.stdin is not None
        process.stdin.write(json.dumps(told).encode() + b"\n")
        status = os.fdopen(readable, "rb")
        try:
            if wait:
                found.states += [json.loads(line) for line in await asyncio.to_thread(list, status)]
            yield found
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            status.close()
