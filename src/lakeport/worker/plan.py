"""What a signature makes of parsed JSON: typed arrays, where MLflow's own conversion is known.

A plan is compiled from the model's signature when it is loaded. It takes only what it converts to
the very values that MLflow would hand to the model; everything else takes MLflow's way, which also
words the refusals. Requests that a plan took may share one predict: their rows are joined.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from .json_arrays import EXACT, FLOATS, INTEGERS

Row = Sequence[Any]

_NONE: Final = type(None)
_INT32: Final = 2**31
#: The forms whose value is tensors rather than a frame.
_TENSOR_FORMS: Final = ("inputs", "instances")


class Asked(NamedTuple):
    """One request, taken by a plan."""

    #: Only requests of one key can be joined.
    key: Hashable
    rows: int
    #: As the plan's `join` wants it.
    values: Any


class Plan(Protocol):
    """The way from a parsed body to a model's input for one signature."""

    @property
    def exact_integers(self) -> bool:
        """Whether integers beyond 64 bits must not have been read as floats."""

    @property
    def numbers(self) -> str | None:
        """What lists of rows may be read as at once (`json_arrays.loads`); None: by nothing."""

    def take(self, form: str, value: Any) -> Asked | None:
        """`value` is what the body has under `form`; None: MLflow's way. Never raises."""

    def join(self, asked: Sequence[Asked]) -> Any:
        """The model's input for requests of one key, row by row in their order; None when one of
        them isn't what it seemed: then MLflow's way. Never raises."""


# --- columns ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """A column type: what JSON values are taken, and what array they become."""

    #: None: the frame infers it, as MLflow does for strings.
    dtype: str | None
    types: frozenset[type]


KINDS: Final[dict[str, Kind]] = {
    # a None is what pandas takes for missing: NaN
    "double": Kind("float64", frozenset((float, int, _NONE))),
    "float": Kind("float32", frozenset((float, int, _NONE))),
    "long": Kind("int64", frozenset((int,))),
    "integer": Kind("int32", frozenset((int,))),
    "boolean": Kind("bool", frozenset((bool,))),
    "string": Kind(None, frozenset((str,))),
}


class Columns:
    """A signature of columns, each of a type in KINDS.

    Taken are the dataframe forms, `instances` and `inputs`, with exactly the signature's columns in
    any order and every value of its column's JSON type. All of them become the same values, so that
    they can be joined. `join` gives an array (rows, columns) where all columns are of one numeric
    dtype, else a list with an array or a list for each column.

    Rows that were read as an array are joined with their like only.
    """

    exact_integers = False  # a column of integers takes no floats

    def __init__(self, columns: Sequence[tuple[str, str]], *, named: bool = True) -> None:
        """`columns`: name and type of each, the names "" when not `named`."""
        self.named = named
        self.names = [name for name, _ in columns]
        self.kinds = [KINDS[kind] for _, kind in columns]
        dtypes = {kind.dtype for kind in self.kinds}
        #: The one dtype of all columns.
        self.dtype = dtypes.pop() if len(dtypes) == 1 else None
        self.numbers = _NUMBERS.get(self.dtype or "")
        self._width = len(columns)
        self._set = set(self.names)
        self._pick = _picker(self.names)
        self._split_keys = _NAMED_SPLIT if named else _BARE_SPLIT
        # MLflow makes arrays of the values of these forms first, and of text that is another one.
        self._takes_tensors = all(kind.dtype for kind in self.kinds)

    def take(self, form: str, value: Any) -> Asked | None:
        rows: Any = None
        if form == "dataframe_split":
            rows = self._split(value)
        elif form == "dataframe_records":
            rows = self._records(value) if self.named else None
        elif self._takes_tensors and form in _TENSOR_FORMS:
            rows = self._tensors(form, value)
        if rows is None or not len(rows):
            return None
        return Asked(_AT_ONCE if type(rows) is np.ndarray else None, len(rows), rows)

    def join(self, asked: Sequence[Asked]) -> Any:
        if asked[0].key is _AT_ONCE:
            return _cast([one.values for one in asked], self.dtype)
        rows: Iterable[Row] = chain.from_iterable([one.values for one in asked])
        if self.dtype is not None:
            array = _typed(list(chain.from_iterable(rows)), self.kinds[0])
            # Column by column as in a frame: products of it are then the same to the last bit.
            return None if array is None else np.asfortranarray(array.reshape(-1, self._width))
        columns = []
        for kind, values in zip(self.kinds, zip(*rows, strict=True), strict=True):
            column = _typed(values, kind)
            if column is None:
                return None
            columns.append(column)
        return columns

    def _split(self, frame: Any) -> Any:
        """The rows with the signature's columns in its order, a list or an array; else None."""
        if type(frame) is not dict or frame.keys() != self._split_keys:
            return None
        data = frame["data"]
        if not self._even(data):
            return None
        if not self.named:
            return data
        columns = frame["columns"]
        if columns == self.names:
            return data
        if type(columns) is not list or set(map(type, columns)) != {str}:
            return None
        if len(columns) != self._width or set(columns) != self._set:
            return None
        order = [columns.index(name) for name in self.names]
        if type(data) is np.ndarray:
            return data[:, order]
        pick = _picker(order)
        return [pick(row) for row in data]

    def _records(self, data: Any) -> Sequence[Row] | None:
        if type(data) is not list or set(map(type, data)) != {dict}:
            return None
        if set(map(len, data)) != {self._width}:
            return None
        try:
            return [self._pick(row) for row in data]
        except KeyError:
            return None

    def _tensors(self, form: str, value: Any) -> Sequence[Row] | None:
        if not self.named:
            # MLflow gives all columns the first one's type.
            return value if self.dtype is not None and self._even(value) else None
        if type(value) is list:
            if value and type(value[0]) is dict:
                # As `inputs` they become numpy's scalars, of which pandas infers types anew.
                return self._records(value) if form == "instances" else None
            return [(one,) for one in value] if self._width == 1 else None
        if type(value) is not dict or value.keys() != self._set:
            return None
        columns = list(self._pick(value))
        if set(map(type, columns)) != {list} or len(set(map(len, columns))) != 1:
            return None
        return list(zip(*columns, strict=True))

    def _even(self, data: Any) -> bool:
        """Whether these are rows, at least one, as wide as the signature."""
        if type(data) is np.ndarray:
            return data.ndim == 2 and data.shape[1] == self._width
        if type(data) is not list or not data:
            return False
        if len(data) == 1:
            return type(data[0]) is list and len(data[0]) == self._width
        return set(map(type, data)) == {list} and set(map(len, data)) == {self._width}


