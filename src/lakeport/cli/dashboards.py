"""`lakeport dashboards`: boards for the monitoring that a team has."""

from importlib.resources import files
from pathlib import Path

import click

from lakeport.cli.connection import reports
from lakeport.cli.output import Output

BOARDS = ("grafana",)


@click.group(short_help="Print a dashboard for Grafana.")
def dashboards() -> None:
    """Dashboards of what `/metrics` has, for the monitoring that you run."""


@dashboards.command(short_help="Print a dashboard.")
@click.argument("kind", type=click.Choice(BOARDS))
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Into this file; one that is there is replaced.",
)  # fmt: skip
def export(kind: str, *, out: Path | None) -> None:
    """Print the dashboard for Grafana, to be imported there: it asks for the Prometheus that reads
    Lakeport's `/metrics`. Needs no server.

    \b
    Example:
      lakeport dashboards export grafana --out lakeport.json
    """
    board = files("lakeport").joinpath("dashboards", f"{kind}.json").read_text("utf-8")
    if out is None:
        click.echo(board.removesuffix("\n"))
        return
    with reports(Output()):
        out.write_text(board, "utf-8")
