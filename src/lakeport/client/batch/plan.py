"""Inputs → the requests that carry them. No I/O."""

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

from lakeport.client.encode_frames import is_frame, is_series
from lakeport.client.errors import InvalidInput
from lakeport.client.signature import Signature

#: How a chunk is given to `query`: the keyword, or "whole" where each item brings its own.
Form = Literal["records", "rows", "inputs", "input", "data", "body", "whole"]

_BODIES = {
    "dataframe_split", "dataframe_records", "inputs", "instances", "messages", "prompt", "input",
}  # fmt: skip
#: Rows of a frame that tell how long its rows are.
_SAMPLE = 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """The items of one request, `start` is the place of the first."""

    start: int
    rows: int
    form: Form
    #: A list of the items; a frame, an array or a table where these are sliced instead.
    values: Any
    #: How `values` are cut to [begin, end).
    cut: Callable[[Any, int, int], Any] = field(default=lambda v, a, b: v[a:b], repr=False)
    #: How they become what `form` takes.
    form_of: Callable[[Any], Any] = field(default=lambda v: v, repr=False)

    def given(self) -> dict[str, Any]:
        """Keywords of `query`."""
        if self.form == "whole":
            whole: dict[str, Any] = self.values[0]
            return whole
        return {self.form: self.form_of(self.values)}

    def part(self, begin: int, end: int) -> "Chunk":
        """The items from `begin` to before `end`, counted within the chunk."""
        return replace(
            self,
            start=self.start + begin,
            rows=end - begin,
            values=self.cut(self.values, begin, end),
        )

    def halves(self) -> "tuple[Chunk, Chunk]":
        middle = self.rows // 2
        return self.part(0, middle), self.part(middle, self.rows)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one request."""

    rows: int = 1000
    #: Estimated: a server that finds a request too large makes us split it.
    bytes: int = 8 << 20

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise InvalidInput(f"chunk_rows={self.rows}: expected 1 or more.")
        if self.bytes < 1:
            raise InvalidInput(f"chunk_bytes={self.bytes}: expected 1 or more.")

    def count(self, most: int | None, whole: bool) -> int:
        """Rows to read where `most` are wanted at most, or so many just, with `whole`."""
        return self.rows if most is None else most if whole else min(most, self.rows)


class Planner:
    """Makes chunks of items, one item after the other; neighbours of one form share a chunk.

    `task`: the endpoint's. `signature`: the model's where it is known; it tells rows of tensors
    from whole inputs.
    """

    def __init__(
        self,
        bounds: Bounds,
        *,
        task: str | None = None,
        signature: Signature | None = None,
        start: int = 0,
    ) -> None:
        self._bounds = bounds
        self._task = task or ""
        self._signature = signature
        self._next = start
        self._open: list[Any] = []
        self._kind: tuple[Form, Any] | None = None
        self._bytes = 0

    def add(self, item: Any) -> Iterator[Chunk]:
        """Take one more item; gives the chunks that this one closes."""
        form, kind, value = self._classify(item)
        if form == "whole":
            yield from self.flush()
            yield self._close("whole", [value])
            return
        size = size_of(value)
        if self._open and (
            self._kind != (form, kind)
            or len(self._open) >= self._bounds.rows
            or self._bytes + size > self._bounds.bytes
        ):
            yield from self.flush()
        self._kind = (form, kind)
        self._open.append(value)
        self._bytes += size

    def flush(self) -> Iterator[Chunk]:
        """Close the chunk that is open."""
        if self._open and self._kind:
            values, self._open, self._bytes = self._open, [], 0
            yield self._close(self._kind[0], values)

    def _close(self, form: Form, values: list[Any]) -> Chunk:
        start, self._next = self._next, self._next + len(values)
        return Chunk(start, len(values), form, values)

    def _classify(self, item: Any) -> tuple[Form, Any, Any]:
        """Form, what neighbours must share to be merged with it, and the value as it is sent."""
        if self._task.endswith("/responses"):
            return "whole", None, {"body": item if is_body(item) else {"input": _messages(item)}}
        if self._task.endswith("/chat") or self._task.startswith("agent/"):
            whole = {"body": item} if is_body(item) else {"messages": _messages(item)}
            return "whole", None, whole
        if self._task.endswith("/completions"):
            return "whole", None, {"prompt" if isinstance(item, str) else "data": item}
        if self._task.endswith("/embeddings"):
            if isinstance(item, str):
                return "input", None, item
            return "whole", None, {"body" if isinstance(item, Mapping) else "input": item}
        return self._classic(item)

    def _classic(self, item: Any) -> tuple[Form, Any, Any]:
        item = _named(item, self._signature)
        if isinstance(item, Mapping):
            if is_body(item, self._signature):
                return "whole", None, {"body": item}
            return "records", tuple(sorted(map(str, item))), item
        if is_frame(item):
            return "whole", None, {"data": item}
        if is_array(item):
            return self._array(item)
        if isinstance(item, list | tuple):
            if item and all(isinstance(each, Mapping) and "role" in each for each in item):
                return "whole", None, {"messages": item}
            return "rows", len(item), item
        if self._signature and len(self._signature.names) == 1:
            return "rows", 1, [item]
        return "inputs", isinstance(item, str | bytes), item

    def _array(self, item: Any) -> tuple[Form, Any, Any]:
        shape = tuple(item.shape)
        if self._signature and len(self._signature.inputs) == 1:
            tensor = self._signature.inputs[0].shape
            if tensor is not None and len(shape) == len(tensor) - 1:
                return "inputs", shape, item.tolist()
        if len(shape) <= 1:
            return ("rows", shape[0], item.tolist()) if shape else self._classic(item.item())
        return "whole", None, {"data": item}


def table_chunks(frame: Any, bounds: Bounds) -> Iterator[Chunk]:
    """The rows of one DataFrame or array, in slices."""
    cut = _cut_frame if is_frame(frame) else None
    if sparse := is_sparse(frame):
        frame = frame.tocsr()
    begin, rows = 0, rows_of(frame) or 0
    while begin < rows:
        end = min(rows, begin + bounds.rows)
        values = frame[begin:end] if cut is None else cut(frame, begin, end)
        values = values.toarray() if sparse else values
        width = max(1, _width(values))
        fits = max(1, bounds.bytes // width)
        chunk = Chunk(begin, end - begin, "data", values, cut or (lambda v, a, b: v[a:b]))
        yield chunk if fits >= chunk.rows else chunk.part(0, fits)
        begin = min(end, begin + fits)


def is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "tolist") and hasattr(value, "dtype")


def is_sparse(value: Any) -> bool:
    """A matrix of scipy's."""
    return hasattr(value, "toarray") and hasattr(value, "tocsr")


