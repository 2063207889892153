"""`lakeport serve`."""

import sys
from pathlib import Path

import click

from lakeport.cli.options import config_option, setting_options
from lakeport.home import HomeError
from lakeport.settings import Settings, SettingsError


def run_server(config: Path | None, **flags: str | tuple[str, ...] | None) -> None:
    try:
        # An option that may be repeated and was not given is an empty tuple.
        settings = Settings.load({n: v if v != () else None for n, v in flags.items()}, config)
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"lakeport: {problem}", err=True)
        sys.exit(2)

    from lakeport.application import run  # late: it imports the whole server

    try:
        sys.exit(run(settings))
    except HomeError as error:
        raise click.ClickException(str(error)) from error


serve = click.Command(
    "serve",
    callback=run_server,
    params=[config_option(), *setting_options()],
    help="Run the server.\n\nEvery setting is also a variable of the environment and a line of the "
    "TOML file; a flag counts before the environment, and that before the file.",
    short_help="Run the server.",
)
