"""DataFrames, tables and arrays → columns of Python values, without importing what they are from.

pandas, polars, pyarrow, numpy and their likes are known by the module of their type and asked for
what they offer. Columns are converted whole, which is what makes 100,000 rows quick.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from lakeport.client.encode_json import precise
from lakeport.client.errors import InvalidInput, Problem

#: Types whose values JSON has as they are: nothing to do for a column of them.
_READY = frozenset((str, int, float, bool, type(None)))
#: Types whose values it cannot say, Python's and pandas' own.
_FORMLESS = (set, frozenset, timedelta, time, complex)
_FORMLESS_PANDAS = frozenset(("Interval", "Period"))


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of one length, in order; names are strings or whole numbers and may repeat."""

    names: list[Any]
    columns: list[list[Any]]
    rows: int

    def data(self) -> list[Any]:
        """The rows."""
        return (
            list(zip(*self.columns, strict=True))
            if self.columns
            else [() for _ in range(self.rows)]
        )


def library(value: Any) -> str:
    """The package that the value's type is from: "pandas", "numpy" …"""
    return type(value).__module__.partition(".")[0]


def is_frame(value: Any) -> bool:
    """A pandas or polars DataFrame or a pyarrow Table."""
    kind = type(value)
    if any(base.__name__ == "DataFrame" and _of(base) == "pandas" for base in kind.__mro__):
        return True  # geopandas' and others' are pandas' too
    return (library(value), kind.__name__) in {
        ("polars", "DataFrame"),
        ("pyarrow", "Table"),
        ("pyarrow", "RecordBatch"),
    }


def is_array(value: Any) -> bool:
    """A numpy array, or what turns itself into one: a sparse matrix, a tensor. No scalar."""
    if library(value) in {"pandas", "polars", "pyarrow"} or isinstance(value, (str, bytes)):
        return False
    if hasattr(value, "toarray"):
        return True
    return hasattr(value, "__array__") and hasattr(value, "shape") and not is_scalar(value)


def is_series(value: Any) -> bool:
    return type(value).__name__ == "Series" and library(value) in {"pandas", "polars"}


def table_of(frame: Any) -> Table:
    """A frame's columns; the index is dropped. Raises InvalidInput that names the column."""
    if library(frame) == "pyarrow":
        names = list(frame.column_names)
        columns = [_arrow(frame.column(n), name) for n, name in enumerate(names)]
        return Table(names, columns, frame.num_rows)
    if library(frame) == "polars":
        names = list(frame.columns)
        columns = [_polars(frame.get_column(name), name) for name in names]
        return Table(names, columns, frame.height)
    if getattr(frame.columns, "nlevels", 1) > 1:
        raise InvalidInput("The DataFrame's columns have several levels; a model's have one name.")
    names = [name_of(label) for label in frame.columns]
    kinds = set(frame.dtypes.tolist())
    if len(kinds) == 1 and _is_number(kinds.pop()):
        return Table(names, frame.to_numpy().T.tolist(), len(frame))
    columns = [
        _pandas(series, name) for (_, series), name in zip(frame.items(), names, strict=True)
    ]
    return Table(names, columns, len(frame))


def column_of(values: Any, name: Any) -> list[Any]:
    """One column's values, given as any sequence. Raises InvalidInput."""
    if is_series(values):
        return _pandas(values, name) if library(values) == "pandas" else _polars(values, name)
    if is_array(values):
        return listed(array_of(values), name)
    if type(values) is range or isinstance(values, (list, tuple)):
        return _ready(list(values), name)
    if hasattr(values, "tolist"):  # a pandas Index
        return _ready(values.tolist(), name)
    if hasattr(values, "to_pylist"):
        return _arrow(values, name)
    raise InvalidInput(
        f"Column {name}: expected a list of values, got {type(values).__name__}.",
        problems=[Problem(str(name), None, "expected a list of values")],
    )


def array_of(value: Any) -> Any:
    """A numpy array of what has or is one. Raises InvalidInput."""
    try:
        if hasattr(value, "toarray"):  # scipy's sparse matrices
            return value.toarray()
        return value if library(value) == "numpy" else value.__array__()
    except (RuntimeError, TypeError, ValueError) as error:  # a tensor with gradients, on a GPU …
        raise InvalidInput(f"{type(value).__name__} cannot be made an array: {error}") from error


def listed(array: Any, name: Any = None) -> list[Any]:
    """A numpy array of one dimension or more as lists. Raises InvalidInput."""
    kind = array.dtype.kind
    if kind in "mcV":
        raise _no_form(name, str(array.dtype), kind == "m")
    if kind == "M":
        texts = array.astype(precise(array.dtype)).astype(str).tolist()
        found: list[Any] = _without_nat(texts)
        return found
    if array.dtype.char == "g":  # JSON's numbers are doubles, and numpy lists these as they are
        array = array.astype(float)
    values: list[Any] = array.tolist()
    return _ready(values, name) if kind == "O" else values


