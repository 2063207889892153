"""`lakeport events`: what happened to endpoints, and what does."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from lakeport.cli.completion import endpoint_names
from lakeport.cli.connection import Session, connected
from lakeport.cli.following import LOOK, document, follow, stamp
from lakeport.cli.inputs import duration, filled
from lakeport.cli.output import Output, cell, coloured

EVENTS = "/api/2.0/lakeport/events"
#: Events of one answer.
PAGE = 1000
#: Looks between two at whether the ids still grow.
LOOKS = 30
COLUMNS = ("time", "endpoint", "entity", "kind", "actor", "message")
#: Kinds that somebody should look at.
TROUBLE = frozenset(
    (
        "update_failed", "start_failed", "replica_ended", "replica_hung", "out_of_memory",
        "unavailable",
    )
)  # fmt: skip


@click.command(short_help="Show what happened to endpoints.")
@click.argument("name", required=False, callback=filled, shell_complete=endpoint_names)
@click.option("--watch", "-w", is_flag=True, help="Go on with those that come, until Ctrl-C.")
@click.option(
    "--since", callback=duration, metavar="DURATION", help="Only of the last 90s, 20m or 1h30m."
)
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only such; several may be.")
@click.option(
    "--lines", "-n", "count", type=click.IntRange(0, PAGE), metavar="N",
    help="The newest so many.  [default: 100, and with --since all]",
)  # fmt: skip
@connected
def events(
    session: Session,
    name: str | None,
    *,
    watch: bool,
    since: float | None,
    kinds: tuple[str, ...],
    count: int | None,
) -> None:
    """Show what happened to the endpoint NAME, or to all that you may see: updates, replicas that
    ended, and who asked for what.

    With -w and -o json, each event is a line.

    \b
    Examples:
      lakeport events iris --since 1h
      lakeport events -w --kind replica_ended --kind start_failed
    """
    if watch:
        session.once = LOOK
    seen = Seen(session, {"endpoint": name, "kind": list(kinds) or None})
    oldest = None if since is None else max(round((time.time() - since) * 1000), 0)
    if oldest is not None and count is None:
        found = seen.all(oldest)
    else:
        found = seen.newest(100 if count is None else count, oldest)
    if not watch:
        rows = [row(event) for event in found]
        session.out.show({"events": found}, lambda _: session.out.table(COLUMNS, rows))
        return
    lines = Lines(session.out)
    lines.show(found)

    def look() -> bool:
        new = seen.next()
        lines.show(new)
        return len(new) == PAGE

    follow(session.out, look, back=seen.again)


class Seen:
    """Events of a workspace, each once."""

    def __init__(self, session: Session, wanted: Mapping[str, Any]) -> None:
        self._session = session
        self._wanted = wanted
        #: The id of the last one, and its time.
        self.last = self._at = 0
        self._looks = 0

    def newest(self, count: int, since: int | None) -> list[dict[str, Any]]:
        found = self._ask(newest="true", limit=max(count, 1), since=since)
        return self._noted(found)[-count:] if count else self._noted(found)[:0]

    def all(self, since: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self._noted(self._ask(after=self.last, since=since, limit=PAGE))
            found += page
            if len(page) < PAGE:
                return found

    def next(self) -> list[dict[str, Any]]:
        """Those since the last look."""
        self._looks += 1
        if self._looks % LOOKS == 0:
            self.again()
        return self._noted(self._ask(after=self.last, limit=PAGE))

    def again(self) -> None:
        """The server may have lost its store, and then counts anew: later events, lower ids."""
        newest = self._ask(newest="true", limit=1)
        if newest and newest[-1]["id"] <= self.last and newest[-1]["at"] > self._at:
            self._session.out.note("The workspace's events begin anew.")
            self.last = self._at = 0

    def _ask(self, **query: Any) -> list[dict[str, Any]]:
        reply = self._session.ask_own(EVENTS, **self._wanted, **query)
        found = reply.get("events")
        if not isinstance(found, list) or not all(map(_is_event, found)):
            raise self._session.no_reply("GET", EVENTS)
        return found

    def _noted(self, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if found:
            self.last, self._at = found[-1]["id"], found[-1]["at"]
        return found


def _is_event(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(found.get(f), int) for f in ("id", "at"))


class Lines:
    """Events as they come: columns that grow on a terminal, TSV in a pipe, documents."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._widths = [0] * len(COLUMNS)

    def show(self, found: Sequence[Mapping[str, Any]]) -> None:
        if self._out.format != "text":
            for event in found:
                document(self._out, event)
            return
        rows = [row(event) for event in found]
        if not sys.stdout.isatty():
            self._out.piece("".join("\t".join(cells) + "\n" for cells in rows))
            return
        for cells in rows:
            self._widths = [max(w, len(c)) for w, c in zip(self._widths, cells, strict=True)]
        for cells in rows:
            click.echo(padded(cells, self._widths, colour=coloured()))


def row(event: Mapping[str, Any]) -> tuple[str, ...]:
    """The event's cells, in the order of COLUMNS."""
    at = event.get("at")
    return (
        stamp(at) if isinstance(at, int) else "",
        *(cell(event.get(name)) for name in COLUMNS[1:]),
    )


def padded(cells: Sequence[str], widths: Sequence[int], *, colour: bool) -> str:
    """One line; the kind of an event that somebody should look at in red."""
    shown = [text.ljust(width) for text, width in zip(cells, widths, strict=True)]
    kind = COLUMNS.index("kind")
    if colour and cells[kind] in TROUBLE:
        shown[kind] = click.style(shown[kind], fg="red")
    return "  ".join(shown).rstrip()
