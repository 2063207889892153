"""Frames of what a plan joined: those that MLflow makes of the same bodies."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .plan import Columns


def frame_of(plan: Columns, data: Any) -> Any:
    """The typed frame of `plan.join`'s array or columns."""
    import pandas as pd

    names = _columns_of(tuple(plan.names)) if plan.named else pd.RangeIndex(len(plan.names))
    if isinstance(data, np.ndarray):
        # One block in pandas' own order: what it makes of such columns too, at five times the cost.
        return pd.DataFrame(data, columns=names.copy(), copy=False)
    frame = pd.DataFrame(dict(enumerate(data)))
    frame.columns = names.copy()
    return frame


@lru_cache(maxsize=1)
def _columns_of(names: tuple[str, ...]) -> Any:
    """The index of a frame's columns; one for all frames, since it keeps what it found out."""
    import pandas as pd

    return pd.Index(names)
