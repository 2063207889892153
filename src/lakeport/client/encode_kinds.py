"""What a value is, and what a model takes: the questions that decide a request's form."""

from collections.abc import Mapping, Sequence
from typing import Any

from lakeport.client.encode_frames import is_array, is_frame, is_series
from lakeport.client.signature import Column, Signature


def is_column(value: Any, type: Any) -> bool | None:
    """Whether a value of a dict is a column rather than one value; None: it may be both."""
    listlike = is_array(value) or is_series(value) or isinstance(value, (list, tuple, range))
    if not listlike or getattr(value, "ndim", 1) == 0:
        return False
    if not isinstance(type, Mapping) and type != "any":
        return True
    kind = type if isinstance(type, str) else type.get("type")
    first = next(iter(value), None)
    if kind == "any" or first is None:
        return None
    inner = isinstance(first, (list, tuple)) or is_array(first)
    if kind == "array":
        items = type.get("items")
        deep = isinstance(items, Mapping) and items.get("type") == "array"
        return None if deep and inner else inner
    return isinstance(first, Mapping) or first is None


def shape_of(item: Any) -> str:
    if isinstance(item, Mapping):
        return "record"
    if isinstance(item, (list, tuple)) or is_array(item) or is_series(item):
        return "row"
    return "other" if is_frame(item) else "value"


def has_named_tensors(signature: Signature) -> bool:
    inputs = signature.inputs
    return bool(inputs) and inputs[0].shape is not None and inputs[0].name is not None


def kind_of(column: Column) -> str:
    kind = column.type.get("type") if isinstance(column.type, Mapping) else column.type
    return str(kind)


def labels_of(inputs: Sequence[Column]) -> list[Any]:
    """The columns' names; 0, 1, 2 … where they have none or MLflow made them so."""
    numbers = list(range(len(inputs)))
    names = [column.name for column in inputs]
    return numbers if names[0] is None or names == list(map(str, numbers)) else names
