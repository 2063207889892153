"""`lakeport logs`: what the models behind an endpoint printed."""

from typing import Any
from urllib.parse import quote

import click

from lakeport.cli.completion import endpoint_names, entity_names
from lakeport.cli.connection import MISSING, CommandFailed, Session, connected
from lakeport.cli.endpoints_text import of_config
from lakeport.cli.endpoints_verbs import ENDPOINTS
from lakeport.cli.inputs import filled


@click.command(short_help="Print what an endpoint's models printed.")
@click.argument("name", callback=filled, shell_complete=endpoint_names)
@click.option("--entity", metavar="NAME", shell_complete=entity_names, help="Only this one's.")
@click.option("--build", is_flag=True, help="How the environment was built, instead.")
@connected
def logs(session: Session, name: str, *, entity: str | None, build: bool) -> None:
    """Print the logs of the endpoint NAME, of each served entity that it has or is to have.

    \b
    Example:
      lakeport logs iris --entity iris-1
    """
    path = f"{ENDPOINTS}/{quote(name, safe='')}"
    which = [entity] if entity else entity_names_of(session.ask("GET", path))
    if not which:
        raise CommandFailed(
            "RESOURCE_DOES_NOT_EXIST", f"{name} has no served entity.", status=MISSING
        )
    kind = "build-logs" if build else "logs"
    found = {
        each: session.ask("GET", f"{path}/served-models/{quote(each, safe='')}/{kind}")
        for each in which
    }
    if session.out.format != "text":
        # Of one entity, the REST API's own body; of several, each under its name.
        session.out.show(found[which[0]] if len(which) == 1 else found)
        return
    for each, reply in found.items():
        if len(which) > 1:
            click.echo(f"==> {each} <==")
        if text := str(reply.get("logs") or ""):
            session.out.text(text)


def entity_names_of(endpoint: dict[str, Any]) -> list[str]:
    """Served entities of the config that serves, then of the one on its way."""
    configs = (endpoint.get("config"), endpoint.get("pending_config"))
    names = [str(entity.get("name")) for config in configs for entity in of_config(config)]
    return list(dict.fromkeys(names))
