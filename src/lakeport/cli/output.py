"""What the commands print: text for people, TSV for pipes, JSON or YAML as the REST API has it."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import click

Format = Literal["text", "json", "yaml"]
FORMATS: tuple[Format, ...] = ("text", "json", "yaml")
FORMAT_VARIABLE = "DATABRICKS_OUTPUT_FORMAT"

#: Terminal commands, and other characters that a terminal obeys instead of showing.
_COMMANDS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_COLOURS = {
    "READY": "green",
    "NOT_UPDATING": "green",
    "DEPLOYMENT_READY": "green",
    "NOT_READY": "yellow",
    "IN_PROGRESS": "yellow",
    "DEPLOYMENT_CREATING": "yellow",
    "DEPLOYMENT_RECOVERING": "yellow",
    "UPDATE_FAILED": "red",
    "UPDATE_CANCELED": "red",
    "DEPLOYMENT_FAILED": "red",
    "DEPLOYMENT_ABORTED": "red",
}
_GAP = "  "


def chosen_format(flag: str | None, environment: Mapping[str, str]) -> Format:
    """The flag's, or the environment's. Raises click.UsageError."""
    wanted = flag or environment.get(FORMAT_VARIABLE) or "text"
    if wanted.lower() not in FORMATS:
        raise click.UsageError(
            f"{FORMAT_VARIABLE} is {wanted!r}: it must be one of {', '.join(FORMATS)}."
        )
    return cast(Format, wanted.lower())


@dataclass(frozen=True, slots=True)
class Output:
    """How one command speaks: results on stdout, all else on stderr."""

    format: Format = "text"
    #: No progress and no notes; results and errors only.
    quiet: bool = False

    def show(self, document: Any, text: Callable[[Any], None] | None = None) -> None:
        """A reply of the API, whole; in the format "text", what `text` makes of it (JSON without
        it)."""
        if self.format == "text" and text is not None:
            text(document)
        else:
            click.echo(dumped(document, "json" if self.format == "text" else self.format))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Aligned, with a head, for a terminal; lines of TSV without one for a pipe."""
        cells = [[cell(value) for value in row] for row in rows]
        if not sys.stdout.isatty():
            lines = ["\t".join(row) for row in cells]
        else:
            head = [column.upper() for column in columns]
            plain, *others = aligned([head, *cells], colour=coloured())
            lines = [click.unstyle(plain), *others]  # READY is a state below, and a name here
        for line in lines:
            click.echo(line)

    def fields(self, pairs: Iterable[tuple[str, object]]) -> None:
        """One named value a line; those that are None or "" are left out."""
        rows = [[name, cell(value)] for name, value in pairs if value not in (None, "")]
        if not sys.stdout.isatty():
            lines = ["\t".join(row) for row in rows]
        else:
            lines = aligned([[f"{name}:", value] for name, value in rows], colour=coloured())
        for line in lines:
            click.echo(line)

    def gap(self) -> None:
        """An empty line between two tables, for people."""
        if sys.stdout.isatty():
            click.echo()

    def text(self, text: str) -> None:
        """Text of the server's: without colours into a pipe, without anything that a terminal would
        obey on a terminal."""
        shown = _fit(text)
        click.echo(shown, nl=False)
        if not shown.endswith("\n"):
            click.echo()

    def piece(self, text: str) -> None:
        """A piece of a text that is still coming, at once."""
        click.echo(_fit(text), nl=False)
        sys.stdout.flush()

    def note(self, line: str) -> None:
        """A word on stderr."""
        if not self.quiet:
            click.echo(printable(line), err=True)

    def error(self, code: str, message: str, more: Mapping[str, Any] | None = None) -> None:
        """`Error: CODE: message` on stderr; with `more`, as a document, in the other formats."""
        if self.format == "text":
            click.echo(f"Error: {code}: {printable(message)}", err=True)
        else:
            document = {"error_code": code, "message": message} | dict(more or {})
            click.echo(dumped(document, self.format), err=True)


def dumped(document: Any, format: Literal["json", "yaml"]) -> str:
    """The document as text, without a newline at the end."""
    if format == "json":
        found = json.dumps(document, indent=2, ensure_ascii=False)
        # What JSON allows and a terminal obeys, or UTF-8 cannot say: the same string, escaped.
        return re.sub(r"[\x7f-\x9f\ud800-\udfff]", lambda m: f"\\u{ord(m[0]):04x}", found)

    import yaml  # late: help does not need it

    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).removesuffix("\n")


def printable(text: str) -> str:
    """`text` without what a terminal would obey."""
    return _CONTROL.sub("", _COMMANDS.sub("", text.replace("\r\n", "\n")))


def _fit(text: str) -> str:
    """`text` as standard output can take it: a terminal must not obey it, UTF-8 must have it."""
    return printable(text) if sys.stdout.isatty() else text.encode(errors="replace").decode()


def cell(value: object) -> str:
    """One value in a table: on one line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return dumped_short(value)
    return " ".join(printable(str(value)).split()) if not isinstance(value, float) else repr(value)


def dumped_short(value: Any) -> str:
    """JSON on one line."""
    found = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\ud800-\udfff]", lambda m: f"\\u{ord(m[0]):04x}", found)


def aligned(rows: Sequence[Sequence[str]], *, colour: bool = False) -> list[str]:
    """Rows of equal length as lines whose columns begin under one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        lines.append(_GAP.join(map(_tinted, cells) if colour else cells).rstrip())
    return lines


def _tinted(cell: str) -> str:
    """A padded cell; a state's word in its colour."""
    word = cell.rstrip()
    tint = _COLOURS.get(word)
    return click.style(word, fg=tint) + cell[len(word) :] if tint else cell


def coloured() -> bool:
    """Whether the terminal gets colours: NO_COLOR and TERM=dumb say that it does not."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
