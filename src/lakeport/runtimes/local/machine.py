"""What all runtimes on this machine share: logs, sockets, the watch on memory, the mark of life."""

import asyncio
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from lakeport.processes import leftovers
from lakeport.processes.child import Child, start
from lakeport.processes.environment import scrubbed
from lakeport.processes.leftovers import end_marked
from lakeport.runtimes.local.logs import Logs
from lakeport.runtimes.local.memory import MemoryWatch
from lakeport.runtimes.local.sockets import SocketFolder


class Machine:
    """One home's share of this machine.

    home/logs/ID        a deployment's logs; kept for 30 days after it is forgotten
    home/run            sockets, and the mark of this life

    Several runtimes may open it: the first one does, and the last one that closes it does.
    """

    def __init__(
        self,
        home: Path,
        *,
        memory_interval: float = 1.0,
        log_write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self._run = home / "run"
        self._users = 0
        #: Every child carries it in its environment, as `leftovers.MARK`.
        self.mark = secrets.token_hex(16)
        self.logs = Logs(home / "logs", write=log_write)
        self.sockets = SocketFolder(self._run)
        self.watch = MemoryWatch(interval=memory_interval)
        #: Ends what is left should this process be killed; see `leftovers`.
        self._undertaker: Child | None = None

    async def open(self) -> None:
        """Make folders, end what an earlier life left running."""
        self._users += 1
        if self._users > 1:
            return
        await asyncio.to_thread(self._open)
        self._undertaker = await start(
            [sys.executable, "-I", leftovers.__file__, self.mark],
            env=scrubbed(),
            output=lambda _: None,
        )

    def _open(self) -> None:
        self._run.mkdir(parents=True, exist_ok=True, mode=0o700)
        mark = self._run / "life"
        if mark.exists():  # an earlier life did not end as it should
            end_marked(mark.read_text(encoding="ascii").strip())
        mark.write_text(self.mark, encoding="ascii")
        self.sockets.open()
        self.logs.open()

    async def close(self) -> None:
        """Nothing that carries the mark is left when the last user's call returns."""
        self._users = max(self._users - 1, 0)
        if self._users:
            return
        await self.watch.close()
        await asyncio.to_thread(self._close)
        if self._undertaker is not None:
            await self._undertaker.stop(grace=0)

    def _close(self) -> None:
        end_marked(self.mark)  # what left its process group
        self.sockets.close()
        self.logs.close()
        (self._run / "life").unlink(missing_ok=True)
