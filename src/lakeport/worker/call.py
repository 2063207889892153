"""One call of one front, from its frame to its answer."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from . import protocol


@dataclass(slots=True, eq=False)
class Call:
    """What a front asked; `cancel` and `allow` are the front's, `take_chunk` is the model's."""

    id: int
    body: bytes
    content_type: str | None
    content_encoding: str | None
    #: time.monotonic() by which it must have begun.
    deadline: float
    #: The OpenAI route that it came by, such as "chat/completions"; None: by none.
    operation: str | None = None
    #: The trace that it belongs to, as W3C's header says it; None: none.
    traceparent: str | None = None
    cancelled: bool = False
    #: The model ran out of memory over it: once it is answered, the process should end.
    exhausted: bool = False
    #: Chunks that may still be sent.
    window: int = protocol.STREAM_WINDOW
    #: Guards `window` and tells of it; None where no model streams, and nobody waits.
    changed: threading.Condition | None = None

    def cancel(self) -> None:
        self.cancelled = True
        if self.changed is not None:
            with self.changed:
                self.changed.notify_all()

    def allow(self, chunks: int) -> None:
        if self.changed is not None:
            with self.changed:
                self.window += chunks
                self.changed.notify_all()

    def take_chunk(self) -> bool:
        """Wait until one more chunk may be sent; False when the caller has gone."""
        assert self.changed is not None
        with self.changed:
            while self.window <= 0 and not self.cancelled:
                self.changed.wait()
            self.window -= 1
            return not self.cancelled
