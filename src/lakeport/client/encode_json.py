"""What people have → JSON bytes that say the same."""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import orjson

from lakeport.client.errors import InvalidInput


class Unwritable(InvalidInput, TypeError):
    """An InvalidInput, and the TypeError that a writer of JSON raises for what JSON cannot say."""


_INF = math.inf
#: Types without a value inside that could be infinite.
_FINITE = frozenset((str, int, bool, type(None)))
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME
_WHOLE = range(-(2**63), 2**64)  # integers that orjson writes


def to_json(document: Any) -> bytes:
    """UTF-8 JSON of `document`.

    NaN, NaT and NA become null; infinity the number 1e999, which every reader of doubles takes for
    infinity; bytes base64, as MLflow has binary columns; times ISO 8601, always with a fraction,
    since pandas wants all times of a column in one form; Decimals numbers; numpy's scalars and
    arrays their Python values. Raises InvalidInput (a TypeError, too) that names the place of
    anything else, such as a set.
    """
    try:
        written = orjson.dumps(document, default=plain, option=_OPTIONS)
        if not (b"null" in written and _has_infinity(document)):
            return written
    except TypeError:  # what JSON cannot say, or what orjson alone does not: long integers, keys
        pass
    try:
        return orjson.dumps(_spelt(document, ""), option=_OPTIONS)
    except RecursionError:
        raise Unwritable("The input is nested too deeply to be sent.") from None


def plain(value: Any) -> Any:
    """A value that JSON has no word for, as it is sent. Raises TypeError where there is no way."""
    kind = type(value).__name__
    if kind in {"NAType", "NaTType"}:
        return None
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (Decimal, float)):
        return _number(float(value))
    if isinstance(value, Mapping):
        return dict(value)
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", None) in {"m", "c", "V"}:
        raise TypeError(f"a value of type {dtype} has no form in JSON")
    if kind == "datetime64":
        return None if str(value) == "NaT" else str(value.astype(precise(dtype)))
    if dtype is not None and hasattr(value, "tolist"):  # arrays, scalars, Series
        if getattr(dtype, "kind", None) == "M":
            return [None if text == "NaT" else text for text in _texts(value)]
        listed = value.tolist()
        if getattr(dtype, "char", None) == "g":  # long doubles, whose list is of long doubles
            listed = value.astype(float).tolist()
        return _spelt(listed, "") if _has_infinity(listed) else listed
    raise TypeError(f"a value of type {kind} has no form in JSON")


def moment(value: datetime) -> str:
    """ISO 8601 with its fraction, in nanoseconds where a pandas Timestamp has some."""
    if getattr(value, "nanosecond", 0):
        return value.isoformat(timespec="nanoseconds")
    return value.isoformat(timespec="microseconds")


def precise(dtype: Any) -> str:
    """A numpy datetime type that holds all that `dtype` does, written with a fraction."""
    return "datetime64[ns]" if "[ns]" in str(dtype) else "datetime64[us]"


def _texts(array: Any) -> Any:
    return array.astype(precise(array.dtype)).astype(str).tolist()


def _number(value: float) -> Any:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else orjson.Fragment(b"1e999" if value > 0 else b"-1e999")


def _has_infinity(value: Any) -> bool:
    if isinstance(value, float):
        return math.isinf(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        return False
    others = set(map(type, value)) - _FINITE
    if others <= {float}:
        return bool(others) and (_INF in value or -_INF in value)
    return any(_has_infinity(item) for item in value if type(item) not in _FINITE)


def _spelt(value: Any, place: str) -> Any:
    """`value` in the words of orjson, step by step. Raises Unwritable."""
    if value is None or isinstance(value, (bool, orjson.Fragment)):
        return value
    if isinstance(value, Enum):
        return _spelt(value.value, place)
    if isinstance(value, str):
        return _text(value, place)
    if isinstance(value, int):
        return value if value in _WHOLE else orjson.Fragment(int.__repr__(value).encode())
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return {_key(key, place): _spelt(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelt(item, f"{place}[{n}]") for n, item in enumerate(value)]
    if isinstance(value, UUID):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {name: _spelt(item, f"{place}.{name}") for name, item in pairs}
    try:
        said = plain(value)
    except TypeError as error:
        raise Unwritable(f"{_where(place)}: {error}.{_hint(value)}") from None
    return _spelt(said, place)


def _text(value: str, place: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unwritable(f"{_where(place)}: text with a lone surrogate cannot be sent.") from None
    return str(value)


def _key(key: Any, place: str) -> str:
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, str):
        return _text(key, place)
    if hasattr(key, "dtype") and hasattr(key, "item"):
        key = key.item()
    if key is None or isinstance(key, (bool, int, float)):
        return json.dumps(key)
    if isinstance(key, date):
        return key.isoformat()
    raise Unwritable(f"{_where(place)}: a key of type {type(key).__name__} has no form in JSON.")


def _where(place: str) -> str:
    return place.lstrip(".") or "The input"


def _hint(value: Any) -> str:
    if isinstance(value, (set, frozenset)):
        return " A set has no order: send a list."
    return ""
