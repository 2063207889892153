"""Looking again and again at what changes, through the restarts of a server."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from lakeport.cli.output import Output, dumped, dumped_short

#: Seconds between two looks, and at most while the server is away.
PAUSE, LONGEST_PAUSE = 1.0, 5.0
#: Seconds that one look may take.
LOOK = 30.0


def away() -> tuple[type[Exception], ...]:
    """The errors of a server that is away, and may come back."""
    from lakeport.client.errors import (
        ConnectionFailed,
        NotReady,
        RateLimited,
        ServerError,
        TimedOut,
    )

    return (ConnectionFailed, NotReady, RateLimited, ServerError, TimedOut)


def follow(
    out: Output,
    look: Callable[[], bool],
    *,
    back: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Call `look` until something ends it: Ctrl-C, or an error that time does not mend.

    It says whether there is more at once. A server that is away is waited for without end, and told
    of once; `back` is called when it answers again, before the next look.
    """
    failures = 0
    while True:
        try:
            if failures:
                back()
            more = look()
        except away() as error:
            if not failures:
                out.note(f"{error} Waiting for it …")
            failures += 1
            sleep(min(PAUSE * 1.5 ** min(failures - 1, 10), LONGEST_PAUSE))
            continue
        if failures:
            out.note("It is back.")
            failures = 0
        if not more:
            sleep(PAUSE)


def document(out: Output, found: Any) -> None:
    """One of many documents, at once: a line of JSON, or a document of a YAML stream."""
    if out.format == "yaml":
        out.piece(f"---\n{dumped(found, 'yaml')}\n")
    else:
        out.piece(dumped_short(found) + "\n")


def stamp(milliseconds: int) -> str:
    """As the logs have it: 2026-01-02T12:00:00.345Z."""
    when = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
