"""What is done every second is done together: an idle machine wakes once for all of it."""

import time

#: Seconds by which a timer may go off early.
EARLY = 0.005


def pause(interval: float, now: float | None = None) -> float:
    """Seconds until the clock (`now`, by default the machine's) next shows a whole multiple of
    `interval` seconds; one that is reached within `EARLY` counts as reached. 0.0 for 0.0."""
    if not interval:
        return 0.0
    at = time.time() if now is None else now
    return interval - (at + EARLY) % interval + EARLY
