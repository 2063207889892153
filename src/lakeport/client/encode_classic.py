"""Inputs of classic models → MLflow's forms of a request."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from lakeport.client.encode_fit import changes, fitted, fitted_records
from lakeport.client.encode_frames import (
    Table,
    array_of,
    column_of,
    columns_of,
    is_array,
    is_frame,
    is_scalar,
    is_series,
    listed,
    name_of,
    table_of,
)
from lakeport.client.encode_kinds import (
    has_named_tensors,
    is_column,
    kind_of,
    labels_of,
    shape_of,
)
from lakeport.client.errors import InvalidInput, Problem
from lakeport.client.signature import Column, Signature

#: A request's form, and how many rows it has (None: not known).
Form: TypeAlias = tuple[dict[str, Any], int | None]


def classic(keyword: str, value: Any, signature: Signature | None) -> Form:
    """An input whose keyword says what it is: records, columns, rows or inputs.

    Raises InvalidInput.
    """
    if is_frame(value):
        return _frame(table_of(value), signature)
    match keyword:
        case "records":
            return _records([value] if isinstance(value, Mapping) else value, signature)
        case "columns":
            return _columns(value, signature)
        case "rows":
            return _rows(value, signature)
        case _:
            return _inputs(value)


def classic_data(data: Any, signature: Signature | None) -> Form:
    """An input that is known by its type. Raises InvalidInput."""
    if is_frame(data):
        return _frame(table_of(data), signature)
    if is_series(data):
        raise InvalidInput(
            "A Series may be one row or one column: give a DataFrame (`series.to_frame()` is one"
            " column, `series.to_frame().T` one row)."
        )
    if is_array(data):
        return _array(array_of(data), signature)
    if isinstance(data, Mapping):
        return _mapping(data, signature)
    if isinstance(data, (list, tuple)):
        return _list(data, signature)
    if isinstance(data, (str, bytes, int, float)) or is_scalar(data):
        return _flat([data], signature, whole=False)
    hint = " Call .collect() first." if hasattr(data, "collect") else ""
    raise InvalidInput(
        f"data: expected a DataFrame, an array, a list or a dict, got {type(data).__name__}.{hint}"
    )


# --- one form each ------------------------------------------------------------------------------


def _frame(table: Table, signature: Signature | None) -> Form:
    inputs = () if signature is None else signature.inputs
    if len(inputs) == 1 and inputs[0].name is None:
        only = inputs[0]
        if only.shape is not None and len(only.shape) == 2:
            # MLflow takes a frame for a tensor only when its shape names this very width.
            return {"inputs": [list(row) for row in table.data()]}, table.rows
        if len(table.names) == 1 and (only.shape is None or len(only.shape) == 1):
            return {"inputs": list(fitted(table.columns[0], only.type))}, table.rows
        if only.shape is None and kind_of(only) in {"object", "map"}:
            records = [dict(zip(table.names, row, strict=True)) for row in table.data()]
            return {"inputs": list(fitted(records, only.type))}, table.rows
    types = {column.name: column.type for column in inputs if column.shape is None}
    for place, name in enumerate(table.names):
        if changes(type := types.get(str(name))):
            table.columns[place] = list(fitted(table.columns[place], type))
    return _split(table.names, table.data())


def _split(names: Sequence[Any], data: list[Any]) -> Form:
    return {"dataframe_split": {"columns": list(names), "data": data}}, len(data)


def _records(given: Any, signature: Signature | None) -> Form:
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        raise InvalidInput(f"records: expected a list of dicts, got {type(given).__name__}.")
    if not given:
        raise InvalidInput("records: there is none.")
    for row, record in enumerate(given):
        if not isinstance(record, Mapping):
            raise InvalidInput(
                f"records[{row}]: expected a dict, got {type(record).__name__}.",
                problems=[Problem(None, row, "expected a dict")],
            )
    inputs = () if signature is None else signature.inputs
    if inputs and inputs[0].name is None and len(inputs) == 1 and inputs[0].shape is None:
        return {"inputs": list(fitted(given, inputs[0].type))}, len(given)
    if inputs and inputs[0].shape is not None and inputs[0].name is not None:
        return {"instances": list(given)}, len(given)
    if not all(isinstance(name, str) for name in given[0]):  # keys of JSON are text
        names = list(dict.fromkeys(name for record in given for name in record))
        columns = [[record.get(name) for record in given] for name in names]
        return _frame(Table([name_of(n) for n in names], columns, len(given)), signature)
    return {"dataframe_records": list(fitted_records(given, signature))}, len(given)


def _columns(given: Any, signature: Signature | None) -> Form:
    if not isinstance(given, Mapping):
        raise InvalidInput(f"columns: expected a dict of lists, got {type(given).__name__}.")
    if not given:
        raise InvalidInput("columns: there is none.")
    columns = [column_of(values, name) for name, values in given.items()]
    if signature is not None and has_named_tensors(signature):
        return {"inputs": dict(zip(map(str, given), columns, strict=True))}, len(columns[0])
    lengths = {str(name): len(column) for name, column in zip(given, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise InvalidInput(f"Columns must have one length; these have {counted}.")
    table = Table([name_of(name) for name in given], columns, len(columns[0]))
    return _frame(table, signature)


def _rows(given: Any, signature: Signature | None) -> Form:
    if is_array(given):
        given = array_of(given)
        if given.ndim < 2:
            raise InvalidInput(
                f"rows: expected rows of values, got an array of {given.ndim} dimension."
            )
        return _array(given, signature)
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        raise InvalidInput(f"rows: expected a list of lists, got {type(given).__name__}.")
    if not given:
        raise InvalidInput("rows: there is none.")
    rows = [_row(row, place) for place, row in enumerate(given)]
    inputs = () if signature is None else signature.inputs
    if len(inputs) == 1 and inputs[0].name is None and inputs[0].shape is None:
        flat = kind_of(inputs[0]) != "array" and all(len(row) == 1 for row in rows)
        return {
            "inputs": list(fitted([r[0] for r in rows] if flat else rows, inputs[0].type))
        }, len(rows)
    _same_width(rows)
    if inputs and inputs[0].shape is None:
        return _in_order(rows, inputs, len(rows[0]))
    if signature is not None and has_named_tensors(signature):
        return _tensors(rows, signature)
    return {"inputs": rows}, len(rows)


def _row(row: Any, place: int) -> list[Any]:
    if is_array(row) or is_series(row):
        return column_of(row, None)
    if isinstance(row, (list, tuple)):
        return list(row)
    hint = " Dicts go by records=." if isinstance(row, Mapping) else ""
    raise InvalidInput(
        f"rows[{place}]: expected a list of values, got {type(row).__name__}.{hint}",
        problems=[Problem(None, place, "expected a list of values")],
    )


def _same_width(rows: Sequence[Sequence[Any]]) -> None:
    width = len(rows[0])
    if set(map(len, rows)) != {width}:
        place = next(n for n, row in enumerate(rows) if len(row) != width)
        raise InvalidInput(
            f"rows[{place}] has a different number of values than rows[0]:"
            f" {len(rows[place])} instead of {width}.",
            problems=[Problem(None, place, f"expected {width} values")],
        )


def _in_order(rows: Sequence[Sequence[Any]], inputs: Sequence[Column], width: int) -> Form:
    """Rows of `width` values without names, for a model with columns: in the signature's order."""
    required = [place for place, column in enumerate(inputs) if column.required]
    least = required[-1] + 1 if required else 0
    if not least <= width <= len(inputs):
        names = ", ".join(column.name or str(n) for n, column in enumerate(inputs))
        raise InvalidInput(
            f"The number of values is {width} in each row; the model takes {len(inputs)} columns:"
            f" {names}.",
            problems=[Problem(None, None, f"expected {len(inputs)} values in each row")],
        )
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
    return _frame(Table(labels_of(inputs)[:width], columns, len(rows)), Signature(tuple(inputs)))


