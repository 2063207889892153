"""A log of predictions that never slows or fails one.

    log = PredictionLog(JsonLines("predictions.jsonl"), sample=0.1, redact=["email"])
    client = Client(log=log)

A prediction is put into a bounded queue; one thread writes what is there, in batches. A sink that
is slow fills the queue, one that raises loses its batch: both are counted in `dropped`, and said
once a minute in the log of this module.
"""

import logging
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

from lakeport.client.recording import PredictionEvent
from lakeport.client.redaction import Redaction

_log = logging.getLogger(__name__)

#: Events that a sink gets at once, at most.
_BATCH = 500
#: Seconds between two words on what was dropped.
_QUIET = 60.0

Record = Mapping[str, Any]


class Sink(Protocol):
    """Where records go. Called from one thread; may block and may raise."""

    def write(self, records: Sequence[Record]) -> None:
        """Keep `records`, the oldest first."""

    def close(self) -> None:
        """Nothing more comes."""


class PredictionLog:
    """Gives every prediction to sinks, as a flat record of plain values.

    A record has `time` (RFC 3339, UTC), `endpoint`, `served_entity`, `request_id`,
    `client_request_id`, `status` ("ok" or the error's class), `error`, `seconds`, `attempts`,
    `request` and `response`.
    """

    def __init__(
        self,
        *sinks: Sink,
        sample: float = 1.0,
        redact: Iterable[str] | str = (),
        bodies: bool = True,
        queue: int = 10_000,
        seed: int | None = None,
    ) -> None:
        """`sample`: the share of predictions that is kept, 0 to 1. `redact`: names of fields and
        columns whose values are replaced, wherever they stand in a request or an answer, whatever
        their case, in JSON within texts (the arguments of a tool call) too, and in what an error
        quotes of them. `bodies`: keep requests and answers at all. `queue`: records that may wait;
        more are dropped.

        Raises ValueError for a share or a queue that is none, or without a sink.
        """
        if not 0.0 <= sample <= 1.0:
            raise ValueError(f"sample: expected a share from 0 to 1, got {sample}.")
        if queue < 1:
            raise ValueError(f"queue: expected room for 1 record at least, got {queue}.")
        if not sinks:
            raise ValueError("A PredictionLog needs a sink, e.g. JsonLines('predictions.jsonl').")
        self._sinks = sinks
        self._sample = sample
        self._redaction = Redaction([redact] if isinstance(redact, str) else redact)
        self._bodies = bodies
        self._limit = queue
        self._draw = random.Random(seed).random  # noqa: S311 -- a sample
        self._closed = False
        self._said = float("-inf")
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(_begin_anew, weakref.ref(self)))

    def _begin(self) -> None:
        """Empty. A forked child begins anew: the thread and what waits are its parent's."""
        self._waiting: deque[PredictionEvent] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._thread: threading.Thread | None = None
        #: Records lost: the queue was full, or every sink that should have them raised.
        self.dropped = 0
        #: Records that the sinks took.
        self.written = 0

    def record(self, event: PredictionEvent) -> None:
        """Take a prediction. Returns at once and never raises."""
        if self._sample < 1.0 and self._draw() >= self._sample:
            return
        with self._changed:
            if self._closed or len(self._waiting) >= self._limit:
                self.dropped += 1
                return
            self._waiting.append(event)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="lakeport-prediction-log", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all that was recorded is written, at most `timeout` seconds; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Write what waits, for at most `timeout` seconds, and close the sinks. What is recorded
        later is dropped."""
        self.flush(timeout)
        with self._changed:
            self._closed = True
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)
        if thread is None or not thread.is_alive():
            for sink in self._sinks:
                self._try_close(sink)
        self._say()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                events = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                self._busy = True
            self._write(events)

    def _write(self, events: Sequence[PredictionEvent]) -> None:
        taken = 0
        try:
            records = [self._record(event) for event in events]
            for sink in self._sinks:
                taken += self._give(sink, records)
        except Exception:  # noqa: BLE001 -- an answer that has no description ends no thread
            _log.debug("records of predictions could not be made", exc_info=True)
        lost = 0 if taken else len(events)
        with self._changed:
            self.dropped += lost
            self.written += len(events) - lost
            behind = self.dropped
        if behind and time.monotonic() - self._said > _QUIET:
            self._say()

    def _give(self, sink: Sink, records: Sequence[Record]) -> bool:
        try:
            sink.write(records)
        except Exception as error:  # noqa: BLE001 -- a sink is anybody's code
            if time.monotonic() - self._said > _QUIET:
                _log.warning(
                    "%s did not take %d predictions: %s", type(sink).__name__, len(records), error
                )
            return False
        return True

    def _try_close(self, sink: Sink) -> None:
        try:
            sink.close()
        except Exception as error:  # noqa: BLE001 -- a sink is anybody's code
            _log.warning("%s could not be closed: %s", type(sink).__name__, error)

    def _say(self) -> None:
        if self.dropped:
            self._said = time.monotonic()
            _log.warning("%d predictions were not logged so far", self.dropped)

    def _record(self, event: PredictionEvent) -> Record:
        if not self._redaction.names:
            return event.as_record(bodies=self._bodies)
        # With its bodies in any case: they tell what an error may not.
        record = self._redaction.of(event.as_record())
        return record if self._bodies else {**record, "request": None, "response": None}


def _begin_anew(ref: "weakref.ref[PredictionLog]") -> None:
    log = ref()
    if log is not None:
        log._begin()