def name_of(label: Any) -> Any:
    """A column's name as JSON has it: whole numbers stay numbers, since MLflow's signature of a
    frame without names has them so. Raises InvalidInput."""
    if isinstance(label, str):
        return str(label)
    if isinstance(label, bool) or label is None or isinstance(label, (tuple, list)):
        raise InvalidInput(f"The column name {label!r} is no text: rename the column.")
    if isinstance(label, int):
        return label
    if hasattr(label, "item"):  # numpy's
        label = label.item()
    return label if isinstance(label, int) else str(label)


def _pandas(series: Any, name: Any) -> list[Any]:
    dtype = series.dtype
    if getattr(dtype, "tz", None) is not None:  # to UTC: a column has one form, and one zone
        texts = series.dt.tz_convert(None).to_numpy()
        return [text and f"{text}+00:00" for text in listed(texts, name)]
    if library(dtype) == "numpy":
        return listed(series.to_numpy(), name)
    if type(dtype).__name__ == "CategoricalDtype":
        return _categories(series, name)
    return _ready(series.to_numpy(dtype=object, na_value=None).tolist(), name)


def _is_number(dtype: Any) -> bool:
    return library(dtype) == "numpy" and dtype.kind in "fiub" and dtype.char != "g"


def _categories(series: Any, name: Any) -> list[Any]:
    """Each category converted once."""
    values = column_of(series.cat.categories.to_series(), name)
    return [None if code < 0 else values[code] for code in series.cat.codes.tolist()]


def _polars(series: Any, name: Any) -> list[Any]:
    kind = type(series.dtype).__name__
    if kind in {"Duration", "Time"} and len(series):
        raise _no_form(name, kind, kind == "Duration")
    if kind == "Datetime":
        zoned = series.dtype.time_zone is not None
        if zoned:
            series = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        digits = 9 if series.dtype.time_unit == "ns" else 6
        texts = series.dt.to_string(f"%Y-%m-%dT%H:%M:%S%.{digits}f").to_list()
        return [text and f"{text}+00:00" for text in texts] if zoned else list(texts)
    return _ready(series.to_list(), name)


def _arrow(column: Any, name: Any) -> list[Any]:
    if not str(column.type).startswith("timestamp"):
        return _ready(column.to_pylist(), name)
    # By numpy's way, since Python's datetimes end at microseconds.
    options = {} if hasattr(column, "chunks") else {"zero_copy_only": False}
    texts = listed(column.to_numpy(**options), name)
    zoned = getattr(column.type, "tz", None) is not None
    return [text and f"{text}+00:00" for text in texts] if zoned else texts


def _ready(values: list[Any], name: Any) -> list[Any]:
    """The values as they are; the writer of JSON knows the rest. Refuses what it would refuse."""
    kinds = set(map(type, values)) - _READY
    if not kinds:
        return values
    for kind in kinds:
        if issubclass(kind, _FORMLESS) or kind.__name__ in _FORMLESS_PANDAS:
            row = next(n for n, value in enumerate(values) if type(value) is kind)
            raise _no_form(name, kind.__name__, issubclass(kind, timedelta), row)
    if any(issubclass(kind, datetime) for kind in kinds) and date in kinds:
        values = [_midnight(value) for value in values]  # pandas wants one form in a column
    return values


def _midnight(value: Any) -> Any:
    return datetime(value.year, value.month, value.day) if type(value) is date else value  # noqa: DTZ001


def _without_nat(texts: Any) -> Any:
    return [
        _without_nat(text) if isinstance(text, list) else None if text == "NaT" else text
        for text in texts
    ]


def _no_form(name: Any, kind: str, duration: bool, row: int | None = None) -> InvalidInput:
    where = "The array" if name is None else f"Column {name}"
    place = "" if row is None else f", row {row}"
    hint = " Send seconds (`.dt.total_seconds()`)." if duration else ""
    message = f"{where}{place}: values of type {kind} have no form on the wire.{hint}"
    problem = Problem(None if name is None else str(name), row, f"{kind} has no form on the wire")
    return InvalidInput(message, problems=[problem])


def _of(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def is_scalar(value: Any) -> bool:
    """numpy's numbers look like arrays of no dimension; JSON has them as values."""
    return (
        library(value) == "numpy" and hasattr(value, "dtype") and not hasattr(value, "__setitem__")
    )


def columns_of(array: Any) -> Mapping[str, Any] | None:
    """Columns of a structured array; None of others."""
    names = array.dtype.names
    return None if names is None else {name: array[name] for name in names}
