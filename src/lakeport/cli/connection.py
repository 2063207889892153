"""What every command that talks to a workspace shares: which one, how to speak, exit codes.

    @click.command()
    @click.argument("name")
    @connected
    def show(session: Session, name: str) -> None:
        session.out.show(session.client.request("GET", f"/api/2.0/.../{name}"))

| exit code | means |
| --- | --- |
| 0 | done |
| 1 | refused or failed |
| 2 | the command was written wrongly |
| 3 | no such endpoint, entity or path |
| 4 | not signed in, or not allowed |
| 5 | not in time |
| 130 | Ctrl-C |
"""

import errno
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlencode

import click

from lakeport.cli.output import FORMAT_VARIABLE, FORMATS, Output, chosen_format

if TYPE_CHECKING:
    from lakeport.client.client import Client
    from lakeport.client.errors import BadAnswer, LakeportError

FAILED, USAGE, MISSING, REFUSED, LATE, INTERRUPTED = 1, 2, 3, 4, 5, 130

_META = "lakeport.cli."
P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])


class CommandFailed(Exception):
    """A command's own failure, told as an error of the server's is."""

    def __init__(
        self, code: str, message: str, *, status: int = FAILED, more: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.more = code, message, status, more or {}


class Session:
    """One command's talk with a workspace. The client is made when it is first used."""

    def __init__(self, out: Output, host: str | None, profile: str | None) -> None:
        self.out = out
        self._host, self._profile = host, profile
        self._client: Client | None = None
        #: Requests are sent once, and wait so many seconds: for who asks again anyway.
        self.once: float | None = None

    @property
    def client(self) -> "Client":
        if self._client is None:
            options: dict[str, Any] = {}
            if self.once is not None:
                from lakeport.client.retry import Retry

                options = {"retry": Retry(attempts=1), "timeout": self.once}
            elif sys.stderr.isatty() and not self.out.quiet:
                from lakeport.cli.retrying import Telling

                options["retry"] = Telling(note=self.out.note)
            self._client = connect(self._host, self._profile, **options)
        return self._client

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """A reply of the REST API; {} for an empty one to a change. Raises BadAnswer for one that
        is no object: the page of another server."""
        reply = self.client.request(method, path, body)
        if reply is None and method != "GET":
            return {}
        if not isinstance(reply, dict):
            raise self.no_reply(method, path)
        return reply

    def ask_own(self, path: str, **query: Any) -> dict[str, Any]:
        """A reply of a route that Lakeport alone has, with its query; None leaves a field out.

        Raises CommandFailed where the workspace has no such route.
        """
        from lakeport.client.errors import NotFound

        given = {name: value for name, value in query.items() if value is not None}
        asked = f"{path}?{urlencode(given, doseq=True)}" if given else path
        try:
            return self.ask("GET", asked)
        except NotFound as error:
            if error.error_code not in (None, "ENDPOINT_NOT_FOUND"):
                raise
            raise CommandFailed(
                "ENDPOINT_NOT_FOUND",
                f"{self.client.host} has no {path}: this command is for Lakeport of this version "
                "or newer. Databricks has nothing like it.",
                status=MISSING,
            ) from error

    def no_reply(self, method: str, path: str) -> "BadAnswer":
        """The error for a reply that is none of this API's."""
        from lakeport.client.errors import BadAnswer

        return BadAnswer(
            f"{method} {path}: the answer is not what the API gives. Is {self.client.host} a "
            "Databricks workspace or Lakeport?"
        )

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def connect(host: str | None = None, profile: str | None = None, **options: Any) -> "Client":
    """A client, from flags, the environment and `~/.databrickscfg`. Raises ConfigError."""
    from lakeport.client.client import Client  # late: help does not need it

    return Client(host, profile=profile, **options)


def connected(function: Callable[Concatenate[Session, P], None]) -> Callable[P, None]:
    """Make a function a command's callback: it gets a Session first, `--host`, `--profile`,
    `--output` and `--quiet` come with it, and its errors become a line and an exit code."""

    @functools.wraps(function)
    def callback(*args: P.args, **kwargs: P.kwargs) -> None:
        chosen = click.get_current_context().meta
        out = Output(
            chosen_format(chosen.get(_META + "output"), os.environ),
            quiet=bool(chosen.get(_META + "quiet")),
        )
        session = Session(out, chosen.get(_META + "host"), chosen.get(_META + "profile"))
        with reports(out):
            try:
                function(session, *args, **kwargs)
            finally:
                session.close()

    return shared(callback)


def shared(command: F) -> F:
    """The options that choose the workspace and the way to speak. On a group they hold for its
    commands, whose own go before."""
    command = _option("--quiet", "-q", is_flag=True, help="Only results and errors.")(command)
    where = "The workspace.  [env: DATABRICKS_HOST]"
    command = _option("--host", metavar="URL", help=where)(command)
    return early(command)


def early(command: F) -> F:
    """Those of them that may stand before the group's name too, as with Databricks' own."""
    kinds = click.Choice(FORMATS, case_sensitive=False)
    said = f"text: tables, or TSV in a pipe.  [env: {FORMAT_VARIABLE}]"
    command = _option("--output", "-o", type=kinds, help=said)(command)
    named = "A profile of ~/.databrickscfg.  [env: DATABRICKS_CONFIG_PROFILE]"
    return _option("--profile", "-p", metavar="NAME", help=named)(command)


def _option(name: str, *more: str, **settings: Any) -> Callable[[F], F]:
    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value not in (None, False):
            ctx.meta[f"{_META}{param.name}"] = value

    return click.option(name, *more, expose_value=False, callback=keep, **settings)


def chosen(ctx: click.Context) -> tuple[str | None, str | None]:
    """Host and profile, as far as the command line has been read: for completion."""
    return ctx.meta.get(_META + "host"), ctx.meta.get(_META + "profile")


@contextmanager
def reports(out: Output) -> Iterator[None]:
    """Errors become one line on stderr and the exit code. Raises click.exceptions.Exit."""
    from lakeport.client.errors import LakeportError

    try:
        yield
    except LakeportError as error:
        out.error(code_of(error), error.message, _more(error))
        raise click.exceptions.Exit(exit_status(error)) from error
    except CommandFailed as error:
        out.error(error.code, error.message, error.more)
        raise click.exceptions.Exit(error.status) from error
    except click.UsageError as error:
        if out.format == "text":
            raise
        out.error("USAGE", error.format_message())
        raise click.exceptions.Exit(USAGE) from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # who reads has seen enough: click's matter
            raise
        where = f"{error.filename}: " if error.filename else ""
        out.error("IO_ERROR", f"{where}{error.strerror or error}")
        raise click.exceptions.Exit(FAILED) from error
    except KeyboardInterrupt as error:
        raise click.exceptions.Exit(INTERRUPTED) from error


def exit_status(error: "LakeportError") -> int:
    """The exit code for an error of the client's."""
    from lakeport.client import errors

    match error:
        case errors.NotFound():
            return MISSING
        case errors.Unauthenticated() | errors.PermissionDenied() | errors.ConfigError():
            return REFUSED
        case errors.TimedOut():
            return LATE
        case _:
            return FAILED


def code_of(error: "LakeportError") -> str:
    """The error's word: the server's own, or that of its class, as in CONNECTION_FAILED."""
    return error.error_code or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).upper()


def _more(error: "LakeportError") -> dict[str, Any]:
    """What is known of an error besides, for the formats that programs read."""
    known: dict[str, Any] = {
        "status": error.status,
        "endpoint": error.endpoint,
        "request_id": error.request_id,
        "details": getattr(error, "details", None),
        "problems": [asdict(problem) for problem in getattr(error, "problems", [])],
        "retry_after": getattr(error, "retry_after", None),
    }
    return {name: value for name, value in known.items() if value not in (None, [])}
