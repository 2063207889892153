"""The command `lakeport`. A command's module is imported when it is used: help must be quick."""

import importlib
import sys
from typing import NamedTuple, NoReturn

import click

from lakeport import __version__


class Entry(NamedTuple):
    module: str
    name: str
    summary: str


COMMANDS = {
    "serve": Entry("lakeport.cli.serve", "serve", "Run the server."),
    "token": Entry("lakeport.cli.token", "token", "Make an access token and print it."),
    "models": Entry(
        "lakeport.cli.models", "models", "List and fetch the models that are known by name."
    ),
    "demo": Entry("lakeport.cli.main", "demo", "Train, register, serve and query a model."),
}


class LazyGroup(click.Group):
    """A group whose own help needs none of its commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        try:
            module = importlib.import_module(entry.module)
        except ModuleNotFoundError as error:
            if error.name and error.name.startswith("lakeport"):
                raise
            raise click.ClickException(
                f"`lakeport {cmd_name}` needs {error.name}, which the extra `server` brings: "
                "pip install 'lakeport[server]', or '.[server]' in the source folder."
            ) from error
        command = getattr(module, entry.name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lakeport", message="%(prog)s %(version)s")
def lakeport() -> None:
    """Serve MLflow models on the wire of Databricks Model Serving."""


@click.command(short_help=COMMANDS["demo"].summary)
@click.option("--keep", is_flag=True, help="Leave the server running until Ctrl-C.")
def demo(*, keep: bool) -> None:
    """Train, register, serve and query a model, on a server of its own in a temporary home."""
    from lakeport.cli.demo import run  # late: it imports rich

    sys.exit(run(keep=keep))


def main() -> NoReturn:
    sys.exit(lakeport(prog_name="lakeport"))
