"""How many threads a library may start for one predict."""

from __future__ import annotations

import os
from typing import Final

#: OpenMP's own word: who sets it, in an endpoint's environment, is obeyed.
_VARIABLE: Final = "OMP_NUM_THREADS"


def limit() -> int | None:
    """One, since replicas are what uses more cores, and threads that wait for each other between
    other work cost a small predict far more than they bring; None: as the environment says.
    No flavor that asks has answers that depend on it."""
    return None if os.environ.get(_VARIABLE) else 1
