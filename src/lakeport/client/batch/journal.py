"""What a batch from file to file has done so far: one file beside the target, lines of JSON.

The first line says what the batch is. Each other line has what came of some rows of the source;
a later line for the same rows replaces an earlier one. Lines are only ever added, so that a run
that is killed leaves at most its last line torn, which the next one cuts off.
"""

import contextlib
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import orjson

from lakeport.client.encode_json import to_json
from lakeport.client.errors import InvalidInput
from lakeport.client.readings import loads

#: How a header begins.
_FIRST = b'{"lakeport_batch":'
_LINE = re.compile(rb'\{"start":(\d+),"rows":(\d+),"failed":(\d+),')


@dataclass(frozen=True, slots=True)
class Entry:
    """Rows that are done; `failed` of them have an error."""

    start: int
    rows: int
    failed: int
    #: Of its line in the journal.
    offset: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the rows of one entry."""

    #: One for each row; None where it failed.
    predictions: Sequence[Any]
    #: By the row's place among these rows.
    errors: Mapping[int, str]


class Entries:
    """Entries in the order of their rows: 32 bytes each, since a source may have very many."""

    def __init__(self, lines: Iterator[Entry]) -> None:
        fields = array("q"), array("q"), array("q"), array("q")
        for line in lines:
            for column, value in zip(
                fields, (line.start, line.rows, line.failed, line.offset), strict=True
            ):
                column.append(value)
        order = sorted(range(len(fields[0])), key=fields[0].__getitem__)  # stable: the last wins
        kept = [
            place
            for at, place in enumerate(order)
            if at + 1 == len(order) or fields[0][order[at + 1]] != fields[0][place]
        ]
        self._fields = [array("q", [column[place] for place in kept]) for column in fields]

    def __len__(self) -> int:
        return len(self._fields[0])

    def __iter__(self) -> Iterator[Entry]:
        return (Entry(*values) for values in zip(*self._fields, strict=True))


class Journal:
    """Use it as a context manager. One process at a time may have it open."""

    def __init__(self, path: Path, header: Mapping[str, Any], *, anew: bool) -> None:
        """`header` says what the batch is: what was done is kept for the same one only.
        `anew`: forget what was done."""
        self.path = path
        self._header = header
        self._anew = anew
        self._file: BinaryIO
        #: Where the last whole line ends.
        self._end = 0

    def __enter__(self) -> Self:
        """Raises InvalidInput when another run has it, or when it is of another batch."""
        self._file = self.path.open("a+b")
        try:
            _lock(self._file, self.path)
            self._begin()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def entries(self) -> Entries:
        return Entries(self._lines())

    def add(self, start: int, outcome: Outcome) -> None:
        line = {
            "start": start,
            "rows": len(outcome.predictions),
            "failed": len(outcome.errors),
            "errors": {str(place): message for place, message in outcome.errors.items()},
            "predictions": outcome.predictions,
        }
        self._file.write(to_json(line) + b"\n")
        self._file.flush()

    def read(self, entry: Entry) -> Outcome:
        self._file.seek(entry.offset)
        line = loads(self._file.readline())
        errors = {int(place): message for place, message in line["errors"].items()}
        return Outcome(line["predictions"], errors)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def _begin(self) -> None:
        """Write the header, or read it and cut off what is torn."""
        self._file.seek(0)
        first = self._file.readline()
        torn = not first.endswith(b"\n") and first[: len(_FIRST)] == _FIRST[: len(first)]
        if self._anew or torn:
            self._file.truncate(0)
            self._file.write(to_json(self._header) + b"\n")
            self._file.flush()
            return
        self._compare(first)
        for _ in self._lines():
            pass
        self._file.truncate(self._end)

    def _compare(self, first: bytes) -> None:
        was: Any = None
        with contextlib.suppress(orjson.JSONDecodeError):
            was = orjson.loads(first)
        if not isinstance(was, dict) or "lakeport_batch" not in was:
            raise InvalidInput(f"{self.path} is not the journal of a batch; move it away.")
        now = orjson.loads(to_json(self._header))
        for key in now:
            if was.get(key) != now[key]:
                raise InvalidInput(
                    f"{self.path} is of another batch: {_CHANGED.get(key, key + ' is another')}. "
                    "overwrite=True (--overwrite) begins anew; what was done is lost then."
                )

    def _lines(self) -> Iterator[Entry]:
        """Whole lines, from the second on, up to the first that is none."""
        self._file.seek(0)
        self._end = len(self._file.readline())
        for line in self._file:
            match = _LINE.match(line)
            if not match or not line.endswith(b"}\n"):
                return
            yield Entry(int(match[1]), int(match[2]), int(match[3]), self._end)
            self._end += len(line)


_CHANGED = {
    "source": "the source has changed since, or is another file",
    "lakeport_batch": "it was written by another version",
}


def _lock(file: BinaryIO, path: Path) -> None:
    """Until it is closed. Raises InvalidInput."""
    try:
        import fcntl  # noqa: PLC0415 - only where there is one
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise InvalidInput(f"Another run is writing {path.name}; wait for it.") from None


def fingerprint(path: Path) -> dict[str, Any]:
    """What tells a changed file: size, time of change."""
    status = path.stat()
    return {"bytes": status.st_size, "changed_ns": status.st_mtime_ns}
