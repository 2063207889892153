"""Files that a batch reads and writes: what Parquet, CSV and JSONL have in common."""

from collections.abc import Mapping
from typing import Any, Protocol

from lakeport.client.batch.journal import Outcome
from lakeport.client.batch.plan import Bounds, Chunk
from lakeport.client.batch.sends import Sends


class Piece(Protocol):
    """Some rows of a source."""

    @property
    def rows(self) -> int: ...

    def chunks(self, start: int, sends: Sends) -> tuple[list[Chunk], Mapping[int, str]]:
        """What is sent for them, and the errors of rows that cannot be, by their place here.
        `start`: the place of the first row in the source."""

    def columns(self) -> Mapping[str, list[Any]]:
        """Their values, by column."""


class Source(Protocol):
    """A file of rows. Use it as a context manager."""

    #: Rows in all, where that is known before it is read.
    total: int | None

    def names(self) -> tuple[str, ...]:
        """Its columns; those of the first rows where each row has its own."""

    def take(self, most: int | None = None, *, whole: bool = False) -> Piece | None:
        """The next rows: as many as fit one request, `most` at most; just so many with `whole`.
        None at the end."""

    def rewind(self, bounds: Bounds | None = None) -> None:
        """Begin at the first row; `bounds` are those of a request from now on."""

    def close(self) -> None: ...


class Target(Protocol):
    """A file that gets the rows of a source, with what came of them."""

    @property
    def surveys(self) -> bool:
        """It must `survey` every row before it can `write` the first."""

    def survey(self, piece: Piece, outcome: Outcome) -> None: ...

    def write(self, piece: Piece, outcome: Outcome) -> None: ...

    def close(self) -> None: ...
