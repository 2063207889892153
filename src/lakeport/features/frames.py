"""Features in a DataFrame, of pandas or polars."""

from collections.abc import Mapping, Sequence
from typing import Any

from lakeport.client.features import Features


class DataFrameSource:
    """Features from a frame in memory, one row for each key.

    The frame is read when the source is made; what is changed in it afterwards is not seen.
    """

    def __init__(
        self,
        frame: Any,
        *,
        keys: Sequence[str] | str,
        features: Sequence[str] | str | None = None,
    ) -> None:
        """`frame`: a pandas or polars DataFrame. `keys`: its primary key's columns. `features`:
        the other columns to use; all by default.

        Raises ValueError: a column that is not there, or a key that is there twice.
        """
        self._keys = (keys,) if isinstance(keys, str) else tuple(keys)
        if not self._keys:
            raise ValueError("keys: expected the name of a column at least.")
        columns = [str(name) for name in frame.columns]
        if isinstance(features, str):
            features = (features,)
        if features is None:
            features = [name for name in columns if name not in self._keys]
        if absent := [name for name in (*self._keys, *features) if name not in columns]:
            raise ValueError(
                f"The frame has no column {', '.join(absent)}; it has {', '.join(columns)}."
            )
        self._columns = {name: _values(frame[name]) for name in features}
        self._rows: dict[tuple[Any, ...], int] = {}
        for row, key in enumerate(zip(*(_values(frame[k]) for k in self._keys), strict=True)):
            if self._rows.setdefault(key, row) != row:
                named = ", ".join(f"{k}={v!r}" for k, v in zip(self._keys, key, strict=True))
                raise ValueError(f"{named} is in the frame twice: a primary key must be unique.")

    @property
    def keys(self) -> Sequence[str]:
        return self._keys

    def fetch(self, keys: Mapping[str, Sequence[Any]]) -> Features:
        asked = list(zip(*(keys[name] for name in self._keys), strict=True))
        rows = [self._rows.get(key) for key in asked]
        return Features(
            {
                name: [None if row is None else values[row] for row in rows]
                for name, values in self._columns.items()
            },
            [position for position, row in enumerate(rows) if row is None],
        )


def _values(column: Any) -> list[Any]:
    """A column's values as Python's own, so that 7 of numpy and 7 of the caller are one key."""
    values: list[Any] = column.to_list()  # both libraries have it
    return values
