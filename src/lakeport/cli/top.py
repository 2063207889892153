"""`lakeport top`: how busy endpoints are, live in the terminal."""

import os
import select
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from lakeport.cli import top_table as table
from lakeport.cli.completion import endpoint_names
from lakeport.cli.connection import MISSING, CommandFailed, Session, connected
from lakeport.cli.following import LOOK, away, stamp
from lakeport.cli.inputs import duration, filled
from lakeport.cli.output import coloured, printable

if TYPE_CHECKING:
    from rich.console import RenderableType

LIVE = "/api/2.0/lakeport/live"
#: Seconds between two looks, at least.
SHORTEST = 0.2
_STATES = {"READY": "green", "NOT_READY": "yellow"}


@click.command(short_help="Show how busy endpoints are, live.")
@click.argument("name", required=False, callback=filled, shell_complete=endpoint_names)
@click.option("--once", is_flag=True, help="Once, and not on and on.")
@click.option(
    "--every", callback=duration, default="2s", show_default=True, metavar="DURATION",
    help="Between two looks.",
)  # fmt: skip
@connected
def top(session: Session, name: str | None, *, once: bool, every: float) -> None:
    """Show the replicas, requests, queues and memory of what the endpoint NAME serves, or of all
    that you may see: over the last ten seconds, on and on. q ends it.

    Into a pipe, and with -o json or yaml, it is shown once.

    \b
    Examples:
      lakeport top
      lakeport top iris --once -o json
    """
    if once or session.out.format != "text" or not (sys.stdout.isatty() and sys.stdin.isatty()):
        _show(session, look(session, name), name)
        return
    session.once = LOOK
    first = look(session, name)
    Screen(session, name).run(first, max(every, SHORTEST))


def look(session: Session, name: str | None) -> dict[str, Any]:
    """The live state, of one endpoint or all. Raises CommandFailed where there is no such."""
    live = session.ask_own(LIVE)
    if not isinstance(live.get("endpoints"), list):
        raise session.no_reply("GET", LIVE)
    found = table.chosen(live, name)
    if name is not None and not found:
        raise CommandFailed(
            "RESOURCE_DOES_NOT_EXIST",
            f"There is no endpoint {name!r} that you may see.",
            status=MISSING,
        )
    return live | {"endpoints": found}


def _show(session: Session, live: dict[str, Any], name: str | None) -> None:
    def text(_: Any) -> None:
        session.out.table(table.ENTITIES, table.entities(live, name))
        if name is not None and (rows := table.replicas(live, name)):
            session.out.gap()
            session.out.table(table.REPLICAS, rows)

    session.out.show(live, text)


class Screen:
    """The whole terminal, drawn anew after each look."""

    def __init__(self, session: Session, name: str | None) -> None:
        self._session = session
        self._name = name

    def run(self, live: dict[str, Any], every: float) -> None:
        """Until q or Ctrl-C. A server that is away is told of and waited for."""
        from rich.console import Console
        from rich.live import Live

        console = Console(no_color=not coloured(), highlight=False)
        trouble = ""
        with Keys() as keys, Live(console=console, screen=True, auto_refresh=False) as shown:
            while True:
                shown.update(self.drawn(live, trouble, *console.size), refresh=True)
                if keys.quit_within(every):
                    return
                try:
                    live, trouble = look(self._session, self._name), ""
                except away() as error:
                    trouble = f"{error} Waiting for it …"

    def drawn(
        self, live: dict[str, Any], trouble: str, width: int, height: int
    ) -> "RenderableType":
        """The screen's content; `trouble`: why what is shown is old."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        at = stamp(int(live.get("at") or 0))[11:19]
        head = f"{self._session.client.host}  {at} UTC  {table.total(live, self._name)}  (q: quit)"
        lines: list[Text | Table] = [
            Text(printable(head), style="bold", no_wrap=True, overflow="ellipsis"),
            Text(printable(trouble), style="red", no_wrap=True, overflow="ellipsis"),
        ]
        room = height - len(lines)
        parts: list[tuple[Sequence[str], list[tuple[str, ...]]]]
        parts = [(table.ENTITIES, table.entities(live, self._name))]
        if self._name is not None:
            parts.append((table.REPLICAS, table.replicas(live, self._name)))
        for columns, rows in parts:
            if room < 3:
                break
            kept, cells = table.fitting(columns, rows, width)
            grid = Table(box=None, padding=(0, table.GAP, 0, 0), pad_edge=False)
            for column in kept:
                words = column in table.WORDS
                grid.add_column(
                    column.upper(), justify="left" if words else "right", no_wrap=True,
                    overflow="ellipsis", header_style="bold cyan",
                )  # fmt: skip
            # One line of the rest is the head, one says how many more there are, one is a gap.
            fits = len(cells) if len(cells) + 2 <= room else room - 3
            for row in cells[:fits]:
                tints = [_STATES.get(text.split(" ")[0], "") for text in row]
                grid.add_row(
                    *(
                        Text(printable(text), style=tint)
                        for text, tint in zip(row, tints, strict=True)
                    ),
                    style="dim" if trouble else "",
                )
            lines.append(grid)
            if fits < len(cells):
                lines.append(Text(f"and {len(cells) - fits} more"))
            lines.append(Text(""))
            room -= fits + 3
        return Group(*lines)


class Keys(AbstractContextManager["Keys"]):
    """Keys as they are pressed, where the system lets one read them: Ctrl-C works everywhere."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        try:
            import termios
            import tty
        except ImportError:  # Windows
            return self
        descriptor = sys.stdin.fileno()
        try:
            self._before = termios.tcgetattr(descriptor)
            tty.setcbreak(descriptor)
        except termios.error:
            self._before = None
        return self

    def quit_within(self, seconds: float) -> bool:
        """Whether q was pressed; waits so long for it."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._before is None:
                time.sleep(left)
            elif select.select([sys.stdin], [], [], left)[0]:
                pressed = os.read(sys.stdin.fileno(), 64)
                if not pressed or b"q" in pressed or b"Q" in pressed:
                    return True
        return False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            import termios

            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)
