"""The second half of a batch from file to file: source and journal → the target."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import chain, count
from pathlib import Path

from lakeport.client.batch.files import Piece, Source
from lakeport.client.batch.formats import kind_of, open_target
from lakeport.client.batch.journal import Entries, Journal, Outcome
from lakeport.client.batch.jsonl_file import JsonlSource
from lakeport.client.errors import InvalidInput

#: Errors that a report names.
_NAMED = 10
_CHANGED = "The source has changed while it was read: overwrite=True (--overwrite) begins anew."


class Writing:
    """Puts the target together under another name, and then in its place."""

    def __init__(
        self, source: Source, journal: Journal, entries: Entries, *, unchanged: Callable[[], bool]
    ) -> None:
        """`unchanged`: whether the source is what was predicted."""
        self._source = source
        self._journal = journal
        self._entries = entries
        self._unchanged = unchanged
        self.rows = sum(entry.rows for entry in entries)
        self.failed = sum(entry.failed for entry in entries)
        #: The first rows that failed, and why.
        self.errors: list[tuple[int, str]] = []

    def run(self, target: Path, column: str) -> Iterator[int]:
        """Rows that are written, as it goes on. `column` is the predictions'."""
        target = target.resolve()  # what a link leads to is replaced, not the link
        kind = kind_of(target)
        names = self._names(column, kind)
        new = target.with_name(f".{target.name}.{os.getpid()}.new")
        try:
            with closing(open_target(new, kind, self._source, names)) as file:
                if file.surveys:
                    for _, piece, outcome in self._pieces():
                        file.survey(piece, outcome)
                for start, piece, outcome in self._pieces():
                    file.write(piece, outcome)
                    for place in sorted(outcome.errors)[: _NAMED - len(self.errors)]:
                        self.errors.append((start + place, outcome.errors[place]))
                    yield start + piece.rows
            if not self._unchanged():
                raise InvalidInput(_CHANGED)
            _sync(new)
            new.replace(target)
        finally:
            with suppress(FileNotFoundError):
                new.unlink()

    def _names(self, column: str, kind: str) -> list[str]:
        """`column`, and that of errors where there are any; the source has neither."""
        taken = set(self._source.names())
        # The lines of JSONL have names of their own. A target of the same kind sees them in time.
        if isinstance(self._source, JsonlSource) and (self.failed or kind != "jsonl"):
            for _, piece, _ in self._pieces():
                taken.update(piece.columns())
        if column in taken:
            raise InvalidInput(
                f"Lines of the source have {column!r} already: output_column= (--output-column) "
                "names the predictions' column. What is done is kept."
            )
        if not self.failed:
            return [column]
        others = (f"{column}_error_{n}" for n in count(2))
        free = chain(["error", f"{column}_error"], others)
        return [column, next(name for name in free if name not in taken | {column})]

    def _pieces(self) -> Iterator[tuple[int, Piece, Outcome]]:
        """All rows, with what came of them."""
        self._source.rewind()
        start = 0
        for entry in self._entries:
            piece = self._source.take(entry.rows, whole=True)
            if piece is None or piece.rows != entry.rows or start != entry.start:
                raise InvalidInput(_CHANGED)
            yield start, piece, self._journal.read(entry)
            start += entry.rows


def _sync(path: Path) -> None:
    """Before it takes the place of another: a power cut must not leave an empty one."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
