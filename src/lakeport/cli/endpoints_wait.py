"""Waiting until an endpoint's update has ended."""

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from lakeport.cli.connection import INTERRUPTED, LATE, CommandFailed
from lakeport.cli.endpoints_text import of_config
from lakeport.cli.output import Output, coloured, printable

#: Seconds between two looks: from the first to the last.
FIRST_PAUSE, LAST_PAUSE = 0.2, 5.0
#: Seconds for which a server may be away before the wait is given up.
AWAY = 60.0

FAILED = frozenset({"UPDATE_FAILED", "UPDATE_CANCELED"})
_BROKEN = frozenset({"DEPLOYMENT_FAILED", "DEPLOYMENT_ABORTED"})


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a served entity does not serve."""

    entity: str
    message: str


def going(found: Mapping[str, Any]) -> bool:
    """An update is under way. Raises CommandFailed, with each entity's reason, when it failed."""
    update = (found.get("state") or {}).get("config_update")
    if update in FAILED:
        raise _failure(str(found.get("name")), str(update), reasons(found))
    return update == "IN_PROGRESS"


def reasons(found: Mapping[str, Any]) -> list[Reason]:
    """The entities of a failed update that failed; all of them where none says so itself."""
    entities = of_config(found.get("pending_config")) or of_config(found.get("config"))
    states = [(str(entity.get("name")), entity.get("state") or {}) for entity in entities]
    broken = [(name, state) for name, state in states if state.get("deployment") in _BROKEN]
    return [
        Reason(name, state.get("deployment_state_message") or "no reason is given")
        for name, state in broken or states
    ]


def progress(found: Mapping[str, Any], passed: float) -> str:
    """One line: how far the entities that are on their way have come."""
    entities = of_config(found.get("pending_config")) or of_config(found.get("config"))
    parts = []
    for entity in entities:
        state = entity.get("state") or {}
        word = str(state.get("deployment") or "").removeprefix("DEPLOYMENT_").lower()
        message = str(state.get("deployment_state_message") or "").strip().partition("\n")[0]
        said = f"{word} ({message})" if word and message else word or message
        parts.append(f"{entity.get('name')} {said}".strip())
    return f"{found.get('name')}: {passed:.0f} s: {', '.join(parts) or 'updating'}"


def wait(
    out: Output,
    name: str,
    found: dict[str, Any],
    look: Callable[[], dict[str, Any]],
    *,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Look again and again until no update runs; the endpoint then.

    `found` is what is known now. Raises CommandFailed when the update failed, when it has not ended
    after `timeout` seconds, and on Ctrl-C, which does not end the update.
    """
    from lakeport.client.errors import ConnectionFailed, NotReady, ServerError

    line = _Line(out)
    began = seen = clock()
    pause = FIRST_PAUSE
    try:
        while going(found):
            passed = clock() - began
            if passed >= timeout:
                raise CommandFailed("DEADLINE_EXCEEDED", _still(name, timeout), status=LATE)
            line.say(progress(found, passed), of=progress(found, 0))
            sleep(min(pause, timeout - passed))
            pause = min(pause * 1.5, LAST_PAUSE)
            try:
                found = look()
                seen = clock()
            except (ConnectionFailed, NotReady, ServerError) as error:
                # A restart of the server ends no update.
                if clock() - seen > AWAY:
                    raise
                line.say(f"{name}: {error.message}")
    except KeyboardInterrupt as error:
        line.end()
        out.note(
            f"Stopped waiting; the update of {name} goes on. "
            f"`lakeport serving-endpoints get {name}` shows how far it is."
        )
        raise click.exceptions.Exit(INTERRUPTED) from error
    finally:
        line.end()
    return found


def _failure(name: str, update: str, why: list[Reason]) -> CommandFailed:
    word = "failed" if update == "UPDATE_FAILED" else "was canceled"
    lines = [f"  {reason.entity}: {reason.message}" for reason in why]
    return CommandFailed(
        update,
        "\n".join([f"the update of {name} {word}.", *lines]),
        more={
            "endpoint": name,
            "entities": [{"name": r.entity, "message": r.message} for r in why],
        },
    )


def _still(name: str, timeout: float) -> str:
    return (
        f"{name} is still updating after {timeout:g} s; the update goes on. "
        f"`lakeport serving-endpoints get {name}` shows how far it is."
    )


class _Line:
    """Progress on stderr: one line that changes on a terminal, a line for each news elsewhere."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._moving = sys.stderr.isatty() and coloured()
        self._last = ""
        self._open = False

    def say(self, text: str, *, of: str = "") -> None:
        """`of`: the news in it, without what changes by itself."""
        if self._out.quiet:
            return
        if self._moving:
            width = shutil.get_terminal_size().columns - 1
            click.echo(f"\r\x1b[K{printable(text)[:width]}", err=True, nl=False, color=True)
            self._open = True
        elif (news := of or text) != self._last:
            click.echo(printable(text), err=True)
            self._last = news

    def end(self) -> None:
        if self._open:
            click.echo("\r\x1b[K", err=True, nl=False, color=True)
            self._open = False
