"""The command `lakeport`. A command's module is imported when it is used: help must be quick."""

import importlib
import sys
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import click

from lakeport import __version__
from lakeport.cli.connection import early

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


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
    "serving-endpoints": Entry(
        "lakeport.cli.endpoints",
        "serving_endpoints",
        "Create, look at, change and ask endpoints.",
    ),
    "query": Entry("lakeport.cli.query", "query", "Ask an endpoint."),
    "chat": Entry("lakeport.cli.chat", "chat", "Talk with a chat endpoint."),
    "batch": Entry("lakeport.cli.batch", "batch", "Ask an endpoint about every row of a file."),
    "signature": Entry(
        "lakeport.cli.signature", "signature", "Show what an endpoint's model takes and gives."
    ),
    "logs": Entry("lakeport.cli.logs", "logs", "Print what an endpoint's models printed."),
    "events": Entry("lakeport.cli.events", "events", "Show what happened to endpoints."),
    "top": Entry("lakeport.cli.top", "top", "Show how busy endpoints are, live."),
    "dashboards": Entry("lakeport.cli.dashboards", "dashboards", "Print a dashboard for Grafana."),
    "faults": Entry("lakeport.cli.faults", "faults", "Let endpoints fail, in a test workspace."),
    "api": Entry("lakeport.cli.api", "api", "Call the REST API."),
    "completion": Entry(
        "lakeport.cli.completion",
        "completion",
        "Print the script that completes commands in a shell.",
    ),
}
#: Other names of commands.
ALIASES = {"endpoints": "serving-endpoints"}
#: Commands of a server: what they lack, its extra brings. The others run on what every install has.
SERVER = frozenset({"serve", "token", "models", "demo"})


class LazyGroup(click.Group):
    """A group whose own help, and completion, need none of its commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if entry is None:
            return None
        try:
            module = importlib.import_module(entry.module)
        except ModuleNotFoundError as error:
            if error.name and error.name.startswith("lakeport"):
                raise
            raise click.ClickException(_missing(cmd_name, str(error.name))) from error
        command = getattr(module, entry.name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)

        from click.shell_completion import CompletionItem

        known = {name: entry.summary for name, entry in COMMANDS.items()}
        known |= {name: known[meant] for name, meant in ALIASES.items()}
        return [
            CompletionItem(name, help=summary)
            for name, summary in known.items()
            if name.startswith(incomplete)
        ]


def _missing(command: str, library: str) -> str:
    if command not in SERVER:
        return f"`lakeport {command}` needs {library}: pip install {library}"
    return (
        f"`lakeport {command}` needs {library}, which the extra `server` brings: "
        "pip install 'lakeport[server]', or '.[server]' in the source folder."
    )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lakeport", message="%(prog)s %(version)s")
@early
def lakeport() -> None:
    """Serve MLflow models on the wire of Databricks Model Serving, and call what is served."""


@click.command(short_help=COMMANDS["demo"].summary)
@click.option("--keep", is_flag=True, help="Leave the server running until Ctrl-C.")
def demo(*, keep: bool) -> None:
    """Train, register, serve and query a model, on a server of its own in a temporary home."""
    from lakeport.cli.demo import run  # late: it imports rich

    sys.exit(run(keep=keep))


def main() -> NoReturn:
    sys.exit(lakeport(prog_name="lakeport"))
