"""Times, counted by upper bound.

The bounds are close together, so that a quantile can be told from them; a part of them is what
Prometheus is shown.
"""

from bisect import bisect_left
from collections.abc import Sequence

_STEPS = (1, 1.5, 2, 2.5, 3.5, 5, 7)
#: Upper bounds in milliseconds, 0.05 to 600,000. A list of counts has one place more: beyond.
FINE_MS: tuple[float, ...] = (
    0.05,
    0.07,
    *(step * scale for scale in (0.1, 1, 10, 100, 1000) for step in _STEPS),
    *(10_000, 15_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000),
)
#: The same in seconds, to be searched with `bisect_left`.
FINE_S = tuple(bound / 1000 for bound in FINE_MS)
#: Those that Prometheus is shown, in milliseconds.
SHOWN_MS = (
    0.1, 0.25, 0.5, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000,
    60_000, 120_000, 300_000, 600_000,
)  # fmt: skip
#: Of starts from zero, in seconds.
COLD_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
#: Requests that shared one predict.
BATCHES = (1, 2, 4, 8, 16, 32, 64)
#: The largest that is told apart.
LARGEST_BATCH = 127

_SHOWN_AT = tuple(bisect_left(FINE_MS, bound * 0.999) for bound in SHOWN_MS)

#: What `prometheus_client` takes: upper bound and the count up to it; the last is "+Inf".
Buckets = list[tuple[str, float]]


def fine() -> list[int]:
    """No times yet: a count for each of FINE_S, and for what is beyond."""
    return [0] * (len(FINE_S) + 1)


def shown(counts: Sequence[int]) -> Buckets:
    """`counts` by FINE_S, as Prometheus is shown them: by SHOWN_MS."""
    rows: Buckets = []
    total, done = 0, 0
    for bound, at in zip(SHOWN_MS, _SHOWN_AT, strict=True):
        total += sum(counts[done : at + 1])
        done = at + 1
        rows.append((f"{bound:g}" if bound < 1e6 else str(bound), float(total)))
    rows.append(("+Inf", float(total + sum(counts[done:]))))
    return rows


def by_bounds(bounds: Sequence[float], counts: Sequence[int]) -> Buckets:
    """`counts` by `bounds`, one more for what is beyond."""
    rows: Buckets = []
    total = 0
    for bound, count in zip(bounds, counts[:-1], strict=True):
        total += count
        rows.append((f"{bound:g}", float(total)))
    rows.append(("+Inf", float(total + counts[-1])))
    return rows


def batches(counts: Sequence[int]) -> Buckets:
    """`counts` by size, 0 to LARGEST_BATCH, by BATCHES."""
    rows: Buckets = [(str(bound), float(sum(counts[: bound + 1]))) for bound in BATCHES]
    rows.append(("+Inf", float(sum(counts))))
    return rows


def quantile(counts: Sequence[int], fraction: float) -> float | None:
    """The time in milliseconds that `fraction` of `counts` (by FINE_S) do not exceed, as far as the
    bounds tell: times are taken as spread evenly between two of them. None without any.

    Beyond the last bound it is that bound.
    """
    total = sum(counts)
    if total == 0:
        return None
    wanted = fraction * total
    below = 0.0
    for at, count in enumerate(counts[:-1]):
        if count and below + count >= wanted:
            low = FINE_MS[at - 1] if at else 0.0
            return low + (FINE_MS[at] - low) * (wanted - below) / count
        below += count
    return FINE_MS[-1]
