"""CSV files: UTF-8, commas, a first line of names. Cells are kept as they are written."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from lakeport.client.batch.cells import text_of, values_of
from lakeport.client.batch.files import Piece, Source
from lakeport.client.batch.journal import Outcome
from lakeport.client.batch.plan import Bounds, Chunk, Planner
from lakeport.client.batch.sends import Sends
from lakeport.client.errors import InvalidInput

#: Characters of one cell.
_WIDEST = 64 << 20


@dataclass(frozen=True)
class CsvPiece:
    header: Sequence[str]
    cells: list[list[str]]

    @property
    def rows(self) -> int:
        return len(self.cells)

    @cached_property
    def padded(self) -> list[list[str]]:
        """As many cells in each row as there are columns."""
        width = len(self.header)
        if all(len(row) == width for row in self.cells):
            return self.cells
        return [(row + [""] * width)[:width] for row in self.cells]

    def columns(self) -> Mapping[str, list[Any]]:
        return {
            name: values_of(cells, None)
            for name, cells in zip(self.header, zip(*self.padded, strict=True), strict=True)
        }

    def chunks(self, start: int, sends: Sends) -> tuple[list[Chunk], Mapping[int, str]]:
        width = len(self.header)
        errors = {
            place: f"Expected {width} cells, found {len(row)}."
            for place, row in enumerate(self.cells)
            if len(row) != width
        }
        texts = dict(zip(self.header, zip(*self.padded, strict=True), strict=True))
        values = [values_of(texts[name], sends.type_of(name)) for name in sends.names]
        return chunks_of(list(zip(*values, strict=True)), start, sends, errors), errors


class CsvSource:
    def __init__(self, path: Path) -> None:
        self.total: int | None = None
        self._bounds = Bounds()
        self._file = path.open(encoding="utf-8-sig", newline="")
        csv.field_size_limit(_WIDEST)
        self._name = path.name
        self.rewind()

    def names(self) -> tuple[str, ...]:
        return self._header

    def rewind(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or self._bounds
        self._file.seek(0)
        self._reader = csv.reader(self._file)
        self._header = tuple(next(self._rows(), ()))
        if not self._header:
            raise InvalidInput(f"{self._name}: expected a first line with the columns' names.")
        if len(set(self._header)) < len(self._header):
            raise InvalidInput(f"{self._name}: two columns have the same name.")

    def take(self, most: int | None = None, *, whole: bool = False) -> CsvPiece | None:
        cells: list[list[str]] = []
        left = self._bounds.bytes
        rows = self._bounds.count(most, whole)
        for row in self._rows():
            cells.append(row)
            left -= sum(map(len, row)) + 3 * len(row)
            if len(cells) == rows or (left <= 0 and not whole):
                break
        return CsvPiece(self._header, cells) if cells else None

    def close(self) -> None:
        self._file.close()

    def _rows(self) -> Iterator[list[str]]:
        try:
            for row in self._reader:
                if row:  # else the line was empty
                    yield row
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{self._name}: expected UTF-8: {error}") from error
        except csv.Error as error:
            raise InvalidInput(f"{self._name}, line {self._reader.line_num}: {error}") from error


class _Lines:
    """Lines of a csv.writer, which writes each at once, into a file."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.removesuffix("\r\n") + "\n")


class CsvTarget:
    def __init__(self, path: Path, source: Source, names: Sequence[str]) -> None:
        self._names = dict.fromkeys(source.names())
        self._new = names
        # Of rows with columns of their own, all must be known before the first is written.
        self.surveys = not isinstance(source, CsvSource) and source.total is None
        self._began = False
        self._file = path.open("w", encoding="utf-8", newline="")
        # "\r\n", so that cells with either character are quoted; written as "\n".
        self._writer = csv.writer(_Lines(self._file), lineterminator="\r\n")

    def survey(self, piece: Piece, outcome: Outcome) -> None:
        self._names |= dict.fromkeys(piece.columns())

    def write(self, piece: Piece, outcome: Outcome) -> None:
        self._begin()
        texts = [[text_of(each) for each in outcome.predictions]]
        if len(self._new) > 1:
            texts.append([outcome.errors.get(place, "") for place in range(piece.rows)])
        if isinstance(piece, CsvPiece):
            rows = zip(piece.padded, zip(*texts, strict=True), strict=True)
            self._writer.writerows([*cells, *more] for cells, more in rows)
            return
        columns = piece.columns()
        empty = [""] * piece.rows
        known = [
            list(map(text_of, columns[name])) if name in columns else empty for name in self._names
        ]
        self._writer.writerows(zip(*known, *texts, strict=True))

    def close(self) -> None:
        self._begin()
        self._file.close()

    def _begin(self) -> None:
        if not self._began:
            self._began = True
            self._writer.writerow([*self._names, *self._new])


def chunks_of(
    rows: Sequence[Sequence[Any]], start: int, sends: Sends, skipped: Mapping[int, str]
) -> list[Chunk]:
    """Chunks for rows in the order of `sends.names`, but for those that are `skipped`. A chunk ends
    before each of these, so that places stay what they are."""
    chunks: list[Chunk] = []
    begin = 0
    for end in [*sorted(skipped), len(rows)]:
        if end > begin:
            chunks += _run(rows[begin:end], start + begin, sends)
        begin = end + 1
    return chunks


def _run(rows: Sequence[Sequence[Any]], start: int, sends: Sends) -> list[Chunk]:
    if sends.single is None:
        return [Chunk(start, len(rows), "body", rows, form_of=sends.document)]
    return plan((row[0] for row in rows), start, sends)


def plan(items: Iterator[Any], start: int, sends: Sends) -> list[Chunk]:
    """Chunks of items as `batch` takes them; the first has the place `start`."""
    planner = Planner(
        Bounds(1 << 62, 1 << 62), task=sends.task, signature=sends.signature, start=start
    )
    chunks = [chunk for item in items for chunk in planner.add(item)]
    return [*chunks, *planner.flush()]
