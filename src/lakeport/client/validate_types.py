"""Which values MLflow's enforcement refuses for a type, and in what words to say so.

Only what it surely refuses counts: MLflow reads "1.5" for a double and 1.5 for a long, and so may
every caller. What cannot be told here passes, and is for the server to judge.
"""

import binascii
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

#: Types of values that no column of a type can refuse: most columns hold nothing else.
_NUMBERS: frozenset[Any] = frozenset((int, float, bool, type(None), Decimal))
_WHOLE: frozenset[Any] = frozenset((int, bool))
_BYTES: frozenset[Any] = frozenset((bytes,))
_NAIVE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?")
_ZONED = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)")
#: Texts without a digit that pandas takes for a time, or for none.
_WORDS = frozenset(("", "now", "today", "nat", "nan", "none", "null", "na", "n/a", "<na>", "#na"))


@dataclass(frozen=True, slots=True)
class Wrong:
    """The first value of a column that is refused."""

    row: int
    message: str
    #: Rows that are refused, this one included.
    count: int


def wrong_in(values: Sequence[Any], type: Any, *, required: bool) -> Wrong | None:
    """What is wrong with the values of a column of a frame, or None."""
    if isinstance(type, Mapping):
        return _first(values, lambda value: wrong_nested(value, type, required=required))
    fine, judge = _COLUMNS.get(type, (None, None))
    if judge is None or (fine is not None and fine.issuperset(map(_type, values))):
        return None
    return _first(values, judge)


_type = type


def _first(values: Sequence[Any], judge: Callable[[Any], str | None]) -> Wrong | None:
    found = [(row, said) for row, value in enumerate(values) if (said := judge(value))]
    return Wrong(*found[0], len(found)) if found else None


# --- columns of plain types, which MLflow casts -------------------------------------------------


def _not_number(value: Any) -> str | None:
    value = _plain(value)
    if isinstance(value, str):
        return None if _is_number(value) else f"expected a number, got {shown(value)}"
    return f"expected a number, got {shown(value)}" if _is_nested(value) else None


def _not_whole(value: Any) -> str | None:
    value = _plain(value)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return f"expected a whole number, got {shown(value)}: this type has no missing values"
    if isinstance(value, str):  # "1.5" fares differently from release to release
        return None if _is_number(value) else f"expected a whole number, got {shown(value)}"
    return f"expected a whole number, got {shown(value)}" if _is_nested(value) else None


def _no_time(value: Any) -> str | None:
    zone = "a time without a zone, as MLflow's datetime is: in UTC, without an offset"
    if isinstance(value, datetime):
        return f"expected {zone}, got {value.isoformat()}" if value.tzinfo is not None else None
    value = _plain(value)
    if isinstance(value, str):
        if _NAIVE.fullmatch(value):
            return None
        if _ZONED.fullmatch(value):
            return f"expected {zone}, got {shown(value)}"
        if not any(map(str.isdigit, value)) and value.strip().lower() not in _WORDS:
            return f"expected a time in ISO 8601, got {shown(value)}"
        return None
    if isinstance(value, bool) or _is_nested(value):
        return f"expected a time in ISO 8601, got {shown(value)}"
    return None


def _not_binary(value: Any) -> str | None:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return None
    value = _plain(value)
    if not isinstance(value, str):
        known = value is None or isinstance(value, (bool, int, float)) or _is_nested(value)
        return f"expected bytes or base64 text, got {shown(value)}" if known else None
    try:
        binascii.a2b_base64(value.encode("utf-8", "replace"))
    except binascii.Error:
        return f"expected base64 text, got {shown(value)}"
    return None


#: By type: types of values that are surely fine, and the judge of others. MLflow takes anything for
#: a string and for a boolean.
_COLUMNS: Mapping[Any, tuple[frozenset[Any] | None, Callable[[Any], str | None]]] = {
    "double": (_NUMBERS, _not_number),
    "float": (_NUMBERS, _not_number),
    "long": (_WHOLE, _not_whole),
    "integer": (_WHOLE, _not_whole),
    "datetime": (None, _no_time),
    "binary": (_BYTES, _not_binary),
}

# --- inside arrays, objects and maps, where MLflow does not cast --------------------------------


