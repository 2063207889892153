"""Batches from file to file: predict what is not done, then put the target together."""

import asyncio
import time
from contextlib import closing
from pathlib import Path
from typing import Literal, Unpack

from lakeport.client.batch.engine import Engine
from lakeport.client.batch.files import Source
from lakeport.client.batch.formats import check, open_source
from lakeport.client.batch.journal import Journal, fingerprint
from lakeport.client.batch.loop import Loop, Submit
from lakeport.client.batch.options import FileOptions, Options
from lakeport.client.batch.plan import Bounds
from lakeport.client.batch.predicting import Predicting, Stopped
from lakeport.client.batch.results import Asks, BatchProgress, BatchReport, HasAsync
from lakeport.client.batch.sends import Sends
from lakeport.client.batch.writing import Writing
from lakeport.client.errors import InvalidInput


def batch_file(
    client: HasAsync,
    name: str,
    source: str | Path,
    target: str | Path,
    **options: Unpack[FileOptions],
) -> BatchReport:
    """Predict the rows of a Parquet, CSV or JSONL file into another: the source's columns, and
    `prediction`; and `error` where rows failed. Order and types are kept, memory is bounded.

    A run that ended early leaves `{target}.lakeport-batch`; the same call goes on from there, and
    the target is what an uninterrupted run would have made. It stays too when rows failed:
    `retry_failed=True` tries just those again.

    Raises InvalidInput, ConfigError (no pyarrow), FileNotFoundError, and what ends a batch: see
    `lakeport.client.batch`.
    """
    job = FileJob(name, Path(source), Path(target), options)
    with Loop(client.asynchronous()) as loop:
        return job.run(loop.client, loop.submit)


async def batch_file_async(
    client: Asks,
    name: str,
    source: str | Path,
    target: str | Path,
    **options: Unpack[FileOptions],
) -> BatchReport:
    """`batch_file` for an event loop: files are read and written in a thread, where `progress` is
    called too. Cancelling it keeps what was done."""
    job = FileJob(name, Path(source), Path(target), options)
    loop = asyncio.get_running_loop()
    work = loop.run_in_executor(
        None, job.run, client, lambda task: asyncio.run_coroutine_threadsafe(task, loop)
    )
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        job.stop()
        await asyncio.wait([work])
        work.exception()  # Stopped: seen
        raise


class FileJob:
    """One run. It blocks: the requests run on another thread's loop."""

    def __init__(self, name: str, source: Path, target: Path, options: FileOptions) -> None:
        """Raises InvalidInput, ConfigError when a file's format needs a missing library."""
        self._name = name
        self._source = source
        self._target = target
        self._overwrite = options.get("overwrite", False)
        self._retry_failed = options.get("retry_failed", False)
        self._input = options.get("input_column")
        self._output = options.get("output_column", "prediction")
        self._options = Options.of(options, FileOptions)
        self._journal = target.with_name(f"{target.name}.lakeport-batch")
        self._began = time.monotonic()
        self._predicting: Predicting | None = None
        self._stopped = False
        #: The source's fingerprint.
        self._read: object = None
        self._check()

    def stop(self) -> None:
        """Make `run` end soon, by Stopped. From any thread."""
        self._stopped = True
        if self._predicting:
            self._predicting.stop()

    def run(self, client: Asks, submit: Submit) -> BatchReport:
        """Raises InvalidInput, and what ends a batch; what was done until then is kept."""
        engine = Engine(client, self._name, self._options)
        with closing(open_source(self._source)) as source:
            sends = self._sends(source, engine, submit)
            header = self._header(client.host)
            self._read = header["source"]
            with Journal(self._journal, header, anew=self._overwrite) as journal:
                resumed = self._predict(source, sends, engine, journal, submit)
                written = self._write(source, journal)
                if not written.failed:
                    journal.remove()
        return BatchReport(
            endpoint=self._name,
            target=self._target,
            rows=written.rows,
            failed=written.failed,
            resumed=resumed,
            requests=engine.requests,
            seconds=time.monotonic() - self._began,
            errors=tuple(written.errors),
        )

    def _check(self) -> None:
        for path in (self._source, self._target):
            check(path)
        if not self._target.exists():
            return
        if self._target.is_dir():
            raise InvalidInput(f"{self._target} is a folder; name a file.")
        if self._source.exists() and self._source.samefile(self._target):
            raise InvalidInput("The target is the source; name another file.")
        if not self._overwrite and not self._journal.exists():
            raise InvalidInput(
                f"{self._target} is there already; overwrite=True (--overwrite) replaces it."
            )

    def _sends(self, source: Source, engine: Engine, submit: Submit) -> Sends:
        """What of the source's rows is sent; the source is at its first row then."""
        names = source.names()
        if self._output in names:
            raise InvalidInput(
                f"{self._source.name} has a column {self._output!r} already: output_column= "
                "(--output-column) names the predictions' column."
            )
        task = submit(engine.task()).result()
        signature = None if task else submit(engine.signature()).result()
        sends = Sends.of(names, task=task, signature=signature, column=self._input)
        # Where each row is a request of its own, each is journaled by itself.
        alone = task is not None and not task.endswith("/embeddings")
        bounds = self._options.bounds
        source.rewind(Bounds(1, bounds.bytes) if alone else bounds)
        return sends

    def _header(self, host: str) -> dict[str, object]:
        """What a run must have in common with the one that it goes on with."""
        query = self._options.query
        return {
            "lakeport_batch": 1,
            "host": host,
            "endpoint": self._name,
            "source": fingerprint(self._source),
            "input_column": self._input,
            **{option: query.get(option) for option in ("params", "fields", "entity")},
        }

    def _predict(
        self, source: Source, sends: Sends, engine: Engine, journal: Journal, submit: Submit
    ) -> int:
        """The number of rows that an earlier run had done."""
        entries = journal.entries()
        engine.answered = any(entry.failed < entry.rows for entry in entries)
        options = self._options
        self._predicting = Predicting(
            source, sends, engine, journal, ahead=options.ahead, most=options.bounds.rows
        )
        if self._stopped:
            raise Stopped
        done = failed = 0
        for rows, wrong in self._predicting.run(submit, entries, retry_failed=self._retry_failed):
            done, failed = done + rows, failed + wrong
            self._tell(done, failed, source.total, "predicting")
        return self._predicting.resumed

    def _write(self, source: Source, journal: Journal) -> Writing:
        writing = Writing(source, journal, journal.entries(), unchanged=self._is_unchanged)
        for done in writing.run(self._target, self._output):
            self._tell(done, writing.failed, writing.rows, "writing")
        return writing

    def _is_unchanged(self) -> bool:
        """The source is as it was when the run began; or gone, since it is still open."""
        try:
            return fingerprint(self._source) == self._read
        except FileNotFoundError:
            return True

    def _tell(
        self, done: int, failed: int, total: int | None, stage: Literal["predicting", "writing"]
    ) -> None:
        if self._options.progress:
            seconds = time.monotonic() - self._began
            self._options.progress(BatchProgress(done, failed, total, seconds, stage))
