"""`lakeport signature`: what a model takes and gives."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lakeport.cli.completion import endpoint_names, entity_names
from lakeport.cli.connection import MISSING, CommandFailed, Session, connected
from lakeport.cli.inputs import filled
from lakeport.cli.output import Output, dumped_short

if TYPE_CHECKING:
    from lakeport.client.signature import Column, Signature


@click.command(short_help="Show what an endpoint's model takes and gives.")
@click.argument("name", callback=filled, shell_complete=endpoint_names)
@click.option("--entity", metavar="NAME", shell_complete=entity_names, help="Of this one.")
@click.option("--example", is_flag=True, help="Only a request that it takes, as JSON.")
@connected
def signature(session: Session, name: str, *, entity: str | None, example: bool) -> None:
    """Show inputs, outputs and params of the endpoint NAME, and a request that it takes.

    \b
    Examples:
      lakeport signature iris
      lakeport signature iris --example | lakeport query iris
    """
    found = session.client.signature(name, entity=entity)
    if example:
        if found.example is None:
            raise CommandFailed(
                "RESOURCE_DOES_NOT_EXIST", f"{name} has no example.", status=MISSING
            )
        session.out.show(found.example)
        return
    session.out.show(asdict(found), lambda _: _say(session.out, found))


def _say(out: Output, found: "Signature") -> None:
    rows = [("input", *_described(column)) for column in found.inputs]
    rows += [("output", *_described(column)) for column in found.outputs]
    for param in found.params:
        default = f"default {dumped_short(param.default)}"
        rows.append(("param", param.name, _type(param.type, param.shape), default))
    out.table(("kind", "name", "type", "needed"), rows)
    if found.example is not None:
        out.fields([("example", dumped_short(found.example))])


def _described(column: "Column") -> tuple[str, str, str]:
    return (
        column.name or "",
        _type(column.type, column.shape),
        "required" if column.required else "optional",
    )


def _type(kind: object, shape: tuple[int, ...] | None) -> str:
    name = kind if isinstance(kind, str) else dumped_short(kind)
    return name if shape is None else f"{name}{list(shape)}"
