"""`lakeport models`: the models that are known by name, and their files in the home."""

import asyncio
from pathlib import Path

import click

from lakeport.cli.options import load_settings
from lakeport.home import Home, HomeError
from lakeport.models.catalogue import BadCatalogue, Catalogue, CatalogueModel, existing, load
from lakeport.runtimes.base import StartFailed
from lakeport.runtimes.engine.weights import Weights


@click.group(short_help="List and fetch the models that are known by name.")
def models() -> None:
    """List and fetch the models that are known by name: system.ai.NAME.

    They come from Lakeport's own catalogue and from HOME/catalogue.toml, or the file that the
    setting `catalogue` names.
    """


_home = click.option("--home", metavar="PATH", help="The server's home.  [env: LAKEPORT_HOME]")
_catalogue = click.option(
    "--catalogue", metavar="PATH", help="A catalogue file.  [env: LAKEPORT_CATALOGUE]"
)


@models.command("list", short_help="List the models that are known by name.")
@_home
@_catalogue
def list_models(home: str | None, catalogue: str | None) -> None:
    """List the models that are known by name, where each comes from, and whether it is here."""
    place, known = _open(home, catalogue)
    weights = Weights(place.weights)
    rows = [("NAME", "TASK", "HERE", "FROM")]
    rows += [
        (model.name, str(model.task), _where(weights, model), _source(model))
        for model in known.values()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[3]]))


@models.command("pull", short_help="Fetch a model's files into the home.")
@click.argument("name")
@_home
@_catalogue
def pull(name: str, home: str | None, catalogue: str | None) -> None:
    """Fetch the files of the model NAME into the home, unless they are there.

    A server may be running on the home. It would fetch them too, when an endpoint first needs them.
    """
    place, known = _open(home, catalogue)
    model = known.get(name) or known.get(f"system.ai.{name}")
    if model is None:
        raise click.ClickException(
            f"There is no model {name!r} in the catalogue. It has: {', '.join(sorted(known))}."
        )
    if model.hub is not None:
        raise click.ClickException(
            f"{model.name} is not fetched by Lakeport: vLLM gets {model.hub} from its hub."
        )
    try:
        place.make()
        asyncio.run(_pull(place.weights, model))
    except (HomeError, StartFailed, OSError) as error:
        raise click.ClickException(str(error)) from error


async def _pull(folder: Path, model: CatalogueModel) -> None:
    weights = Weights(folder)
    await weights.open()
    try:
        files = await weights.fetch(model, lambda line: click.echo(line, err=True))
    finally:
        await weights.close()
    for path in files.values():
        click.echo(path)


def _open(home: str | None, catalogue: str | None) -> tuple[Home, Catalogue]:
    """The home, and the models that its server would know."""
    settings = load_settings({"home": home, "catalogue": catalogue})
    place = Home(settings.home)
    try:
        return place, load(settings.catalogue or existing(place.catalogue))
    except BadCatalogue as error:
        raise click.ClickException(str(error)) from error


def _where(weights: Weights, model: CatalogueModel) -> str:
    if model.hub is not None:
        return "-"
    size = weights.size(model)
    return "no" if size is None else f"{size / 1024**2:.0f} MiB"


def _source(model: CatalogueModel) -> str:
    files = [str(file.package or file.path) for file in model.files]
    return ", ".join(dict.fromkeys(files)) or str(model.hub)
