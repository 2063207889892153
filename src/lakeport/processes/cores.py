"""How many cores there are for this process and its children."""

import math
import os
from pathlib import Path

#: What a container may use: control groups, version 2 and 1.
_V2 = Path("/sys/fs/cgroup/cpu.max")
_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")


def cores() -> int:
    """Those of its affinity, or a container's quota (`docker run --cpus`) where that is less."""
    mine = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        mine = len(os.sched_getaffinity(0))
    quota = allowed(_text(_V2) or f"{_text(_V1)} {_text(_V1.with_name('cpu.cfs_period_us'))}")
    return mine if quota is None else max(1, min(mine, math.ceil(quota)))


def allowed(limit: str) -> float | None:
    """The cores of a quota, written as "QUOTA PERIOD" in microseconds; None: there is none."""
    try:
        quota, period = map(int, limit.split())
    except ValueError:  # "max 100000", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
