"""What a test waits for when it sends a call over a link."""

import asyncio
from typing import Any

from lakeport.runtimes.base import Answer, Call, Link, ReplicaLost, Sending, Stream


class Sent(asyncio.Future["Answer | Stream"]):
    """A call, sent at once; cancelling it cancels the call."""

    def __init__(self, link: Link, call: Call) -> None:
        super().__init__()
        self._sending: Sending | None = link.send(call, self._taken)

    def cancel(self, msg: Any | None = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled and self._sending is not None:
            self._sending.cancel()
        return cancelled

    def _taken(self, result: Answer | Stream | ReplicaLost) -> None:
        self._sending = None  # no circle: a stream that is dropped must notice
        if self.cancelled():
            return
        if isinstance(result, ReplicaLost):
            self.set_exception(result)
        else:
            self.set_result(result)
