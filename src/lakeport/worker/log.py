"""What the worker itself says goes to stderr, which ends in the replica's log."""

from __future__ import annotations

import contextlib
import sys
import traceback


def say(text: str) -> None:
    """One line in the replica's log."""
    _write(f"lakeport worker: {text}\n")


def say_exception(what: str) -> None:
    """The exception being handled, with its traceback; clients never see it."""
    _write(f"lakeport worker: {what}\n{traceback.format_exc()}")


def _write(text: str) -> None:
    # A model may have replaced sys.stderr, or closed it, or its descriptor: its calls are answered
    # all the same.
    stream = sys.__stderr__
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            stream.write(text)
            stream.flush()
