"""`lakeport query`: one request, its answer."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click

from lakeport.cli.completion import endpoint_names
from lakeport.cli.connection import Session, connected
from lakeport.cli.inputs import duration, filled, read_object
from lakeport.cli.output import Output, cell, dumped, dumped_short

if TYPE_CHECKING:
    from lakeport.client.answers import Answer, ChatChunk

#: What the client means by these, no body may.
_OPTIONS = {"entity", "headers", "name", "retry", "self", "timeout"}
_WHAT = 'Say what to ask: --json, --text "...", or JSON on standard input.'


@click.command(short_help="Ask an endpoint.")
@click.argument("name", callback=filled, shell_complete=endpoint_names)
@click.option(
    "--json", "json_", metavar="JSON|@FILE|-", help="The request's body, in any form of the API."
)
@click.option("--text", help="A message, a prompt or a text to embed, as the endpoint has it.")
@click.option("--entity", metavar="NAME", help="This served entity, whatever the traffic.")
@click.option("--stream", is_flag=True, help="Print a chat's answer as it comes.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="A field of a chat's body.")
@click.option("--temperature", type=float, help="A field of a chat's body.")
@click.option("--n", type=click.IntRange(min=1), help="A field of a chat's body.")
@click.option("--client-request-id", metavar="ID", help="Your own id, for inference tables.")
@click.option(
    "--timeout", callback=duration, default="10m", show_default=True, metavar="DURATION",
    help="For the whole answer: 90s, 20m.",
)  # fmt: skip
@connected
def query(
    session: Session,
    /,
    name: str,
    *,
    json_: str | None,
    text: str | None,
    entity: str | None,
    stream: bool,
    timeout: float,
    **fields: Any,
) -> None:
    """Ask the endpoint NAME and print what it answers.

    \b
    Examples:
      lakeport query iris --json '{"dataframe_records": [{"width": 1.4, "length": 0.2}]}'
      lakeport query helper --text "Name three fruits." --stream
      lakeport query iris -o json < request.json
    """
    given = {field: value for field, value in fields.items() if value is not None}
    body = _body(json_, text)
    if body is not None:
        body |= given
        stream = bool(body.pop("stream", False)) or stream
    options: dict[str, Any] = {"entity": entity, "timeout": timeout}
    if stream:
        _stream(session, name, body, text, given | options)
    elif body is not None:
        show(session.out, session.client.query(name, body=body, **options))
    else:
        from lakeport.client.errors import PermissionDenied

        with suppress(PermissionDenied):  # one may ask what one may not look at
            session.client.get(name)  # what a text is depends on the endpoint: it must be there
        show(session.out, session.client.query(name, text, fields=given or None, **options))


def _body(json_: str | None, text: str | None) -> dict[str, Any] | None:
    """The request's body, from `--json` or standard input; None where `--text` says it all.

    Raises click.UsageError.
    """
    if json_ is not None and text is not None:
        raise click.UsageError("--json and --text are two ways to say it: give one.")
    if text is not None:
        return None
    if json_ is None and sys.stdin.isatty():
        raise click.UsageError(_WHAT)
    return read_object(json_ or "-")


def _stream(
    session: Session,
    name: str,
    body: dict[str, Any] | None,
    text: str | None,
    options: dict[str, Any],
) -> None:
    messages: Any = text
    if body is not None:
        if "messages" not in body:
            raise click.UsageError('--stream is for chats: the body has no "messages".')
        if unknown := sorted(_OPTIONS & body.keys()):
            raise click.UsageError(f"--json: a chat has no field {', '.join(unknown)}.")
        messages, options = body["messages"], options | _but(body, "messages")
    pieces = session.client.stream_chat(name, messages, **options)
    if session.out.format == "text":
        say(session.out, pieces)
    else:
        for piece in pieces:
            document = dict(piece.body)
            line = dumped_short(document) if session.out.format == "json" else _yaml(document)
            click.echo(line)


def say(out: Output, pieces: "Iterator[ChatChunk]") -> str:
    """Print a chat's answer as it comes, and a newline; returns the whole of it."""
    whole = ""
    try:
        for piece in pieces:
            whole += piece.text
            out.piece(piece.text)
    finally:
        if whole and not whole.endswith("\n"):
            click.echo()
    return whole


def show(out: Output, answer: "Answer") -> None:
    """The whole body; as text, what matters of it."""
    out.show(answer.body, lambda _: _say_answer(out, answer))


def _say_answer(out: Output, answer: "Answer") -> None:
    from lakeport.client.answers import Chat, Embeddings, Prediction

    match answer:
        case Prediction():
            columns, rows = table_of(answer.predictions)
            out.table(columns, rows)
        case Chat() if answer.text or not answer.tool_calls:
            out.text(answer.text)
        case Chat():
            out.table(
                ("tool", "arguments"), [(call.name, call.arguments) for call in answer.tool_calls]
            )
        case Embeddings():
            for vector in answer.vectors:
                click.echo(dumped_short(vector))
        case _:
            click.echo(dumped(answer.body, "json"))


def table_of(predictions: Any) -> tuple[list[str], list[list[object]]]:
    """Predictions as a table: its columns, and a row for each prediction."""
    if isinstance(predictions, Mapping):
        columns = [str(name) for name in predictions]
        values = [v if _listed(v) else [v] for v in predictions.values()]
        return columns, [list(row) for row in zip_longest(*values)]
    if not _listed(predictions):
        return ["prediction"], [[predictions]]
    if predictions and all(isinstance(each, Mapping) for each in predictions):
        names = list(dict.fromkeys(name for each in predictions for name in each))
        return names, [[each.get(name) for name in names] for each in predictions]
    widths = {len(each) if _listed(each) else None for each in predictions}
    if len(widths) == 1 and (width := widths.pop()):
        return [str(column) for column in range(width)], [list(each) for each in predictions]
    return ["prediction"], [[cell(each)] for each in predictions]


def _listed(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _but(document: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


def _yaml(document: Mapping[str, Any]) -> str:
    return f"---\n{dumped(document, 'yaml')}"
