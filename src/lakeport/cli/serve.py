"""`lakeport serve`."""

import difflib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from lakeport.cli.options import config_option, load_settings, setting_options
from lakeport.home import HomeError
from lakeport.settings import ENV_PREFIX, Settings, env_name


def run_server(config: Path | None, **flags: str | bool | tuple[str, ...] | None) -> None:
    for warning in misspelt(os.environ):
        click.echo(f"lakeport: {warning}", err=True)
    # An option that may be repeated and was not given is an empty tuple.
    settings = load_settings({n: v if v != () else None for n, v in flags.items()}, config)

    from lakeport.application import run  # late: it imports the whole server

    try:
        sys.exit(run(settings))
    except HomeError as error:
        raise click.ClickException(str(error)) from error


def misspelt(variables: Iterable[str]) -> list[str]:
    """A warning for each variable of the environment that is nearly a setting's.

    Others that begin with LAKEPORT_ may be somebody else's: Kubernetes makes some after a service.
    """
    known = {env_name(name).removeprefix(ENV_PREFIX) for name in Settings.model_fields}
    warnings = []
    for variable in sorted(variables):
        name = variable.removeprefix(ENV_PREFIX)
        if name == variable or name in known:
            continue
        if close := difflib.get_close_matches(name.upper(), known):
            # One that has it as a word is meant sooner than one that is spelt like it.
            meant = next((full for full in close if name.upper() in full.split("_")), close[0])
            warnings.append(
                f"{variable} is ignored: there is no such setting; did you mean "
                f"{ENV_PREFIX}{meant}?"
            )
    return warnings


serve = click.Command(
    "serve",
    callback=run_server,
    params=[config_option(), *setting_options()],
    help="Run the server.\n\nEvery setting is also a variable of the environment and a line of the "
    "TOML file; a flag counts before the environment, and that before the file.",
    short_help="Run the server.",
)
