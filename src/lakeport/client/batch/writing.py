"""The second half of a batch from file to file: source and journal → the target."""

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from lakeport.client.batch import formats
from lakeport.client.batch.files import Piece, Source
from lakeport.client.batch.journal import Entries, Journal, Outcome
from lakeport.client.errors import InvalidInput

#: Errors that a report names.
_NAMED = 10


class Writing:
    """Puts the target together under another name, and then in its place."""

    def __init__(self, source: Source, journal: Journal, entries: Entries) -> None:
        self._source = source
        self._journal = journal
        self._entries = entries
        self.rows = sum(entry.rows for entry in entries)
        self.failed = sum(entry.failed for entry in entries)
        #: The first rows that failed, and why.
        self.errors: list[tuple[int, str]] = []

    def run(self, target: Path, column: str) -> Iterator[int]:
        """Rows that are written, as it goes on. `column` is the predictions'."""
        names = [column]
        if self.failed:
            taken = "error" in self._source.names()
            names.append(f"{column}_error" if taken else "error")
        new = target.with_name(f".{target.name}.{os.getpid()}.new")
        kind = formats.kind_of(target)
        try:
            with closing(formats.open_target(new, kind, self._source, names)) as file:
                if file.surveys:
                    for _, piece, outcome in self._pieces():
                        file.survey(piece, outcome)
                for start, piece, outcome in self._pieces():
                    file.write(piece, outcome)
                    for place in sorted(outcome.errors)[: _NAMED - len(self.errors)]:
                        self.errors.append((start + place, outcome.errors[place]))
                    yield start + piece.rows
            _sync(new)
            new.replace(target)
        finally:
            with suppress(FileNotFoundError):
                new.unlink()

    def _pieces(self) -> Iterator[tuple[int, Piece, Outcome]]:
        """All rows, with what came of them."""
        self._source.rewind()
        start = 0
        for entry in self._entries:
            piece = self._source.take(entry.rows, whole=True)
            if piece is None or piece.rows != entry.rows or start != entry.start:
                raise InvalidInput("The source has changed while it was read; begin anew.")
            yield start, piece, self._journal.read(entry)
            start += entry.rows


def _sync(path: Path) -> None:
    """Before it takes the place of another: a power cut must not leave an empty one."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
