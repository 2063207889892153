"""A served entity's log in pages, for who follows it through updates, crashes and restarts.

A page's cursor holds a position in the log of each deployment of the entity that may still write:
the one that serves, the one on its way, and those that an update replaced until they have ended.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from lakeport.auth.callers import Caller, Level
from lakeport.control import permissions
from lakeport.control.reading import unknown, unknown_entity
from lakeport.control.reconciler import Reconciler
from lakeport.control.rollout import deployment_name
from lakeport.errors import InvalidParameter
from lakeport.stores.records import EndpointRecord
from lakeport.telemetry.rotated import Part, Position

#: Deployments that one cursor follows.
DEPLOYMENTS = 4
#: In a cursor: a config version, and where in the file of that first line; no position: its start.
_PLACE = re.compile(r"(\d{1,9})(?:-([0-9a-f]{16})-(\d{1,12}))?")
_LINE = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+Z)(?: \[([^\]\s]+)\])? ?(.*)", re.DOTALL)


class LogsPort(Protocol):
    """The files, line by line; `runtimes/local/logs.py` is the implementation."""

    def newest(self, deployment: str, *, lines: int, build: bool) -> Part: ...
    def read(self, deployment: str, after: Position | None, *, lines: int, build: bool) -> Part: ...
    def ended(self, deployment: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Line:
    #: Milliseconds since the epoch.
    at: int
    replica: str | None
    config_version: int
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    lines: list[Line]
    #: The cursor for the next page.
    next: str
    lost: bool
    #: It is bounded: there may be more already.
    more: bool


class LogPages:
    def __init__(self, reconciler: Reconciler, logs: LogsPort) -> None:
        self._reconciler = reconciler
        self._logs = logs

    def page(
        self,
        caller: Caller,
        name: str,
        entity: str,
        *,
        after: str | None,
        limit: int,
        build: bool = False,
    ) -> Page:
        """The newest lines, or those after a cursor; `build`: of how its environment was built.

        Raises NotFound, PermissionDenied, and InvalidParameter for a cursor that is none.
        """
        record = self._reconciler.record(name)
        if record is None:
            raise unknown(name)
        permissions.require(record, caller, Level.CAN_MANAGE, "read its logs")
        current = versions(record, entity)
        places = parsed(after) if after is not None else {}
        if not current and not places:
            raise unknown_entity(name, entity)
        followed = [v for v in places if v <= record.last_version]
        order = sorted({*followed, *current})[-DEPLOYMENTS:]
        ids = {version: deployment_name(record.id, entity, version) for version in order}
        lines: list[Line] = []
        lost = more = False
        for version, id in ids.items():
            if after is None:
                part = self._logs.newest(id, lines=limit, build=build)
            elif len(lines) >= limit:
                places.setdefault(version, None)
                more = True
                continue
            else:
                place = places.get(version)
                part = self._logs.read(id, place, lines=limit - len(lines), build=build)
            lines += shown(part.lines, version, build=build)
            lost, more = lost or part.lost, more or part.more
            places[version] = part.next
            if not part.lines and version not in current and self._logs.ended(id):
                del places[version]
        if not current and not places:
            raise unknown_entity(name, entity)
        lines.sort(key=lambda line: line.at)
        kept = {version: places[version] for version in order if version in places}
        shown_lines = lines if after is not None else lines[-limit:]
        return Page(shown_lines, formatted(kept), lost, more)


def versions(record: EndpointRecord, entity: str) -> frozenset[int]:
    """Of the served entity's deployments that should run: the config version each began with."""
    configs = [config for config in (record.active, record.pending) if config is not None]
    return frozenset(
        each.since_version for config in configs for each in config.entities if each.name == entity
    )


def parsed(cursor: str) -> dict[int, Position | None]:
    """Raises InvalidParameter for what is none of our cursors."""
    places: dict[int, Position | None] = {}
    for text in cursor.split("_") if cursor else []:
        found = _PLACE.fullmatch(text)
        if found is None or len(places) >= DEPLOYMENTS:
            raise InvalidParameter(
                "after: expected the `next` of an earlier page, as it was, or nothing."
            )
        version, file, offset = found.groups()
        places[int(version)] = Position(file, int(offset)) if file else None
    return places


def formatted(places: Mapping[int, Position | None]) -> str:
    return "_".join(
        f"{version}-{at.file}-{at.offset}" if at else str(version) for version, at in places.items()
    )


def shown(lines: tuple[bytes, ...], version: int, *, build: bool) -> list[Line]:
    """Lines of a file; one without a time of its own has that of the line before it."""
    found: list[Line] = []
    for raw in lines:
        text = raw.decode(errors="replace")
        parts = _LINE.fullmatch(text)
        if parts is None:
            found.append(Line(found[-1].at if found else 0, None, version, text))
            continue
        stamp, replica, rest = parts.groups()
        if build and replica is not None:  # a build's lines have no writer: it is their text
            replica, rest = None, f"[{replica}] {rest}"
        found.append(Line(_milliseconds(stamp), replica, version, rest))
    return found


def _milliseconds(stamp: str) -> int:
    try:
        return round(datetime.fromisoformat(stamp).timestamp() * 1000)
    except ValueError:
        return 0
