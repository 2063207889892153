"""How many requests may become one predict."""

from __future__ import annotations

from collections.abc import Iterable

#: Requests that become one predict, and the rows that they may bring together.
MAX_REQUESTS = 64
MAX_ROWS = 4096


def groups(sizes: Iterable[int]) -> list[range]:
    """Cut a run of requests, given by their numbers of rows, into merged predicts."""
    found: list[range] = []
    start = end = rows = 0
    for size in sizes:
        if end > start and (rows + size > MAX_ROWS or end - start == MAX_REQUESTS):
            found.append(range(start, end))
            start, rows = end, 0
        rows += size
        end += 1
    if end > start:
        found.append(range(start, end))
    return found
