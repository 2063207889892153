"""Parquet files, by pyarrow (the extra `parquet`)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakeport.client.batch.cells import text_of
from lakeport.client.batch.csv_file import CsvPiece, plan
from lakeport.client.batch.files import Piece, Source
from lakeport.client.batch.journal import Outcome
from lakeport.client.batch.plan import Bounds, Chunk
from lakeport.client.batch.sends import Sends
from lakeport.client.errors import InvalidInput

#: Rows that are decoded at a time, and bytes, so that wide rows are few.
_READ_ROWS, _READ_BYTES = 1 << 16, 32 << 20
#: A row group of a target has at least so many, but for the last.
_GROUP_ROWS, _GROUP_BYTES = 1 << 16, 64 << 20
#: Integers up to it are doubles, too.
_EXACT = 1 << 53


@dataclass(frozen=True)
class ParquetPiece:
    table: Any

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    def columns(self) -> Mapping[str, list[Any]]:
        table = self.table
        return {name: _values(table.column(name)) for name in table.column_names}

    def chunks(self, start: int, sends: Sends) -> tuple[list[Chunk], Mapping[int, str]]:
        if sends.single is not None:
            return plan(iter(self.table.column(sends.single).to_pylist()), start, sends), {}
        table = self.table.select(list(sends.names))
        return [
            Chunk(start, self.rows, "body", table, _cut, lambda part: sends.document(_matrix(part)))
        ], {}


class ParquetSource:
    def __init__(self, path: Path) -> None:
        self._bounds = Bounds()
        self._name = path.name
        try:
            self._file = pq.ParquetFile(path, pre_buffer=False)
        except pa.ArrowInvalid as error:
            raise InvalidInput(f"{path.name}: {error}") from error
        self.schema = self._file.schema_arrow
        if not self.schema.names:
            raise InvalidInput(f"{path.name}: expected columns, found none.")
        if len(set(self.schema.names)) < len(self.schema.names):
            raise InvalidInput(f"{path.name}: two columns have the same name.")
        self.total: int | None = self._file.metadata.num_rows
        self.rewind()

    def names(self) -> tuple[str, ...]:
        return tuple(self.schema.names)

    def rewind(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or self._bounds
        width = max(1, self._row_bytes())
        self._most = max(1, min(self._bounds.rows, self._bounds.bytes // width))
        read = max(self._most, min(_READ_ROWS, _READ_BYTES // width))
        self._batches: Iterator[Any] = self._file.iter_batches(read, use_threads=False)
        self._held = self.schema.empty_table()

    def take(self, most: int | None = None, *, whole: bool = False) -> ParquetPiece | None:
        count = Bounds(self._most).count(most, whole)
        self._hold(count)
        table = self._held.slice(0, count)
        if not whole and (size := json_bytes(table)) > self._bounds.bytes:
            table = table.slice(0, max(1, table.num_rows * self._bounds.bytes // size))
        self._held = self._held.slice(table.num_rows)
        return ParquetPiece(table) if table.num_rows else None

    def close(self) -> None:
        self._file.close()

    def _hold(self, rows: int) -> None:
        """Read until so many rows are there."""
        parts, count = [self._held], self._held.num_rows
        try:
            while count < rows and (batch := next(self._batches, None)) is not None:
                parts.append(pa.Table.from_batches([batch], self.schema))
                count += batch.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise InvalidInput(f"{self._name}: {error}") from error
        self._held = pa.concat_tables(parts) if len(parts) > 1 else self._held

    def _row_bytes(self) -> int:
        """Of the row group with the longest rows, on the average."""
        metadata = self._file.metadata
        groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
        return max((g.total_byte_size // max(1, g.num_rows) for g in groups), default=0)


class ParquetTarget:
    """The types of a Parquet source are kept. Those of predictions, and of rows of other files, are
    found in a first pass: one that fits all values, else text (JSON)."""

    surveys = True

    def __init__(self, path: Path, source: Source, names: Sequence[str]) -> None:
        self._path = path
        self._schema = source.schema if isinstance(source, ParquetSource) else None
        self._types = {name: Kind() for name in ([] if self._schema else source.names())}
        self._prediction = Kind()
        self._names = names
        self._writer: Any = None
        self._held: list[Any] = []
        self._held_rows = self._held_bytes = 0

    def survey(self, piece: Piece, outcome: Outcome) -> None:
        self._prediction.saw(outcome.predictions)
        if self._schema is None:
            for name, values in piece.columns().items():
                self._types.setdefault(name, Kind()).saw(values)

    def write(self, piece: Piece, outcome: Outcome) -> None:
        table = piece.table if isinstance(piece, ParquetPiece) else self._table(piece)
        table = table.append_column(self._names[0], self._prediction.array(outcome.predictions))
        if len(self._names) > 1:
            errors = [outcome.errors.get(place) for place in range(piece.rows)]
            table = table.append_column(self._names[1], pa.array(errors, pa.string()))
        self._held.append(table)
        self._held_rows += table.num_rows
        self._held_bytes += table.nbytes
        if self._held_rows >= _GROUP_ROWS or self._held_bytes >= _GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        try:
            self._flush()
        finally:
            if self._writer:
                self._writer.close()

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, self._whole_schema())
        if self._held:
            table = pa.concat_tables(self._held)
            self._writer.write_table(table, row_group_size=table.num_rows)
        self._held, self._held_rows, self._held_bytes = [], 0, 0

    def _whole_schema(self) -> Any:
        schema = self._schema or pa.schema([(n, kind.type) for n, kind in self._types.items()])
        schema = schema.append(pa.field(self._names[0], self._prediction.type))
        for name in self._names[1:]:
            schema = schema.append(pa.field(name, pa.string()))
        return schema

    def _table(self, piece: Piece) -> Any:
        columns = piece.columns()
        texts: Mapping[str, Sequence[Any]] = {}
        if isinstance(piece, CsvPiece):  # what is text in the end is as it was written
            texts = dict(zip(piece.header, zip(*piece.padded, strict=True), strict=True))
        nothing = [None] * piece.rows
        return pa.table(
            {
                name: kind.array(
                    (texts if kind.text else columns).get(name, columns.get(name, nothing))
                )
                for name, kind in self._types.items()
            }
        )


class Kind:
    """The type of a column whose values come bit by bit."""

    def __init__(self) -> None:
        self._type = pa.null()
        self._mixed = False
        #: Some integer is none among doubles.
        self._long = False

    @property
    def text(self) -> bool:
        """No type fits them all: they are written as text."""
        lost = self._long and _holds(self._type, pa.types.is_floating)
        return self._mixed or lost or not _storable(self._type)

    @property
    def type(self) -> Any:
        return pa.string() if self.text or pa.types.is_null(self._type) else self._type

    def saw(self, values: Sequence[Any]) -> None:
        if self._mixed:
            return
        try:
            array = pa.array(values)  # infer_type() overlooks texts among numbers
            self._long = self._long or _is_long(array)
            fields = [pa.schema([("value", each)]) for each in (self._type, array.type)]
            self._type = pa.unify_schemas(fields, promote_options="permissive").field(0).type
        except (pa.ArrowException, OverflowError):
            self._mixed = True

    def array(self, values: Sequence[Any]) -> Any:
        if self.text:
            values = [None if each is None else text_of(each) for each in values]
        return pa.array(values, self.type)


def json_bytes(table: Any) -> int:
    """About how many bytes the rows are in JSON."""
    size = 0
    for column in table.columns:
        fixed = pa.types.is_primitive(column.type) or pa.types.is_boolean(column.type)
        size += 20 * table.num_rows if fixed else column.nbytes * 3 // 2 + 4 * table.num_rows
    return size


def _cut(table: Any, begin: int, end: int) -> Any:
    return table.slice(begin, end - begin)


def _matrix(table: Any) -> list[Any]:
    """The rows' values. Quick where all columns are numbers of one type."""
    kinds = {field.type for field in table.schema}
    kind = next(iter(kinds), None)
    plain = len(kinds) == 1 and (pa.types.is_integer(kind) or pa.types.is_floating(kind))
    if plain and not any(column.null_count for column in table.columns):
        import numpy as np  # noqa: PLC0415 - it comes with pyarrow, and only this needs it

        rows: list[Any] = np.column_stack([each.to_numpy() for each in table.columns]).tolist()
        return rows
    return list(zip(*map(_values, table.columns), strict=True))


def _values(column: Any) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except ValueError:  # nanoseconds, for which Python alone has no type
        values = column.cast(pa.string()).to_pylist()
    return values


def _is_long(array: Any) -> bool:
    """Integers of it, within lists and structs too, that no double can be sure to hold."""
    kind = array.type
    if pa.types.is_integer(kind):
        bounds = pc.min_max(array).as_py()
        return any(abs(each or 0) > _EXACT for each in bounds.values())
    if pa.types.is_list(kind):
        return _is_long(array.flatten())
    return pa.types.is_struct(kind) and any(map(_is_long, array.flatten()))


def _holds(kind: Any, what: Callable[[Any], bool]) -> bool:
    """`what` is true of the type or of one within it."""
    return what(kind) or any(_holds(kind.field(n).type, what) for n in range(kind.num_fields))


def _storable(kind: Any) -> bool:
    """Parquet has no struct without fields."""
    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_storable(field.type) for field in kind)
    if pa.types.is_list(kind):
        return _storable(kind.value_type)
    return True
