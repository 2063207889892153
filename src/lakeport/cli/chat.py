"""`lakeport chat`: a talk with an endpoint, or one question."""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click

from lakeport.cli.completion import endpoint_names
from lakeport.cli.connection import Session, code_of, connected
from lakeport.cli.inputs import duration, filled
from lakeport.cli.query import say, show

Message = dict[str, str]
PROMPT = "> "
HELP = """\
/clear   forget what was said
/exit    end; so does Ctrl-D
/help    this
Ctrl-C stops an answer."""


@click.command(short_help="Talk with a chat endpoint.")
@click.argument("name", callback=filled, shell_complete=endpoint_names)
@click.argument("question", required=False)
@click.option("--system", metavar="TEXT", help="What the model is told first.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Tokens of an answer, at most.")
@click.option("--temperature", type=float, help="0 for the likeliest answer.")
@click.option(
    "--timeout", callback=duration, default="10m", show_default=True, metavar="DURATION",
    help="Between two pieces of an answer: 90s, 20m.",
)  # fmt: skip
@connected
def chat(
    session: Session,
    /,
    name: str,
    *,
    question: str | None,
    system: str | None,
    **options: Any,
) -> None:
    """Talk with the chat endpoint NAME. The talk is kept while it lasts.

    With QUESTION, or with text on standard input, it answers once. QUESTION may be `-`, for
    standard input.

    \b
    Examples:
      lakeport chat helper
      lakeport chat helper "Name three fruits."
      git diff | lakeport chat helper --system "Write a commit message."
    """
    given = {option: value for option, value in options.items() if value is not None}
    start = [{"role": "system", "content": system}] if system else []
    if question is None and sys.stdin.isatty():
        session.client  # noqa: B018 whoever cannot sign in hears of it before they type
        Talk(session, name, start, given).run(_read)
        return
    asked = sys.stdin.read() if question in (None, "-") else question
    if not asked or not asked.strip():
        raise click.UsageError("There is no question: give one, or text on standard input.")
    once(session, name, [*start, {"role": "user", "content": asked}], given)


def once(session: Session, name: str, messages: list[Message], options: dict[str, Any]) -> None:
    """One answer: as it comes, or the whole body in the formats that programs read."""
    if session.out.format == "text":
        say(session.out, session.client.stream_chat(name, messages, **options))
    else:
        show(session.out, session.client.chat(name, messages, **options))


class Talk:
    """A conversation: what was said is sent again with each question."""

    def __init__(
        self, session: Session, name: str, start: list[Message], options: dict[str, Any]
    ) -> None:
        self._session, self._name, self._options = session, name, options
        self._start, self._said = start, list(start)

    def run(self, read: Callable[[], str]) -> None:
        """Until /exit, or until `read` raises EOFError. Errors end it only where no question can
        go better."""
        self._session.out.note(f"Talking with {self._name}. /help tells what else there is.")
        while True:
            try:
                line = read().strip()
            except EOFError:
                click.echo(err=True)
                return
            match line:
                case "":
                    continue
                case "/exit" | "/quit":
                    return
                case "/clear":
                    self._said = list(self._start)
                case "/help":
                    click.echo(HELP, err=True)
                case _ if line.startswith("/") and " " not in line:
                    click.echo(f"There is no {line}.\n{HELP}", err=True)
                case _:
                    self._ask(line)

    def _ask(self, question: str) -> None:
        from lakeport.client import errors

        asked = [*self._said, {"role": "user", "content": question}]
        try:
            with self._session.client.stream_chat(self._name, asked, **self._options) as pieces:
                answer = say(self._session.out, pieces)
        except KeyboardInterrupt:
            self._session.out.note("(stopped; the question is forgotten)")
            return
        except (errors.NotFound, errors.Unauthenticated, errors.PermissionDenied):
            raise
        except errors.LakeportError as error:
            self._session.out.error(code_of(error), error.message)
            return
        self._said = [*asked, {"role": "assistant", "content": answer}]


def _read() -> str:
    """A line from the terminal, with editing and a history of its own."""
    with suppress(ImportError):
        import readline  # noqa: F401 `input` uses it once it is there
    return input(PROMPT)
