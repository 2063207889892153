"""`lakeport batch`: the rows of a file through an endpoint, into another file."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from lakeport.cli.completion import endpoint_names
from lakeport.cli.connection import FAILED, CommandFailed, Session, connected
from lakeport.cli.inputs import duration, filled, read_object
from lakeport.cli.output import Output

if TYPE_CHECKING:
    from lakeport.client.batch import BatchProgress, BatchReport

#: Seconds between two lines where there is no terminal to draw a bar on.
_PAUSE = 10.0
#: The first of the rows that failed are named.
_NAMED = 3


@click.command(short_help="Ask an endpoint about every row of a file.")
@click.argument("name", callback=filled, shell_complete=endpoint_names)
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=8, show_default=True,
    help="Requests at a time.",
)  # fmt: skip
@click.option(
    "--rows", type=click.IntRange(min=1), default=1000, show_default=True,
    help="Rows of one request, at most.",
)  # fmt: skip
@click.option("--params", metavar="JSON|@FILE", help="The model's params, for every request.")
@click.option(
    "--fields", metavar="JSON|@FILE", help="More of a chat's body: '{\"max_tokens\": 50}'."
)
@click.option("--entity", metavar="NAME", help="This served entity, whatever the traffic.")
@click.option(
    "--input-column", metavar="COLUMN",
    help="The column with the inputs.  [default: those of the model's signature, or all; for a "
    "language endpoint messages, prompt, input, text or content]",
)  # fmt: skip
@click.option(
    "--output-column", metavar="COLUMN", default="prediction", show_default=True,
    help="The column that gets the predictions.",
)  # fmt: skip
@click.option(
    "--resume", "how", flag_value="resume", default="resume",
    help="Go on where a run that ended early left off.  [default]",
)  # fmt: skip
@click.option(
    "--overwrite", "how", flag_value="overwrite",
    help="Begin anew, and replace TARGET where it is there.",
)  # fmt: skip
@click.option("--retry-failed", is_flag=True, help="Going on, try rows again that failed.")
@click.option(
    "--unsafe-retries", is_flag=True,
    help="Send requests again that may have been run: after a timeout, a broken connection, a 5xx.",
)  # fmt: skip
@click.option(
    "--timeout", callback=duration, default="10m", show_default=True, metavar="DURATION",
    help="For one request: 90s, 20m.",
)  # fmt: skip
@connected
def batch(
    session: Session,
    /,
    name: str,
    source: Path,
    target: Path,
    *,
    concurrency: int,
    rows: int,
    params: str | None,
    fields: str | None,
    entity: str | None,
    input_column: str | None,
    output_column: str,
    how: str,
    retry_failed: bool,
    unsafe_retries: bool,
    timeout: float,
) -> None:
    """Ask the endpoint NAME about every row of SOURCE; TARGET gets its columns and `prediction`,
    and `error` where rows failed.

    Each is a Parquet, CSV or JSONL file, by the end of its name. A run that is stopped, by Ctrl-C
    or by force, keeps what is done in TARGET.lakeport-batch: the same command goes on from there.

    \b
    Examples:
      lakeport batch iris in.parquet out.parquet
      lakeport batch helper questions.csv answers.jsonl --fields '{"max_tokens": 50}'
      lakeport batch iris in.parquet out.parquet --retry-failed

    Exit code 1: some rows failed.
    """
    from lakeport.client.retry import Retry  # late: help does not need it

    shown: Shown = Bar() if sys.stderr.isatty() and not session.out.quiet else Lines(session.out)
    with _told_when_it_ends_early(session.out, shown), shown:
        report = session.client.batch_file(
            name,
            str(source),
            str(target),
            concurrency=concurrency,
            chunk_rows=rows,
            params=read_object(params, name="--params") if params else None,
            fields=read_object(fields, name="--fields") if fields else None,
            entity=entity,
            input_column=input_column,
            output_column=output_column,
            overwrite=how == "overwrite",
            retry_failed=retry_failed,
            retry=Retry(unsafe=unsafe_retries),
            timeout=timeout,
            progress=shown.update,
        )
    session.out.show(_document(report), lambda _: _tell(session.out, report))
    if report.failed:
        raise click.exceptions.Exit(FAILED)


@contextmanager
def _told_when_it_ends_early(out: Output, shown: "Shown") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CommandFailed("IO_ERROR", f"{where}{error.strerror or error}") from error
    except BaseException as error:  # Ctrl-C too: whoever stops it wants to know what is kept
        for note in getattr(error, "__notes__", ()):
            out.note(note)
        if shown.done:
            out.note(f"{shown.done:,} rows are kept; the same command goes on from there.")
        raise


def _document(report: "BatchReport") -> dict[str, Any]:
    return {
        "endpoint": report.endpoint,
        "target": str(report.target),
        "rows": report.rows,
        "failed": report.failed,
        "resumed": report.resumed,
        "requests": report.requests,
        "seconds": round(report.seconds, 3),
        "errors": [{"row": row, "message": message} for row, message in report.errors],
    }


def _tell(out: Output, report: "BatchReport") -> None:
    new = report.rows - report.resumed
    speed = f", {new / report.seconds:,.0f} rows/s" if new and report.seconds else ""
    before = f" ({report.resumed:,} of an earlier run)" if report.resumed else ""
    out.text(f"{report.target}: {report.rows:,} rows{before} in {report.seconds:.1f} s{speed}")
    for row, message in report.errors[:_NAMED]:
        out.note(f"Row {row}: {message}")
    if report.failed:
        out.note(
            f"{report.failed:,} rows failed: the column `error` says why, and --retry-failed tries "
            "them again."
        )


class Shown(AbstractContextManager["Shown"]):
    """How far a batch is, for people: on stderr."""

    def __init__(self) -> None:
        #: Rows that are done.
        self.done = 0

    def update(self, now: "BatchProgress") -> None:
        if now.stage == "predicting":
            self.done = now.done

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Lines(Shown):
    """A line now and then."""

    def __init__(self, out: Output) -> None:
        super().__init__()
        self._out = out
        self._said = time.monotonic()

    def update(self, now: "BatchProgress") -> None:
        super().update(now)
        if time.monotonic() - self._said < _PAUSE:
            return
        self._said = time.monotonic()
        of = f" of {now.total:,}" if now.total is not None else ""
        failed = f", {now.failed:,} failed" if now.failed else ""
        self._out.note(f"{now.stage}: {now.done:,}{of} rows{failed}, {now.seconds:.0f} s")


class Bar(Shown):
    """A bar with rows, speed and the time that is left."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,} rows{task.fields[note]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("predicting", total=None, note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, now: "BatchProgress") -> None:
        super().update(now)
        note = f", {now.done / now.seconds:,.0f}/s" if now.seconds else ""
        if now.failed:
            note += f", {now.failed:,} failed"
        self._bar.update(
            self._task, description=now.stage, completed=now.done, total=now.total, note=note
        )
