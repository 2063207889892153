"""When a request is sent again, and after how long."""

from dataclasses import dataclass

from lakeport.client.errors import ApiError, ConnectionFailed, LakeportError, TimedOut

#: Statuses of a request that was refused before anything ran.
NOT_RUN = frozenset({429, 503})
#: Statuses of a request that may have been run, and may succeed another time.
MAYBE_RUN = frozenset({500, 502, 504})


@dataclass(frozen=True, slots=True)
class Retry:
    """The rule. A request that was surely not run (connection refused, 429, 503) is sent again by
    itself; one that may have been run (timeout, reset, 500, 502, 504) only with `unsafe`.

    Raises ValueError for numbers that cannot be.
    """

    #: Requests in all; 1: never again.
    attempts: int = 5
    #: Seconds; the n-th wait (from 0) is a random part of `base * 2**n`, at most `cap` (full
    #: jitter); a Retry-After is honoured where it is longer.
    base: float = 0.25
    cap: float = 30.0
    #: Seconds in all, waits included: no wait begins that would end after it.
    deadline: float = 300.0
    #: Also where the request may have been run already.
    unsafe: bool = False

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts={self.attempts}: expected 1 or more.")
        for name in ("base", "cap", "deadline"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)}: expected seconds, 0 or more.")

    def wait(self, failures: int, retry_after: float | None, draw: float) -> float:
        """Seconds to wait after so many failures (1 or more); `draw` is random, 0 to 1."""
        longest = min(self.cap, self.base * 2.0 ** min(failures - 1, 60))
        return max(draw * longest, retry_after or 0.0)

    def allows(self, error: LakeportError, *, safe: bool = False) -> bool:
        """Whether a request that failed so may be sent again. `safe`: a request that changes
        nothing, a GET."""
        repeatable = self.unsafe or safe
        if isinstance(error, ConnectionFailed | TimedOut) and error.status is None:
            return repeatable or not error.sent
        if isinstance(error, ApiError | TimedOut):
            return error.status in NOT_RUN or (repeatable and error.status in MAYBE_RUN)
        return False
