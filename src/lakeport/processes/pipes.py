"""The reading end of a pipe on an event loop."""

import asyncio
import os
from collections.abc import Callable
from typing import IO

CHUNK = 64 * 1024


class PipeReader:
    """Hands on what comes through `pipe` until its end, then closes it.

    With `add_reader` rather than `connect_read_pipe`: under uvloop the latter closes the descriptor
    twice, and the second time it may be somebody else's.
    """

    def __init__(self, pipe: IO[bytes], received: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._pipe = pipe
        self._received = received
        #: Done when nothing more will come: every writer is gone, or this was closed.
        self.ended: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._readable)

    def close(self) -> None:
        if not self._pipe.closed:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
        if not self.ended.done():
            self.ended.set_result(None)

    def _readable(self) -> None:
        try:
            data = os.read(self._pipe.fileno(), CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._received(data)
        else:
            self.close()