#: The key of rows that were read as an array.
_AT_ONCE: Final = "at once"
#: By the one dtype of all columns.
_NUMBERS: Final = {
    "float64": FLOATS,
    "float32": FLOATS,
    "int64": INTEGERS,
    "int32": INTEGERS,
}
_NAMED_SPLIT: Final = frozenset(("columns", "data"))
_BARE_SPLIT: Final = frozenset(("data",))


def _typed(values: Sequence[Any], kind: Kind) -> Any:
    """The values as an array, or a list for text; None when they are not exactly of the kind."""
    types = set(map(type, values))
    if not types <= kind.types:
        return None
    if kind.dtype is None:
        return list(values)
    try:
        array = np.array(values, "int64" if kind.dtype == "int32" else kind.dtype)
    except OverflowError:
        return None
    if kind.dtype == "int32":
        if array.min() < -_INT32 or array.max() >= _INT32:
            return None
        return array.astype("int32")
    if int in types and array.dtype.kind == "f" and not _all_exact(values, array):
        return None
    return array


def _cast(arrays: list[Any], dtype: str | None) -> Any:
    """Arrays of rows as one of this dtype, column by column; None where a number is out of it."""
    array = _joined(arrays)
    if dtype == "int32" and (array.min() < -_INT32 or array.max() >= _INT32):
        return None
    return np.array(array, dtype, order="F")


def _all_exact(values: Sequence[Any], array: Any) -> bool:
    """Whether all integers among the values are below EXACT; `array`: the values as floats."""
    if np.fmax.reduce(np.abs(array)) < EXACT:
        return True
    return all(-EXACT <= value < EXACT for value in values if type(value) is int)


def _picker(keys: Sequence[Any]) -> Callable[[Any], Row]:
    if len(keys) == 1:
        key = keys[0]
        return lambda row: (row[key],)
    return itemgetter(*keys)


# --- tensors ------------------------------------------------------------------------------------