def is_table(items: Any) -> bool:
    """A DataFrame or an array, whose rows are the items."""
    return is_frame(items) or is_sparse(items) or (is_array(items) and len(items.shape) > 1)


def rows_of(items: Any) -> int | None:
    """How many items there are, where that is known."""
    if is_sparse(items):
        return int(items.shape[0])
    return len(items) if hasattr(items, "__len__") else None


def refuse_odd(items: Any) -> None:
    """A mistake that would be read as something else. Raises InvalidInput."""
    if isinstance(items, str | bytes):
        raise InvalidInput(
            "items: expected an iterable of inputs, not one string; put it in a list."
        )
    if isinstance(items, Mapping):
        raise InvalidInput(
            "items: expected an iterable of inputs, not a dict. Of columns make a DataFrame; one "
            "record goes in a list."
        )
    if type(items).__name__ == "LazyFrame":
        raise InvalidInput("items: a LazyFrame has no rows yet; collect() it.")
    readable = isinstance(items, Iterable | AsyncIterable) or hasattr(items, "__getitem__")
    if not readable or (is_array(items) and not items.shape):
        raise InvalidInput(f"items: expected an iterable of inputs, got {type(items).__name__}.")


def size_of(value: Any) -> int:
    """About how many bytes it is in JSON."""
    try:
        return len(orjson.dumps(value, default=str, option=_LENIENT)) + 1
    except (TypeError, ValueError):
        return len(repr(value)) + 1


_LENIENT = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def _messages(item: Any) -> Sequence[Any]:
    if isinstance(item, str):
        return [{"role": "user", "content": item}]
    return item if isinstance(item, Sequence) else [item]


def is_body(item: Any, signature: Signature | None = None) -> bool:
    """A request body, not a record with a column of that name, which the model may have."""
    if not isinstance(item, Mapping):
        return False
    keys = (_BODIES & item.keys()).difference(signature.names if signature else ())
    return any(isinstance(item[key], list | tuple | Mapping) for key in keys)


def _named(item: Any, signature: Signature | None) -> Any:
    """A record, where a row knows its columns' names: by place they could be other columns."""
    if is_series(item) and hasattr(item, "index"):
        names = list(item.index)
        return dict(item.items()) if all(isinstance(name, str) for name in names) else item
    fields = getattr(item, "_fields", ())  # of a named tuple, as DataFrame.itertuples gives them
    known = signature is not None and bool(signature.names) and set(signature.names) <= {*fields}
    as_dict = getattr(item, "_asdict", None)
    return as_dict() if known and as_dict else item


def _cut_frame(frame: Any, begin: int, end: int) -> Any:
    if hasattr(frame, "iloc"):
        return frame.iloc[begin:end]
    return frame.slice(begin, end - begin)  # of polars and pyarrow


def _records(frame: Any) -> Any:
    if hasattr(frame, "iloc"):
        return frame.to_dict("records")
    return frame.to_dicts() if hasattr(frame, "to_dicts") else frame.to_pylist()


def _width(values: Any) -> int:
    """About how many bytes one row is in JSON, from the first of them."""
    few = values[:_SAMPLE] if is_array(values) else _cut_frame(values, 0, _SAMPLE)
    if is_array(values):
        rows: Any = few.tolist()
    else:
        rows = _records(few)
    return size_of(rows) // max(1, len(few))
