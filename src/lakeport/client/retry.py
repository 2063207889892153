"""When a request is sent again, and after how long."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """The rule. A request that was surely not run (connection refused, 429, 503) is sent again by
    itself; one that may have been run (timeout, reset, 500, 502, 504) only with `unsafe`."""

    #: Requests in all; 1: never again.
    attempts: int = 5
    #: Seconds; the n-th wait is a random part of `base * 2**n`, at most `cap` (full jitter); a
    #: Retry-After is honoured where it is longer.
    base: float = 0.25
    cap: float = 30.0
    #: Seconds in all, waits included: no wait begins that would end after it.
    deadline: float = 300.0
    #: Also where the request may have been run already.
    unsafe: bool = False
