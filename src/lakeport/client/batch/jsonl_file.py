"""JSONL files: a JSON value on each line, UTF-8. Lines are kept as they are written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from lakeport.client.batch.cells import json_of
from lakeport.client.batch.csv_file import plan
from lakeport.client.batch.files import Piece, Source
from lakeport.client.batch.journal import Outcome
from lakeport.client.batch.plan import Bounds, Chunk, is_body
from lakeport.client.batch.sends import Sends
from lakeport.client.errors import InvalidInput

#: The column of lines that are no objects.
INPUT = "input"
#: Rows whose names stand for the file's.
_FIRST = 100


class NotJson:
    """What a line is that cannot be read."""


@dataclass(frozen=True)
class JsonlPiece:
    lines: list[bytes]

    @property
    def rows(self) -> int:
        return len(self.lines)

    @cached_property
    def values(self) -> list[Any]:
        """NotJson for a line that is none."""
        return [_parse(line) for line in self.lines]

    @cached_property
    def records(self) -> list[Mapping[str, Any]]:
        """Each line as an object."""
        return [
            value
            if isinstance(value, dict)
            else {INPUT: line.decode(errors="replace") if value is NotJson else value}
            for value, line in zip(self.values, self.lines, strict=True)
        ]

    def columns(self) -> Mapping[str, list[Any]]:
        names = dict.fromkeys(name for record in self.records for name in record)
        return {name: [record.get(name) for record in self.records] for name in names}

    def chunks(self, start: int, sends: Sends) -> tuple[list[Chunk], Mapping[int, str]]:
        errors: dict[int, str] = {}
        chunks: list[Chunk] = []
        run: list[Any] = []
        for place, value in enumerate(self.values):
            message, item = _item(value, sends)
            if message is None:
                run.append(item)
                continue
            errors[place] = message
            chunks += plan(iter(run), start + place - len(run), sends)
            run = []
        return chunks + plan(iter(run), start + self.rows - len(run), sends), errors


class JsonlSource:
    def __init__(self, path: Path) -> None:
        self.total: int | None = None
        self._bounds = Bounds()
        self._file = path.open("rb")

    def names(self) -> tuple[str, ...]:
        """Of the first 100 lines that are objects."""
        place = self._file.tell()
        self._file.seek(0)
        first = JsonlPiece([line for line, _ in zip(self._lines(), range(_FIRST), strict=False)])
        self._file.seek(place)
        objects = [value for value in first.values if isinstance(value, dict)]
        return tuple(dict.fromkeys(name for each in objects for name in each))

    def rewind(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or self._bounds
        self._file.seek(0)

    def take(self, most: int | None = None, *, whole: bool = False) -> JsonlPiece | None:
        lines: list[bytes] = []
        left = self._bounds.bytes
        rows = self._bounds.count(most, whole)
        for line in self._lines():
            lines.append(line)
            left -= len(line)
            if len(lines) == rows or (left <= 0 and not whole):
                break
        return JsonlPiece(lines) if lines else None

    def close(self) -> None:
        self._file.close()

    def _lines(self) -> Iterator[bytes]:
        """Those that are not empty."""
        while line := self._file.readline():
            if line := line.removeprefix(b"\xef\xbb\xbf").strip():
                yield line


class JsonlTarget:
    surveys = False

    def __init__(self, path: Path, source: Source, names: Sequence[str]) -> None:
        self._names = names
        self._file = path.open("wb")

    def survey(self, piece: Piece, outcome: Outcome) -> None: ...

    def write(self, piece: Piece, outcome: Outcome) -> None:
        for place, (line, prediction) in enumerate(
            zip(_objects(piece, self._names), outcome.predictions, strict=True)
        ):
            more = {self._names[0]: prediction}
            if len(self._names) > 1:
                more[self._names[1]] = outcome.errors.get(place)
            comma = b"" if line == b"{}" else b","
            self._file.write(line[:-1].rstrip() + comma + json_of(more)[1:] + b"\n")

    def close(self) -> None:
        self._file.close()


def _objects(piece: Piece, new: Sequence[str]) -> Iterator[bytes]:
    """JSON objects of the rows; lines that are such stay as they are. Raises InvalidInput when one
    has already what is `new`."""
    if isinstance(piece, JsonlPiece):
        if any(new[0] in record for record in piece.records):
            raise InvalidInput(
                f"Lines of the source have {new[0]!r} already: output_column= "
                "(--output-column) names the predictions' column. What is done is kept."
            )
        for value, line, record in zip(piece.values, piece.lines, piece.records, strict=True):
            yield line if isinstance(value, dict) and value else json_of(record)
        return
    columns = piece.columns()
    for row in zip(*columns.values(), strict=True):
        yield json_of(dict(zip(columns, row, strict=True)))


def _parse(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return NotJson


def _item(value: Any, sends: Sends) -> tuple[str | None, Any]:
    """Why a line cannot be sent, or the item that is."""
    if value is NotJson:
        return "The line is not JSON.", None
    if not isinstance(value, dict):
        return None, value
    if sends.task is None and is_body(value, sends.signature):
        return None, value
    if sends.single is not None:
        if sends.single not in value:
            return f"The line has no {sends.single!r}.", None
        return None, value[sends.single]
    if sends.signature and sends.signature.names:
        names = sends.signature.names
        return None, {name: value[name] for name in names if name in value}
    return None, value
