"""`lakeport serving-endpoints`, and `lakeport endpoints` for short."""

import json
import re
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import click

from lakeport.cli.completion import endpoint_names, entity_names
from lakeport.cli.connection import MISSING, CommandFailed, Session, connected, shared
from lakeport.cli.endpoints_verbs import ENDPOINTS, VERBS, Verb
from lakeport.cli.endpoints_wait import wait
from lakeport.cli.inputs import duration, filled, read_object
from lakeport.cli.query import query

PROGRAM = "lakeport serving-endpoints"
_ID = re.compile(r"[0-9a-f]{32}")
_COMPLETE = {
    "name": endpoint_names,
    "serving_endpoint_id": endpoint_names,
    "served_model_name": entity_names,
}


@click.group("serving-endpoints", short_help="Create, look at, change and ask endpoints.")
@shared
def serving_endpoints() -> None:
    """Create, look at, change and ask serving endpoints, of Lakeport or Databricks.

    `lakeport endpoints` is short for it. Verbs and arguments are those of `databricks
    serving-endpoints`.
    """


def _command(verb: Verb) -> click.Command:
    """The command for a line of the table."""

    @connected
    def callback(session: Session, /, **given: Any) -> None:
        _run(verb, session, given)

    made = click.Command(
        verb.name,
        callback=callback,
        params=_parameters(verb),
        help=f"{verb.summary}{_note(verb)}\n\n\b\nExample:\n  {PROGRAM} {verb.example}",
        short_help=verb.summary,
    )
    # `connected` leaves its options on the callback, in the reverse order, as decorators do.
    made.params += reversed(getattr(callback, "__click_params__", []))
    return made


def _parameters(verb: Verb) -> list[click.Parameter]:
    parameters: list[click.Parameter] = [
        click.Argument(
            [name],
            required=not verb.named_in_body,
            callback=filled,
            shell_complete=_COMPLETE[name],
        )
        for name in verb.arguments
    ]
    if verb.body != "none":
        parameters.append(
            click.Option(
                ["--json", "json_"],
                metavar="JSON|@FILE|-",
                required=verb.body == "needed",
                help="The request's body: inline, from a file, from standard input.",
            )
        )
    for flag in verb.flags:
        option = click.Option(
            [flag.name, flag.field], is_flag=flag.kind is bool, default=None, help=flag.help
        )
        parameters.append(option)
    if verb.waits:
        parameters += [
            click.Option(["--no-wait"], is_flag=True, help="Do not wait for the update's end."),
            click.Option(
                ["--timeout"],
                callback=duration,
                default="20m",
                show_default=True,
                metavar="DURATION",
                help="How long to wait: 90s, 20m, 1h.",
            ),
        ]
    return parameters


def _note(verb: Verb) -> str:
    if "serving_endpoint_id" in verb.arguments:
        return "\n\nSERVING_ENDPOINT_ID is the endpoint's id; its name is taken too."
    return ""


def _run(verb: Verb, session: Session, given: dict[str, Any]) -> None:
    body = _body(verb, given)
    values = {name: given[name] for name in verb.arguments if f"{{{name}}}" in verb.path}
    if "serving_endpoint_id" in values:
        values["serving_endpoint_id"] = endpoint_id(session, values["serving_endpoint_id"])
    path = verb.path.format(**{name: quote(value, safe="") for name, value in values.items()})
    reply = _reply(verb, session, path, body)
    if verb.waits and not given["no_wait"]:
        name = str(reply.get("name") or given["name"])
        look = f"{ENDPOINTS}/{quote(name, safe='')}"
        reply = wait(
            session.out,
            name,
            reply,
            lambda: session.ask("GET", look),
            timeout=given["timeout"],
        )
    if verb.plain:
        session.out.text(reply)
        return
    show = verb.text
    session.out.show(
        reply,
        None if show is None else lambda found: show(session.out, found),
    )


def _reply(verb: Verb, session: Session, path: str, body: dict[str, Any] | None) -> Any:
    """What the server answers, in the form that the verb's answers have. Raises BadAnswer."""
    reply = session.client.request(verb.method, path, body)
    if isinstance(reply, str) and not verb.plain:  # the OpenAPI page comes as text
        with suppress(ValueError):
            reply = json.loads(reply)
    if reply is None and verb.method != "GET":
        return {}
    kinds: tuple[type, ...] = (str,) if verb.plain else (dict,)
    if verb.name == "patch":  # tags: a bare list on some workspaces
        kinds = (dict, list)
    if not isinstance(reply, kinds):
        raise session.no_reply(verb.method, path)
    return reply


def _body(verb: Verb, given: dict[str, Any]) -> dict[str, Any] | None:
    """What is sent: `--json`, with what arguments and flags say in it."""
    if verb.body == "none":
        return None
    body = read_object(given["json_"]) if given["json_"] is not None else {}
    said = {flag.field: given[flag.field] for flag in verb.flags if given[flag.field] is not None}
    if verb.named_in_body and given["name"] is not None:
        said["name"] = given["name"]
    for field, value in said.items():
        if body.get(field, value) != value:
            raise click.UsageError(
                f'--json says "{field}": {body[field]!r}, and the command line says {value!r}.'
            )
    body |= said
    if verb.named_in_body and not body.get("name"):
        raise click.UsageError('The endpoint has no name: give NAME, or "name" in --json.')
    return body


def endpoint_id(session: Session, given: str) -> str:
    """The id of the endpoint that is given by id or by name."""
    if _ID.fullmatch(given):
        return given
    found = session.ask("GET", f"{ENDPOINTS}/{quote(given, safe='')}")
    if "id" not in found:
        raise CommandFailed(
            "RESOURCE_DOES_NOT_EXIST", f"{given} has no id, and so no permissions.", status=MISSING
        )
    return str(found["id"])


for _verb in VERBS:
    serving_endpoints.add_command(_command(_verb))
serving_endpoints.add_command(query)
