"""The first half of a batch from file to file: rows → the journal."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from queue import SimpleQueue

from lakeport.client.batch.engine import Engine, Part
from lakeport.client.batch.files import Piece, Source
from lakeport.client.batch.journal import Entries, Entry, Journal, Outcome
from lakeport.client.batch.loop import Submit
from lakeport.client.batch.plan import Chunk
from lakeport.client.batch.sends import Sends
from lakeport.client.errors import InvalidInput, LakeportError

#: Characters of an error in a target.
_MESSAGE = 1000


class Stopped(Exception):
    """The caller of a batch has left it."""


@dataclass(eq=False, slots=True)
class Running:
    """Rows whose requests are on their way."""

    start: int
    rows: int
    #: What is known of them already: of rows that are tried again, and of those that can't be sent.
    predictions: list[object]
    errors: dict[int, str]
    #: None: not begun, since Ctrl-C came in between.
    future: Future[list[Part]] | None = None

    @property
    def came(self) -> bool:
        """There is an outcome."""
        future = self.future
        return bool(future and future.done() and not (future.cancelled() or future.exception()))

    def outcome(self) -> Outcome:
        """Of all rows, once the future is done. Raises what ended it."""
        for part in self.future.result() if self.future else ():
            at = part.start - self.start
            if part.error is not None:
                message = _message(part.error)
                self.errors |= dict.fromkeys(range(at, at + part.rows), message)
            elif part.rows == self.rows:
                self.predictions = list(part.values)
            else:
                self.predictions[at : at + part.rows] = part.values
        return Outcome(self.predictions, self.errors)


class Predicting:
    """Sends what is not done, some requests ahead, and journals what comes, in any order."""

    def __init__(
        self,
        source: Source,
        sends: Sends,
        engine: Engine,
        journal: Journal,
        *,
        ahead: int,
        most: int,
    ) -> None:
        """`ahead`: requests that may be begun, or done and not yet in the journal. `most`: rows of
        one request."""
        self._source = source
        self._sends = sends
        self._engine = engine
        self._journal = journal
        self._ahead = ahead
        self._most = most
        #: Those that came to an end, and None when the caller has left.
        self._ended: SimpleQueue[Running | None] = SimpleQueue()
        self._running: set[Running] = set()
        #: Rows of earlier runs.
        self.resumed = 0

    def stop(self) -> None:
        """Make `run` end soon, by Stopped. From any thread."""
        self._ended.put(None)

    def run(
        self, submit: Submit, entries: Entries, *, retry_failed: bool
    ) -> Iterator[tuple[int, int]]:
        """Numbers of rows that are done, and of those of them that failed, as they come.

        `entries`: what is done already; `retry_failed`: but for their rows that failed. However it
        ends, what came is in the journal.
        """
        try:
            for start, piece, entry in self._pieces(entries):
                if entry is None:
                    self._begin(start, piece, None, submit)
                elif entry.failed and retry_failed:
                    self._begin(start, piece, self._journal.read(entry), submit)
                else:
                    self.resumed += entry.rows
                    yield entry.rows, entry.failed
                while len(self._running) >= self._ahead:
                    yield self._wait()
            while self._running:
                yield self._wait()
        finally:
            self._leave()

    def _pieces(self, entries: Entries) -> Iterator[tuple[int, Piece, Entry | None]]:
        """All rows of the source, those of an entry together."""
        start = 0
        for entry in chain(entries, [None]):
            while entry is None or start < entry.start:
                piece = self._source.take(None if entry is None else entry.start - start)
                if piece is None:
                    break
                yield start, piece, None
                start += piece.rows
            if entry is None:
                return
            piece = self._source.take(entry.rows, whole=True)
            if piece is None or piece.rows < entry.rows:
                raise InvalidInput("The source has fewer rows than it had.")
            yield start, piece, entry
            start += entry.rows

    def _begin(self, start: int, piece: Piece, before: Outcome | None, submit: Submit) -> None:
        chunks, errors = piece.chunks(start, self._sends)
        if before is None:
            run = Running(start, piece.rows, [None] * piece.rows, dict(errors))
        else:
            again = {start + place for place in before.errors}
            chunks = list(_only(chunks, again, self._most))
            run = Running(start, piece.rows, list(before.predictions), dict(errors))
        self._running.add(run)
        work = _settle(self._engine, chunks)
        try:
            run.future = submit(work)
        except BaseException:  # Ctrl-C: Python would warn of work that was never begun
            with suppress(ValueError):
                work.close()
            raise
        run.future.add_done_callback(lambda _: self._ended.put(run))

    def _wait(self) -> tuple[int, int]:
        run = self._ended.get()
        if run is None:
            raise Stopped
        self._running.discard(run)
        outcome = run.outcome()
        self._journal.add(run.start, outcome)
        return run.rows, len(outcome.errors)

    def _leave(self) -> None:
        """Keep what came, and cancel the rest."""
        for run in self._running:
            if run.came:
                self._journal.add(run.start, run.outcome())
            elif run.future:
                run.future.cancel()


async def _settle(engine: Engine, chunks: Sequence[Chunk]) -> list[Part]:
    return [part for chunk in chunks for part in await engine.settle(chunk)]


def _only(chunks: Sequence[Chunk], places: set[int], most: int) -> Iterator[Chunk]:
    """The parts of chunks that hold these items; neighbours stay together, `most` at most."""
    for chunk in chunks:
        begin: int | None = None
        for at in range(chunk.rows + 1):
            wanted = at < chunk.rows and chunk.start + at in places
            if wanted and begin is None:
                begin = at
            elif begin is not None and (not wanted or at - begin == most):
                yield chunk.part(begin, at)
                begin = at if wanted else None


def _message(error: LakeportError) -> str:
    return error.message if len(error.message) <= _MESSAGE else error.message[:_MESSAGE] + " …"