def wrong_nested(value: Any, type: Any, *, required: bool, place: str = "") -> str | None:
    """What is wrong with a value of an array, object or map type, or None."""
    value = _plain(value)
    kind = type.get("type") if isinstance(type, Mapping) else type
    where = f"{place}: " if place else ""
    if (value is None or value == {}) and (not required or _any_inside(type)):
        return None
    match kind:
        case "array":
            if not isinstance(value, (list, tuple)):
                return f"{where}expected a list, got {shown(value)}"
            return _wrong_array(value, type.get("items"), place)
        case "object":
            if not isinstance(value, Mapping):
                return f"{where}expected an object, got {shown(value)}"
            return _wrong_object(value, type.get("properties") or {}, place)
        case "map":
            if not isinstance(value, Mapping):
                return f"{where}expected an object, got {shown(value)}"
            inside = type.get("values")
            said = (
                wrong_nested(item, inside, required=required, place=f"{place}.{key}".lstrip("."))
                for key, item in value.items()
            )
            return next(filter(None, said), None)
    return _wrong_scalar(value, kind, where)


def _wrong_array(values: Sequence[Any], items: Any, place: str) -> str | None:
    kind = items.get("type") if isinstance(items, Mapping) else items
    if kind in {"array", "object", "map"}:
        said = (
            wrong_nested(item, items, required=True, place=f"{place}[{n}]")
            for n, item in enumerate(values)
        )
        # Optional columns let their inner arrays be missing, too.
        return next((each for each in said if each and "got nothing" not in each), None)
    if kind == "string":  # anything becomes a text, but for arrays of nothing but numbers
        numbers = all(type(item) in (int, float) and abs(item) < 2**63 for item in values)
        found = f"{place}: " if place else ""
        return f"{found}expected texts, got {shown(values[0])}" if values and numbers else None
    for n, item in enumerate(map(_plain, values)):
        if item is None:
            continue
        if wrong := _wrong_scalar(item, kind, f"{place}[{n}]: "):
            return wrong
    return None


def _wrong_object(value: Mapping[str, Any], fields: Mapping[str, Any], place: str) -> str | None:
    where = f"{place}: " if place else ""
    missing = [
        name for name, field in fields.items() if field.get("required", True) and name not in value
    ]
    if missing:
        return f"{where}the object has no {', '.join(map(shown, missing))}"
    unknown = [name for name in value if name not in fields]
    if unknown:
        expected = ", ".join(map(str, fields))
        return f"{where}the object has {shown(unknown[0])}, which is none of {expected}"
    for name, item in value.items():
        field = fields[name]
        said = wrong_nested(
            item, field, required=field.get("required", True), place=f"{place}.{name}".lstrip(".")
        )
        if said:
            return said
    return None


def _wrong_scalar(value: Any, kind: Any, where: str) -> str | None:
    wanted, wrong = _SCALARS.get(kind, ("", ()))
    if kind in {"double", "float"} and isinstance(value, str) and (_is_number(value) or not value):
        return None  # texts among numbers are converted, by some releases of pandas all of them
    # An empty list among numbers passes, as a missing value does.
    if wrong and (isinstance(value, wrong) or (_is_nested(value) and value)):
        return f"{where}expected {wanted}, got {shown(value)}"
    return None


_SCALARS: Mapping[Any, tuple[str, tuple[type, ...]]] = {
    "double": ("a number", (str,)),
    "float": ("a number", (str,)),
    "long": ("a whole number", (str, bool, float)),
    "integer": ("a whole number", (str, bool, float)),
    "string": ("a text", (bool, int, float)),
}


def _any_inside(type: Any) -> bool:
    if not isinstance(type, Mapping):
        return str(type) == "any"
    inside = type.get("items") or type.get("values") or type
    return isinstance(inside, Mapping) and str(inside.get("type")) == "any"


# --- values -------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """The value as JSON will have it, for those that are no JSON yet."""
    if isinstance(value, (str, int, float, list, dict, type(None))):
        return None if isinstance(value, float) and math.isnan(value) else value
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat() if value == value else None  # noqa: PLR0124 -- NaT
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if type(value).__name__ in {"NAType", "NaTType"} else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_nested(value: Any) -> bool:
    return isinstance(value, (list, tuple, Mapping))


def shown(value: Any) -> str:
    """A value in a message: short, and without what is inside of large ones."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
