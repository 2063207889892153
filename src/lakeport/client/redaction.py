"""Records of predictions without the values that nobody should read in them."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from lakeport.client.readings import loads

#: What stands in place of a value.
REDACTED = "[redacted]"


class Redaction:
    """Replaces the values of fields and columns by their names, whatever their case."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(name.lower() for name in names)

    def of(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """A record without them: in `request`, `response`, and in `error`, where a message may
        quote what was sent."""
        hidden: set[str] = set()
        bodies = {part: self.value(record[part], hidden) for part in ("request", "response")}
        return {**record, **bodies, "error": _without(record["error"], hidden)}

    def value(self, value: Any, hidden: set[str] | None = None) -> Any:
        """Plain values without them. `hidden` gets the texts of what is replaced.

        Columns of a `dataframe_split` are found by their names in `columns`; fields in a text that
        is JSON, as the arguments of a tool call are, count too.
        """
        hidden = set() if hidden is None else hidden
        if isinstance(value, Mapping):
            return self._fields(value, hidden)
        if isinstance(value, list | tuple):
            return [self.value(item, hidden) for item in value]
        return self._text(value, hidden) if isinstance(value, str) else value

    def _fields(self, value: Mapping[Any, Any], hidden: set[str]) -> dict[Any, Any]:
        columns, rows = value.get("columns"), value.get("data")
        if isinstance(columns, list) and isinstance(rows, list):
            places = {n for n, name in enumerate(columns) if str(name).lower() in self.names}
            if places:
                value = {**value, "data": [_row(row, places, hidden) for row in rows]}
        return {
            key: _hide(item, hidden) if str(key).lower() in self.names else self.value(item, hidden)
            for key, item in value.items()
        }

    def _text(self, text: str, hidden: set[str]) -> str:
        if text.lstrip()[:1] not in ("{", "["):
            return text
        try:
            inside = loads(text)
        except ValueError:
            return text
        without = self.value(inside, hidden)
        return text if without == inside else json.dumps(without, ensure_ascii=False)


def _row(row: Any, places: set[int], hidden: set[str]) -> Any:
    if not isinstance(row, list):
        return row
    return [_hide(item, hidden) if n in places else item for n, item in enumerate(row)]


def _hide(value: Any, hidden: set[str]) -> str:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _hide(item, hidden)
    elif value is not None and not isinstance(value, bool) and value != REDACTED:
        hidden |= {str(value), repr(value).strip("'\"")}  # as a message may have it
    return REDACTED


def _without(message: str | None, hidden: set[str]) -> str | None:
    """`message` without the words in `hidden`, the longest first."""
    for text in sorted(hidden, key=len, reverse=True) if message else ():
        if message and text and text in message:
            message = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", REDACTED, message)
    return message