class Tensor:
    """A signature of one array without a name. `join` gives the array.

    Taken are `inputs` and `instances`, of which MLflow makes an array by the same call.
    """

    def __init__(self, dtype: Any, shape: Sequence[int]) -> None:
        """`shape`: the first dimension, rows, is -1; other dimensions may be."""
        self.dtype = np.dtype(dtype)
        self.shape = tuple(shape)
        self.exact_integers = self.dtype.kind != "f"
        # For smaller floats an array's numbers could be too large, which numpy would warn of.
        self.numbers = FLOATS if self.dtype.name in {"float32", "float64"} else None

    def take(self, form: str, value: Any) -> Asked | None:
        if form not in _TENSOR_FORMS or type(value) not in {list, np.ndarray}:
            return None
        array = self.array(value)
        return None if array is None else Asked(array.shape[1:], len(array), array)

    def join(self, asked: Sequence[Asked]) -> Any:
        return _joined([one.values for one in asked])

    def array(self, value: Any) -> Any:
        """None where there are no rows, or the shape is another one."""
        try:
            array = np.array(value, dtype=self.dtype)
        except (ValueError, TypeError, OverflowError):
            return None
        if array.ndim != len(self.shape) or not len(array):
            return None
        if any(has != must for has, must in zip(array.shape, self.shape, strict=True) if must >= 0):
            return None
        return array


class Tensors:
    """A signature of arrays with names. `join` gives a dict of them.

    Taken is `inputs` with exactly those names and as many rows in each.
    """

    numbers: str | None = None

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors
        self.exact_integers = any(tensor.exact_integers for tensor in tensors.values())

    def take(self, form: str, value: Any) -> Asked | None:
        if form != "inputs" or type(value) is not dict or value.keys() != self._tensors.keys():
            return None
        arrays = {}
        for name, tensor in self._tensors.items():
            array = tensor.array(value[name]) if type(value[name]) is list else None
            if array is None:
                return None
            arrays[name] = array
        rows = {len(array) for array in arrays.values()}
        key = tuple(array.shape[1:] for array in arrays.values())
        return Asked(key, rows.pop(), arrays) if len(rows) == 1 else None

    def join(self, asked: Sequence[Asked]) -> Any:
        return {name: _joined([one.values[name] for one in asked]) for name in self._tensors}


def _joined(arrays: list[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


# --- no signature -------------------------------------------------------------------------------


class Floats:
    """No signature, and a model that takes an array of floats: of these pandas and numpy infer
    nothing else. `join` gives the array (rows, columns)."""

    exact_integers = False
    numbers: str | None = None  # whether a number was written as an integer counts

    def __init__(self, width: int, names: Sequence[str] | None) -> None:
        """`names`: those that the model was fitted with, which a frame must have."""
        self._columns = Columns([("", "double")] * width, named=False)
        self._names = None if names is None else list(names)

    def take(self, form: str, value: Any) -> Asked | None:
        if form == "dataframe_split":
            if type(value) is not dict or value.keys() != _NAMED_SPLIT:
                return None
            if self._names is None or value["columns"] != self._names:
                return None
            asked = self._columns.take(form, {"data": value["data"]})
        else:
            asked = self._columns.take(form, value)
        return None if asked is None else asked._replace(key=form == "dataframe_split")

    def join(self, asked: Sequence[Asked]) -> Any:
        rows = chain.from_iterable([one.values for one in asked])
        if set(map(type, chain.from_iterable(rows))) != {float}:
            return None
        array = self._columns.join(asked)
        framed = asked[0].key is True
        return array if framed else np.ascontiguousarray(array)


# --- making one ---------------------------------------------------------------------------------


def plan_of(schema: Any) -> Columns | Tensor | Tensors | None:
    """The plan of an `mlflow.types.Schema`; None where MLflow's way is the only one."""
    if schema is None or not schema.inputs:
        return None
    if schema.is_tensor_spec():
        return _tensors_of(schema)
    named = schema.has_input_names()
    columns = [(column.name or "", getattr(column.type, "name", "")) for column in schema.inputs]
    if not all(kind in KINDS for _, kind in columns):
        return None
    if named and len({name for name, _ in columns}) != len(columns):
        return None
    return Columns(columns, named=named)


def _tensors_of(schema: Any) -> Tensor | Tensors | None:
    specs = schema.inputs
    # Sure of are numbers only, with rows; a tensor's other dimensions may be free.
    if any(
        np.dtype(spec.type).kind not in "fiub" or tuple(spec.shape)[:1] != (-1,) for spec in specs
    ):
        return None
    if not schema.has_input_names():
        return Tensor(specs[0].type, specs[0].shape) if len(specs) == 1 else None
    return Tensors({spec.name: Tensor(spec.type, spec.shape) for spec in specs})
