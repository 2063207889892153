"""Which requests may be merged into one predict: pure rules on parsed bodies.

A *plain* request is one in a dataframe form whose columns are exactly the signature's, whose values
are all of their column's plain JSON type, and that brings no params and no index. For plain
requests MLflow's own conversion is known to the bit, so that they can share one frame; all others
take MLflow's way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

#: Requests that become one predict, and the rows that they may bring together.
MAX_REQUESTS = 64
MAX_ROWS = 4096

_INT32 = 2**31
_INT64 = 2**63
#: Beyond this an integer is not a float64 any more.
_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class Kind:
    """A plain column type: what JSON values it takes, and what array they become."""

    #: None: the frame infers it, as MLflow does for strings.
    dtype: str | None
    types: frozenset[type]
    #: Integers must lie in [-bound, bound).
    bound: int


KINDS: dict[str, Kind] = {
    "double": Kind("float64", frozenset((float, int)), _EXACT),
    "float": Kind("float32", frozenset((float, int)), _EXACT),
    "long": Kind("int64", frozenset((int,)), _INT64),
    "integer": Kind("int32", frozenset((int,)), _INT32),
    "boolean": Kind("bool", frozenset((bool,)), 0),
    "string": Kind(None, frozenset((str,)), 0),
}

Row = tuple[Any, ...]


class Plain:
    """The plain form of one signature."""

    def __init__(self, columns: Sequence[tuple[str, str]]) -> None:
        """`columns`: name and type of each column of the signature; types are keys of KINDS."""
        self.names = [name for name, _ in columns]
        self.kinds = [KINDS[kind] for _, kind in columns]
        self._set = set(self.names)
        self._pick = _picker(self.names)

    def rows(self, document: dict[str, Any]) -> list[Row] | None:
        """The request's rows in the signature's order of columns, or None when it isn't plain.

        `document` is the parsed body, without the fields that never reach the model.
        """
        if document.get("params"):
            return None
        forms = document.keys() - {"params"}
        if forms == {"dataframe_split"}:
            rows = self._split(document["dataframe_split"])
        elif forms == {"dataframe_records"}:
            rows = self._records(document["dataframe_records"])
        else:
            return None
        if not rows or not self._typed(rows):
            return None
        return rows

    def _split(self, frame: Any) -> list[Row] | None:
        if type(frame) is not dict or frame.keys() != {"columns", "data"}:
            return None
        columns, data = frame["columns"], frame["data"]
        if type(columns) is not list or type(data) is not list:
            return None
        width = len(self.names)
        if set(map(type, data)) != {list} or set(map(len, data)) != {width}:
            return None
        if columns == self.names:
            return [tuple(row) for row in data]
        if set(map(type, columns)) != {str} or len(columns) != width or set(columns) != self._set:
            return None
        pick = _picker([columns.index(name) for name in self.names])
        return [pick(row) for row in data]

    def _records(self, data: Any) -> list[Row] | None:
        if type(data) is not list or set(map(type, data)) != {dict}:
            return None
        if set(map(len, data)) != {len(self.names)}:
            return None
        try:
            return [self._pick(row) for row in data]
        except KeyError:
            return None

    def _typed(self, rows: list[Row]) -> bool:
        for kind, column in zip(self.kinds, zip(*rows, strict=True), strict=True):
            types = set(map(type, column))
            if not types <= kind.types:
                return False
            # A NaN makes min or max a NaN at worst: then this is False, which is safe.
            if int in types and not (-kind.bound <= min(column) and max(column) < kind.bound):
                return False
        return True


def groups(sizes: Iterable[int]) -> list[range]:
    """Cut a run of plain requests, given by their numbers of rows, into merged predicts."""
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


def _picker(keys: Sequence[Any]) -> Callable[[Any], Row]:
    if len(keys) == 1:
        key = keys[0]
        return lambda row: (row[key],)
    return itemgetter(*keys)