def _inputs(given: Any) -> Form:
    if isinstance(given, Mapping):
        named = {
            str(name): column_of(value, name) if is_array(value) or is_series(value) else value
            for name, value in given.items()
        }
        return {"inputs": named}, None
    if is_series(given):
        given = column_of(given, given.name)
    elif is_array(given):
        array = array_of(given)
        given = listed(array) if array.ndim else array.item()
    elif isinstance(given, tuple):
        given = list(given)
    return {"inputs": given}, len(given) if isinstance(given, list) else None


# --- by what the model takes --------------------------------------------------------------------


def _array(array: Any, signature: Signature | None) -> Form:
    fields = columns_of(array)
    if fields is not None:
        return _columns(fields, signature)
    if array.ndim == 0:
        raise InvalidInput("The array has no dimension: give it one, or use inputs=.")
    inputs = () if signature is None else signature.inputs
    if array.dtype.kind == "S" and inputs and inputs[0].shape is not None:
        array = array.astype(str)  # MLflow has tensors of bytes as text, not as base64
    if array.ndim == 1:
        return _flat(listed(array), signature, whole=True)
    values = listed(array)
    if not inputs or (len(inputs) == 1 and inputs[0].name is None):
        return {"inputs": list(fitted(values, inputs[0].type)) if inputs else values}, len(values)
    assert signature is not None
    if inputs[0].shape is not None:
        return _tensors(values, signature)
    if len(inputs) == 1 and kind_of(inputs[0]) == "array":
        return _in_order([[value] for value in values], inputs, 1)
    if array.ndim > 2:
        raise InvalidInput(
            f"The array has the shape {tuple(array.shape)}; the model takes columns:"
            f" {', '.join(signature.names)}."
        )
    return _in_order(values, inputs, array.shape[1])


