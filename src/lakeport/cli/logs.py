"""`lakeport logs`: what the models behind an endpoint printed, and print."""

from typing import Any
from urllib.parse import quote

import click

from lakeport.cli.completion import endpoint_names, entity_names
from lakeport.cli.connection import MISSING, CommandFailed, Session, connected
from lakeport.cli.endpoints_text import of_config
from lakeport.cli.endpoints_verbs import ENDPOINTS
from lakeport.cli.following import LOOK, document, follow, stamp
from lakeport.cli.inputs import filled

PAGES = "/api/2.0/lakeport/logs"
#: Lines of one answer.
PAGE = 1000
#: Lines from before the following began.
BEFORE = 100
#: Looks between two at which entities there are.
LOOKS = 10


@click.command(short_help="Print what an endpoint's models printed.")
@click.argument("name", callback=filled, shell_complete=endpoint_names)
@click.argument("entity", required=False, callback=filled, shell_complete=entity_names)
@click.option("--entity", "named", metavar="NAME", shell_complete=entity_names, help="As ENTITY.")
@click.option(
    "--follow", "-f", "goes_on", is_flag=True, help="Go on with what they print, until Ctrl-C."
)
@click.option("--build", is_flag=True, help="How the environment was built, instead.")
@click.option(
    "--lines", "-n", type=click.IntRange(0, 5000), metavar="N",
    help=f"The newest so many of each.  [default: all, with -f {BEFORE}]",
)  # fmt: skip
@connected
def logs(
    session: Session,
    name: str,
    entity: str | None,
    *,
    named: str | None,
    goes_on: bool,
    build: bool,
    lines: int | None,
) -> None:
    """Print the logs of the endpoint NAME, of each served entity that it has or is to have, or of
    ENTITY alone.

    -f goes on through crashes, updates and restarts of the server; with -o json each line is a
    document. It needs Lakeport; the rest works with Databricks too.

    \b
    Examples:
      lakeport logs iris iris-1
      lakeport logs iris -f -n 20
    """
    if entity and named and entity != named:
        raise click.UsageError(f"ENTITY is {entity!r} and --entity {named!r}: name one.")
    only = entity or named
    if goes_on:
        session.once = LOOK
        Follower(session, name, only, build=build).run(BEFORE if lines is None else lines)
        return
    which = [only] if only else entity_names_of(session.ask("GET", _path(name)))
    if not which:
        raise _none(name)
    kind = "build-logs" if build else "logs"
    found = {
        each: session.ask("GET", f"{_path(name)}/served-models/{quote(each, safe='')}/{kind}")
        for each in which
    }
    if lines is not None:
        found = {each: reply | {"logs": last(reply, lines)} for each, reply in found.items()}
    if session.out.format != "text":
        # Of one entity, the REST API's own body; of several, each under its name.
        session.out.show(found[which[0]] if len(which) == 1 else found)
        return
    for each, reply in found.items():
        if len(which) > 1:
            click.echo(f"==> {each} <==")
        if text := str(reply.get("logs") or ""):
            session.out.text(text)


def entity_names_of(endpoint: dict[str, Any]) -> list[str]:
    """Served entities of the config that serves, then of the one on its way."""
    configs = (endpoint.get("config"), endpoint.get("pending_config"))
    names = [str(entity.get("name")) for config in configs for entity in of_config(config)]
    return list(dict.fromkeys(names))


def last(reply: dict[str, Any], lines: int) -> str:
    """The newest lines of a whole log."""
    found = str(reply.get("logs") or "").splitlines(keepends=True)
    return "".join(found[max(len(found) - lines, 0) :])


class Follower:
    """The logs of one entity, or of all that an endpoint has from time to time."""

    def __init__(self, session: Session, name: str, only: str | None, *, build: bool) -> None:
        self._session = session
        self._name = name
        self._only = only
        self._build = "true" if build else None
        #: By entity: the cursor of its next page, and the newest config version that was shown.
        self._cursors: dict[str, str] = {}
        self._versions: dict[str, int] = {}
        self._several = False
        self._looks = 0

    def run(self, lines: int) -> None:
        """Until something ends it. The newest lines first: so many of each entity."""
        entities = self._entities()
        if not entities:
            raise _none(self._name)
        self._several = len(entities) > 1
        for entity in entities:
            page = self._page(entity, None, max(lines, 1))
            page["lines"] = page["lines"][-lines:] if lines else []
            self._show(entity, page)
        follow(self._session.out, self._look)

    def _look(self) -> bool:
        self._looks += 1
        if self._only is None and self._looks % LOOKS == 0:
            self._find()
        more = False
        for entity, cursor in list(self._cursors.items()):
            page = self._page_or_none(entity, cursor)
            if page is not None:
                self._show(entity, page)
                more = more or bool(page.get("more"))
        return more

    def _find(self) -> None:
        """Begin with what came meanwhile, from its first line."""
        for entity in self._entities():
            self._cursors.setdefault(entity, "")
        self._several = self._several or len(self._cursors) > 1

    def _entities(self) -> list[str]:
        if self._only is not None:
            return [self._only]
        return entity_names_of(self._session.ask("GET", _path(self._name)))

    def _page_or_none(self, entity: str, cursor: str) -> dict[str, Any] | None:
        """None for an entity that is gone, while others may be there."""
        from lakeport.client.errors import NotFound

        try:
            return self._page(entity, cursor, PAGE)
        except NotFound:
            if self._only is not None:
                raise
            self._find()  # raises when the endpoint is gone too
            del self._cursors[entity]
            self._session.out.note(f"{entity}: no longer served.")
            return None

    def _page(self, entity: str, cursor: str | None, limit: int) -> dict[str, Any]:
        path = f"{PAGES}/{quote(self._name, safe='')}/{quote(entity, safe='')}"
        page = self._session.ask_own(path, after=cursor, limit=limit, build=self._build)
        if not isinstance(page.get("lines"), list) or not isinstance(page.get("next"), str):
            raise self._session.no_reply("GET", path)
        return page

    def _show(self, entity: str, page: dict[str, Any]) -> None:
        out = self._session.out
        self._cursors[entity] = page["next"]
        if page.get("lost"):
            out.note(f"{entity}: lines were removed before they were read; the files are bounded.")
        text = []
        for line in page["lines"]:
            version = int(line.get("config_version") or 0)
            if version > self._versions.get(entity, 0):
                if entity in self._versions:
                    out.note(f"{entity}: config version {version}")
                self._versions[entity] = version
            if out.format == "text":
                text.append(shown(line, entity if self._several else None))
            else:
                document(out, {"served_entity": entity} | line)
        if text:
            out.piece("".join(text))


def shown(line: dict[str, Any], entity: str | None) -> str:
    """A line as the log's file has it, with the entity where there are several."""
    marks = [stamp(int(line.get("at") or 0))]
    if entity:
        marks.append(entity)
    if replica := line.get("replica"):
        marks.append(f"[{replica}]")
    return f"{' '.join(marks)} {line.get('text', '')}\n"


def _path(name: str) -> str:
    return f"{ENDPOINTS}/{quote(name, safe='')}"


def _none(name: str) -> CommandFailed:
    return CommandFailed("RESOURCE_DOES_NOT_EXIST", f"{name} has no served entity.", status=MISSING)
