"""A request against the model's signature, before it is sent.

Refused is only what MLflow's own enforcement would refuse, so that no request fails here that would
have been answered; it does not say all that the server would.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import chain, islice
from typing import Any

from lakeport.client.encode import Encoded
from lakeport.client.errors import Problem
from lakeport.client.signature import Column, Param, Signature
from lakeport.client.validate_types import shown, wrong_in, wrong_nested

#: Problems that are reported.
LIMIT = 20
_FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")


def check(encoded: Encoded, signature: Signature) -> list[Problem]:
    """What is wrong with the request, twenty problems at most; [] when nothing is known to be."""
    document = encoded.document
    forms = [form for form in _FORMS if form in document]
    if encoded.operation != "scoring" or len(forms) != 1:
        return []
    found = chain(
        _check_form(forms[0], document[forms[0]], signature),
        _check_params(document.get("params"), signature.params),
    )
    return list(islice(found, LIMIT))


def ignored(encoded: Encoded, signatures: Sequence[Signature]) -> list[Problem]:
    """Params that no model of the endpoint has: MLflow drops them without an error. [] where
    nothing is known of params."""
    given = encoded.document.get("params")
    names = [param.name for signature in signatures for param in signature.params]
    if encoded.operation != "scoring" or not isinstance(given, Mapping) or not names:
        return []
    return [
        Problem(str(name), None, f"no param of the model{_meant(str(name), names)}")
        for name in given
        if str(name) not in names
    ]


def _check_form(form: str, value: Any, signature: Signature) -> Iterator[Problem]:
    inputs = signature.inputs
    if not inputs:
        return
    if inputs[0].shape is not None:
        yield from _check_tensors(form, value, inputs)
    elif form == "dataframe_split":
        yield from _check_split(value, inputs)
    elif inputs[0].name is None:
        return  # its values are for the server: type hints of Python are richer than signatures
    elif form == "dataframe_records" or _are_records(value):
        yield from _check_records(value, inputs, whole=form != "dataframe_records")
    elif form == "inputs":
        yield from _check_inputs(value, inputs)


# --- columns ------------------------------------------------------------------------------------


def _check_split(value: Any, inputs: Sequence[Column]) -> Iterator[Problem]:
    if not isinstance(value, Mapping) or not isinstance(data := value.get("data"), list):
        return
    names = value.get("columns")
    if not all(isinstance(row, (list, tuple)) for row in data):
        return
    width = max(map(len, data), default=0)
    if names is None:
        names = list(range(width))
    if not isinstance(names, (list, tuple)):
        return
    if data and width != len(names):
        row = next(n for n, row in enumerate(data) if len(row) == width)
        message = f"the row has {width} values for {len(names)} columns"
        yield Problem(None, row, message)
        return
    labels = list(map(str, names))
    if _by_position(inputs):
        # Columns without names, which a page of OpenAPI numbers: only their count is certain.
        if len(labels) < len(inputs):
            yield Problem(None, None, f"expected {len(inputs)} columns, got {len(labels)}")
            return
        if labels[: len(inputs)] != list(map(str, range(len(inputs)))):
            return
    else:
        yield from _missing(labels, inputs)
    twice = {label for label in labels if labels.count(label) > 1} if _repeats(labels) else set()
    places = {label: place for place, label in enumerate(labels)}
    columns = list(zip(*data, strict=True)) if set(map(len, data)) == {width} else None
    for number, column in enumerate(inputs):
        name = column.name if column.name is not None else str(number)
        if name in twice:
            yield Problem(name, None, "the column is there more than once")
        elif name in places and data:
            place = places[name]
            yield from _wrong(name, columns[place] if columns else _filled(data, place), column)


def _filled(data: Sequence[Sequence[Any]], place: int) -> list[Any]:
    """A column of rows of different lengths, which pandas fills."""
    return [row[place] if place < len(row) else None for row in data]


def _repeats(labels: Sequence[str]) -> bool:
    return len(set(labels)) != len(labels)


def _by_position(inputs: Sequence[Column]) -> bool:
    return all(column.name in (None, str(n)) for n, column in enumerate(inputs))


def _check_records(value: Any, inputs: Sequence[Column], *, whole: bool) -> Iterator[Problem]:
    """`whole`: the form is `inputs` or `instances`, whose values MLflow converts otherwise."""
    if not _are_records(value) or _by_position(inputs):
        return
    labels = list(dict.fromkeys(map(str, chain.from_iterable(value))))
    yield from _missing(labels, inputs)
    known = set(labels)
    for column in inputs:
        if not whole and column.name in known:
            yield from _wrong(column.name, [row.get(column.name) for row in value], column)


def _are_records(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and bool(value)
        and all(isinstance(item, Mapping) for item in value)
    )


def _check_inputs(value: Any, inputs: Sequence[Column]) -> Iterator[Problem]:
    """`inputs` for a model with named columns: a dict of columns, or rows without names."""
    if isinstance(value, Mapping):
        yield from _missing(list(map(str, value)), inputs)
    elif isinstance(value, (list, tuple)) and len(inputs) > 1 and not _by_position(inputs):
        required = [column.name for column in inputs if column.required]
        if required:
            names = ", ".join(str(column.name) for column in inputs)
            yield Problem(
                None,
                None,
                f"the model takes named columns ({names}): give rows= instead of inputs=",
            )


def _missing(labels: Sequence[str], inputs: Sequence[Column]) -> Iterator[Problem]:
    given = set(labels)
    known = {column.name for column in inputs}
    extra = [label for label in labels if label not in known]
    for column in inputs:
        if column.required and column.name is not None and column.name not in given:
            close = _close(column.name, extra)
            hint = f"; did you mean it by {shown(close)}?" if close is not None else ""
            yield Problem(column.name, None, f"required and missing{hint}")


def _wrong(name: str, values: Sequence[Any], column: Column) -> Iterator[Problem]:
    if wrong := wrong_in(values, column.type, required=column.required):
        more = f" (and {wrong.count - 1} more rows)" if wrong.count > 1 else ""
        yield Problem(name, wrong.row, f"{wrong.message}{more}")


def _close(name: str, others: Sequence[str]) -> str | None:
    folded = {other.lower(): other for other in others}
    found = get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def _meant(name: str, names: Sequence[str]) -> str:
    close = _close(name, names)
    return f"; did you mean {shown(close)}?" if close is not None else ""


# --- tensors ------------------------------------------------------------------------------------


def _check_tensors(form: str, value: Any, inputs: Sequence[Column]) -> Iterator[Problem]:
    named = inputs[0].name is not None
    if form == "inputs":
        if named and isinstance(value, Mapping):
            yield from _missing(list(map(str, value)), inputs)
            for column in inputs:
                if column.name in value:
                    yield from _check_tensor(value[column.name], column)
        elif not named and not isinstance(value, Mapping):
            yield from _check_tensor(value, inputs[0])
    elif form == "dataframe_split" and isinstance(value, Mapping):
        labels = value.get("columns")
        if not isinstance(labels, (list, tuple)):
            return
        if named:
            yield from _missing(list(map(str, labels)), inputs)
        elif len(labels) > 1 and not _fits((len(labels),), (inputs[0].shape or ())[1:]):
            sizes = _sizes(inputs[0].shape or ())
            yield Problem(None, None, f"expected the shape {sizes}, got {len(labels)} columns")
    elif form == "dataframe_records" and named and _are_records(value):
        yield from _missing(list(dict.fromkeys(map(str, chain.from_iterable(value)))), inputs)


def _check_tensor(value: Any, column: Column) -> Iterator[Problem]:
    """Shape and values of nested lists."""
    dtype = str(column.type)
    if not dtype.startswith(("int", "uint", "float", "bool")) or not isinstance(
        value, (list, tuple, int, float)
    ):
        return  # arrays of objects take anything; texts may be theirs
    expected = column.shape or ()
    shape: list[int] = []
    level: Sequence[Any] = [value]
    while level and isinstance(level[0], (list, tuple)):
        if not all(isinstance(item, (list, tuple)) for item in level):
            yield Problem(column.name, None, "the lists are not of one depth")
            return
        sizes = set(map(len, level))
        if len(sizes) > 1:
            yield Problem(column.name, None, f"the lists have different lengths: {_counted(sizes)}")
            return
        shape.append(sizes.pop())
        level = list(chain.from_iterable(level))
    if any(isinstance(item, (list, tuple)) for item in level):
        yield Problem(column.name, None, "the lists are not of one depth")
    elif not _fits(shape, expected):
        if 0 in shape:  # an empty list hides what is inside
            return
        message = f"expected the shape {_sizes(expected)}, got {_sizes(shape)}"
        yield Problem(column.name, None, message)
    elif not dtype.startswith("bool"):
        kind = "double" if dtype.startswith("float") else "long"
        if wrong := wrong_in(level, kind, required=True):
            row = wrong.row // max(1, len(level) // max(1, shape[0])) if shape else None
            yield Problem(column.name, row, wrong.message)


def _fits(shape: Sequence[int], expected: Sequence[int]) -> bool:
    return len(shape) == len(expected) and all(
        size in (-1, have) for have, size in zip(shape, expected, strict=True)
    )


def _sizes(shape: Sequence[int]) -> str:
    return f"({', '.join('any' if size == -1 else str(size) for size in shape)})"


def _counted(sizes: set[int]) -> str:
    few = sorted(sizes)[:4]
    return ", ".join(map(str, few)) + (" …" if len(sizes) > len(few) else "")


# --- params -------------------------------------------------------------------------------------


def _check_params(given: Any, params: Sequence[Param]) -> Iterator[Problem]:
    if given is None or not params:
        return
    if not isinstance(given, Mapping):
        yield Problem("params", None, f"expected an object, got {shown(given)}")
        return
    known = {param.name: param for param in params}
    for name, value in given.items():
        param = known.get(str(name))
        if param is None or value is None:
            continue
        if said := _wrong_param(value, param):
            yield Problem(param.name, None, f"param: {said}")


def _wrong_param(value: Any, param: Param) -> str | None:
    if param.shape is None:
        return _wrong_value(value, param.type)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        return f"expected a list, got {shown(value)}"
    return next(filter(None, (_wrong_value(item, param.type) for item in value)), None)


def _wrong_value(value: Any, type: str) -> str | None:
    if value is None:
        return None
    if type == "boolean":
        wrong = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        return f"expected true or false, got {shown(value)}" if wrong else None
    if type == "datetime":
        wrong = isinstance(value, (bool, int, float, list, Mapping))
        return f"expected a time in ISO 8601, got {shown(value)}" if wrong else None
    if type == "object":
        wrong = isinstance(value, (str, bool, int, float, list))
        return f"expected an object, got {shown(value)}" if wrong else None
    return wrong_nested(value, type, required=True)