def _tensors(values: list[Any], signature: Signature) -> Form:
    names = signature.names
    if len(names) > 1:
        raise InvalidInput(
            f"The model takes several tensors: give columns= with {', '.join(names)}."
        )
    return {"inputs": {names[0]: values}}, len(values)


def _flat(values: list[Any], signature: Signature | None, *, whole: bool) -> Form:
    """Values in one dimension: a column of a model that takes one, or one row of one that takes
    that many. `whole`: it was an array, which is what it is where the model is not known."""
    inputs = () if signature is None else signature.inputs
    if not inputs and whole:
        return {"inputs": values}, len(values)
    if len(inputs) == 1:
        only = inputs[0]
        if only.shape is not None:
            return _flat_tensor(values, only)
        if kind_of(only) == "array" and values and not isinstance(values[0], (list, tuple)):
            values = [values]
        if only.name is None:
            return {"inputs": list(fitted(values, only.type))}, len(values)
        return _in_order([[value] for value in values], inputs, 1)
    if inputs and inputs[0].shape is None and len(values) > 1:
        return _in_order([values], inputs, len(values))
    raise InvalidInput(
        "A flat list may be one row or several: give rows=[[…]], records=[{…}] or inputs=."
    )


def _flat_tensor(values: list[Any], tensor: Column) -> Form:
    shape = tensor.shape or ()
    if len(shape) == 2:
        if shape[1] == 1:
            values = [[value] for value in values]
        elif shape[1] == len(values):
            values = [values]
        else:
            width = "rows of any width" if shape[1] == -1 else f"rows of {shape[1]} values"
            raise InvalidInput(
                f"The model takes {width}; given was a flat list of {len(values)}: give rows=[[…]]."
            )
    return {"inputs": {tensor.name: values} if tensor.name else values}, len(values)


def _mapping(data: Mapping[Any, Any], signature: Signature | None) -> Form:
    """Columns, or one record. Raises InvalidInput where it may be either."""
    if not data:
        raise InvalidInput("data: the dict is empty.")
    if signature is not None and has_named_tensors(signature):
        return _columns(data, signature)
    types = {} if signature is None else {column.name: column.type for column in signature.inputs}
    said = {is_column(value, types.get(str(name))) for name, value in data.items()} - {None}
    if said == {True}:
        return _columns(data, signature)
    if said == {False}:
        return _records([data], signature)
    raise InvalidInput("The dict may be columns or one record: say columns={…} or records=[{…}].")


def _list(data: Sequence[Any], signature: Signature | None) -> Form:
    if not data:
        raise InvalidInput("data: the list is empty.")
    kinds = {shape_of(item) for item in data}
    if kinds == {"record"}:
        return _records(data, signature)
    if kinds == {"row"}:
        return _rows(data, signature)
    if kinds == {"value"}:
        return _flat(column_of(data, None), signature, whole=False)
    found = ", ".join(sorted({type(item).__name__ for item in data}))
    raise InvalidInput(
        f"data: expected a list of dicts, of lists or of values, got one of {found}."
    )
