"""`lakeport faults`: let endpoints fail on demand, in a workspace started with `--faults`."""

from typing import Any
from urllib.parse import quote, urlencode

import click

from lakeport.cli.completion import endpoint_names
from lakeport.cli.connection import MISSING, CommandFailed, Session, connected, shared
from lakeport.cli.inputs import duration, filled

FAULTS = "/api/2.0/lakeport/faults"
#: Kinds besides a status. The server checks which of the options go with which.
KINDS = ("slow", "timeout", "cut", "wake", "state", "bad_json")
COLUMNS = ("id", "endpoint", "fault", "left", "hits")


class Kind(click.ParamType[str]):
    """A status as a number, or the name of a kind."""

    name = "kind"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).lower().replace("-", "_")
        if not text.isdigit() and text not in KINDS:
            self.fail(
                f"{value!r} is no kind of fault: expected a status (429) or one of "
                f"{', '.join(KINDS)}.",
                param,
                ctx,
            )
        return text


@click.group("faults", short_help="Let endpoints fail, in a test workspace.")
@shared
def faults() -> None:
    """Let endpoints fail on demand, so that an application's error handling can be tested.

    Only workspaces started with `lakeport serve --faults` can.
    """


@faults.command("add", short_help="Let an endpoint fail from now on.")
@click.argument("name", callback=filled, shell_complete=endpoint_names)
@click.argument("kind", type=Kind(), metavar="STATUS|KIND")
@click.option("--times", type=int, metavar="N", help="Only the next N calls.  [no end]")
@click.option("--probability", type=float, metavar="P", help="Of each call, 0 to 1.  [1]")
@click.option("--on", type=click.Choice(["invocations", "get"]), help="Which calls fail.")
@click.option("--retry-after", type=int, metavar="SECONDS", help="With 429 and 503.")
@click.option("--error-code", metavar="CODE", help="Of a status, in place of Databricks' own.")
@click.option("--message", metavar="TEXT", help="Of a status, in place of Databricks' own.")
@click.option(
    "--seconds", callback=duration, metavar="DURATION", help="Of slow, timeout, wake: 2s, 500ms."
)
@click.option(
    "--after", type=int, metavar="N", help="Of cut: after N events, or bytes of a whole answer."
)
@click.option("--ready", type=click.Choice(["READY", "NOT_READY"]), help="Of state.")
@click.option("--config-update", metavar="STATE", help="Of state: IN_PROGRESS, UPDATE_FAILED …")
@connected
def add(session: Session, /, name: str, kind: str, **options: Any) -> None:
    """Let the endpoint NAME fail: with a STATUS (400, 401, 403, 404, 408, 413, 429, 500, 502, 503,
    504), or slow, timeout, cut, wake, state, bad_json. Prints the fault's id.

    \b
    Examples:
      lakeport faults add iris 429 --retry-after 1 --times 2
      lakeport faults add iris slow --seconds 2s --probability 0.5
      lakeport faults add writer cut --after 3
      lakeport faults add iris state --ready NOT_READY
    """
    body: dict[str, Any] = {"endpoint": name, "kind": kind}
    if kind.isdigit():
        body |= {"kind": "status", "status": int(kind)}
    body |= {field: value for field, value in options.items() if value is not None}
    made = _asked(session, "POST", FAULTS, body)
    session.out.show(made, lambda fault: session.out.text(fault["id"]))


@faults.command("list", short_help="List faults, and how often they were met.")
@click.argument("name", required=False, callback=filled, shell_complete=endpoint_names)
@connected
def list_faults(session: Session, name: str | None) -> None:
    """List the faults of the endpoint NAME, or all."""
    found = _asked(session, "GET", FAULTS + _of(name))
    session.out.show(
        found,
        lambda document: session.out.table(COLUMNS, [_row(fault) for fault in document["faults"]]),
    )


@faults.command("clear", short_help="Take faults away.")
@click.argument("name", required=False, callback=filled, shell_complete=endpoint_names)
@click.option("--id", "id_", metavar="ID", help="Only this fault.")
@connected
def clear(session: Session, name: str | None, *, id_: str | None) -> None:
    """Take the faults of the endpoint NAME away, or all."""
    if name is not None and id_ is not None:
        raise click.UsageError("Give NAME or --id, not both.")
    path = FAULTS + _of(name) if id_ is None else f"{FAULTS}/{quote(id_, safe='')}"
    _asked(session, "DELETE", path)


def _of(name: str | None) -> str:
    return "" if name is None else f"?{urlencode({'endpoint': name})}"


def _row(fault: dict[str, Any]) -> list[Any]:
    usual = {"probability": 1.0, "on": "invocations"}
    fields = ("retry_after", "seconds", "after", "ready", "config_update", *usual)
    shown = [
        f"{field}={fault[field]}"
        for field in fields
        if fault[field] not in (None, usual.get(field))
    ]
    left = "no end" if fault["left"] is None else fault["left"]
    kind = str(fault["status"] or fault["kind"])
    return [fault["id"], fault["endpoint"], " ".join([kind, *shown]), left, fault["hits"]]


def _asked(session: Session, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """The reply. Raises CommandFailed where the workspace has no faults on demand."""
    from lakeport.client.errors import NotFound  # late: help does not need it

    try:
        return session.ask(method, path, body)
    except NotFound as error:
        if error.error_code != "ENDPOINT_NOT_FOUND":
            raise
        raise CommandFailed(
            "ENDPOINT_NOT_FOUND",
            "This workspace has no faults on demand: start one with `lakeport serve --faults`.",
            status=MISSING,
        ) from error
