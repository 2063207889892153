"""Texts of CSV cells ↔ values."""

import base64
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from typing import Any

import orjson

from lakeport.client.encode_json import plain, to_json

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_BOOLEANS = {"true": True, "false": False}


def values_of(cells: Sequence[str], kind: Any) -> list[Any]:
    """Values of one column as the model takes them. `kind`: the signature's type; None: numbers and
    booleans that are written as in JSON become such ("007" is none), empty cells None.

    A cell that does not fit stays text: the model's server refuses its row, and says why.
    """
    if kind in ("double", "float"):
        return _each(cells, float)
    if kind in ("long", "integer"):
        return _each(cells, _whole)
    if kind == "boolean":
        return [_boolean(cell) for cell in cells]
    if kind == "string":
        return list(cells)
    if kind in ("datetime", "binary"):
        return [cell or None for cell in cells]
    if kind is None:
        return [_plain(cell) for cell in cells]
    return [_json(cell) for cell in cells]


def text_of(value: Any) -> str:
    """The cell for a value: "" for None, JSON for lists and dicts, base64 for bytes."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dict | list | tuple):
        return json_of(value).decode()
    return str(value)


def json_of(value: Any) -> bytes:
    """JSON, as requests have it; the text of what JSON has no form for."""
    try:
        return to_json(value)
    except TypeError:
        return orjson.dumps(value, default=_said, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _said(value: Any) -> Any:
    try:
        return plain(value)
    except TypeError:
        return str(value)


def _each(cells: Sequence[str], kind: Callable[[str], Any]) -> list[Any]:
    try:
        if "_" not in "".join(cells):  # Python would take 1_000
            return list(map(kind, cells))
    except (ValueError, OverflowError):
        pass
    return [_one(cell, kind) for cell in cells]


def _one(cell: str, kind: Callable[[str], Any]) -> Any:
    if not cell.strip():
        return None
    try:
        return cell if "_" in cell else kind(cell)
    except (ValueError, OverflowError):
        return cell


def _whole(cell: str) -> int:
    """5 of "5", and of "5.0", as pandas writes integers where some are missing."""
    try:
        return int(cell)
    except ValueError:
        number = float(cell)
        if not number.is_integer():
            raise
        return int(number)


def _boolean(cell: str) -> Any:
    return _BOOLEANS.get(cell.strip().lower(), cell or None)


def _plain(cell: str) -> Any:
    if match := _NUMBER.fullmatch(cell):
        return float(cell) if match[1] or match[2] else int(cell)
    return _boolean(cell)


def _json(cell: str) -> Any:
    try:
        return orjson.loads(cell) if cell else None
    except orjson.JSONDecodeError:
        return cell
