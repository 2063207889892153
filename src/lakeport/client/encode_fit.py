"""Values as a model's types want them, where the same value can be said in more than one way."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from lakeport.client.signature import Signature

#: Types of MLflow whose values may have to be said another way.
_NESTED = ("array", "object", "map")


def changes(type: Any) -> bool:
    """Whether `fitted` may change a value of this type at all."""
    return type == "datetime" or isinstance(type, Mapping)


def fitted(values: Sequence[Any], type: Any) -> Sequence[Any]:
    """One column's values.

    A datetime of MLflow has no zone, and one with a zone is refused: times with a zone become UTC.
    Whole numbers in an array of doubles become floats, since MLflow does not convert within arrays.
    """
    if type == "datetime":
        return [_moment(value) for value in values]
    if isinstance(type, Mapping) and type.get("type") in _NESTED:
        return [_nested(value, type) for value in values]
    return values


def fitted_records(
    records: Sequence[Mapping[str, Any]], signature: Signature | None
) -> Sequence[Mapping[str, Any]]:
    """Records whose values are fitted; the same ones where nothing is to be done."""
    if signature is None:
        return records
    types = {
        column.name: column.type
        for column in signature.inputs
        if column.name is not None and column.shape is None and changes(column.type)
    }
    found = list(records)
    for name, type in types.items():
        given = [record.get(name) for record in records]
        for row, (before, after) in enumerate(zip(given, fitted(given, type), strict=True)):
            if after is not before:
                found[row] = {**found[row], name: after}
    return found


def _moment(value: Any) -> Any:
    if isinstance(value, str):
        # Written in UTC: the same without the zone. Other zones are for the server to refuse.
        for mark in ("Z", "+00:00"):
            if value.endswith(mark) and "T" in value:
                return value.removesuffix(mark)
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo is not None else value
    if type(value) is date:  # beside datetimes: pandas wants one form in a column
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 -- it has no zone
    return value


def _nested(value: Any, type: Any) -> Any:
    if isinstance(type, str):
        if type == "double" and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        return _moment(value) if type == "datetime" else value
    kind = type.get("type") if isinstance(type, Mapping) else None
    if kind == "array" and hasattr(value, "tolist"):
        value = value.tolist()
    if kind == "array" and isinstance(value, (list, tuple)):
        return [_nested(item, type.get("items")) for item in value]
    if kind == "map" and isinstance(value, Mapping):
        return {key: _nested(item, type.get("values")) for key, item in value.items()}
    if kind == "object" and isinstance(value, Mapping):
        properties = type.get("properties") or {}
        return {key: _nested(item, properties.get(key)) for key, item in value.items()}
    if kind not in _NESTED and isinstance(kind, str):
        return _nested(value, kind)
    return value
