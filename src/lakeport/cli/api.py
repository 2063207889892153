"""`lakeport api`: any call of the REST API."""

import click

from lakeport.cli.connection import Session, connected
from lakeport.cli.inputs import duration, read_json

METHODS = ("get", "post", "put", "patch", "delete")


@click.group(short_help="Call the REST API.")
def api() -> None:
    """Call the REST API of the workspace: its reply as it comes.

    \b
    Example:
      lakeport api get /api/2.0/serving-endpoints
    """


def _command(method: str) -> click.Command:
    @click.command(method, short_help=f"Send a {method.upper()}.")
    @click.argument("path")
    @click.option(
        "--json", "json_", metavar="JSON|@FILE|-", help="The body: inline, from a file or stdin."
    )
    @click.option(
        "--timeout", callback=duration, default="10m", show_default=True, metavar="DURATION",
        help="For the whole answer: 90s, 20m.",
    )  # fmt: skip
    @connected
    def call(session: Session, path: str, *, json_: str | None, timeout: float) -> None:
        if not path.startswith("/"):
            raise click.UsageError(
                f"PATH begins with a slash, as in /api/2.0/serving-endpoints, not {path[:40]!r}."
            )
        body = None if json_ is None else read_json(json_)
        reply = session.client.request(method.upper(), path, body, timeout=timeout)
        if isinstance(reply, str):
            session.out.text(reply)
        elif reply is not None:
            session.out.show(reply)

    call.help = (
        f"Send a {method.upper()} to PATH and print the reply.\n\n"
        f"\b\nExample:\n  lakeport api {method} /api/2.0/serving-endpoints"
    )
    return call


for _method in METHODS:
    api.add_command(_command(_method))
