"""What an engine is asked to serve, and the command line that this comes to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lakeport.wire.chat import Task


@dataclass(frozen=True, slots=True)
class Order:
    """One engine replica."""

    #: `model` in its answers: the served entity's name.
    name: str
    task: Task
    #: The model's files by their names in the catalogue; a file or folder given by path is the only
    #: one.
    files: Mapping[str, Path]
    #: Instead of files: a hub's id.
    hub: str | None
    #: Under 100 bytes, in a folder that only this user may enter.
    socket: str
    #: Requests that it works on at a time.
    slots: int
    #: Tokens of prompt and answer together, for each of them.
    context: int
    threads: int
    #: Bytes; 0 is no limit.
    memory_limit: int
    chat_template: str | None = None
    arguments: tuple[str, ...] = ()
    #: Needed where an engine can only listen on a port; on a unix socket the folder's mode decides.
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """How to start an engine."""

    argv: tuple[str, ...]
    #: On top of what every child gets.
    environment: Mapping[str, str] = field(default_factory=dict)
