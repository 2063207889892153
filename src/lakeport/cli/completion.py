"""Completion in the shell: the script for it, and the names of endpoints."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from lakeport.cli.connection import chosen, connect

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_LAKEPORT_COMPLETE"
#: Seconds: nobody waits longer for a Tab.
PATIENCE = 1.5


@click.command(short_help="Print the script that completes commands in a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete commands, options and names of endpoints.

    \b
    Example:
      source <(lakeport completion bash)
    """
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root()
    made = get_completion_class(shell)
    assert made is not None, "click knows each of SHELLS"
    # Not `source()`: that starts a bash to warn of versions from before 2016.
    writer = made(root.command, {}, "lakeport", VARIABLE)
    click.echo(writer.source_template % writer.source_vars())


def endpoint_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """The names of endpoints that begin with `incomplete`; none when nobody answers in time."""
    from click.shell_completion import CompletionItem

    reply = _asked(ctx, "/api/2.0/serving-endpoints")
    return [
        CompletionItem(name, help=(found.get("state") or {}).get("ready"))
        for found in reply.get("endpoints", [])
        if (name := str(found.get("name"))).startswith(incomplete)
    ]


def entity_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """The same for the served entities of the endpoint that is named already."""
    from click.shell_completion import CompletionItem

    from lakeport.cli.endpoints_text import entities

    name = ctx.params.get("name")
    reply = _asked(ctx, f"/api/2.0/serving-endpoints/{quote(name, safe='')}") if name else {}
    names = [str(entity.get("name")) for entity in entities(reply)]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _asked(ctx: click.Context, path: str) -> dict[str, Any]:
    """The reply; {} for whatever goes wrong, since a completion has no place to say it."""
    try:
        from lakeport.client.retry import Retry

        host, profile = chosen(ctx)
        options = {"connect_timeout": PATIENCE, "timeout": PATIENCE, "retry": Retry(attempts=1)}
        with _at_most(PATIENCE), connect(host, profile, **options) as client:
            reply = client.request("GET", path)
    except (Exception, _Late):  # noqa: BLE001 see above
        return {}
    return reply if isinstance(reply, dict) else {}


class _Late(BaseException):
    """Not an Exception: nobody on the way may take it for a failure of their own."""


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raises _Late after so long, signing in included: that may ask other programs. Not where the
    system knows no alarms."""

    def late(number: int, frame: object) -> None:
        raise _Late

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
