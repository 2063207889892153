"""What a command is given as text: JSON documents and durations."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import click

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def seconds(text: str) -> float:
    """A duration as Go writes it: "90s", "20m", "1h30m", "1.5h", "500ms", "0".

    Raises ValueError, for people.
    """
    if text == "0":
        return 0.0
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration: write it as 90s, 20m or 1h30m.")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def filled(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """An argument's callback: a name is not empty, as an unset variable of a shell would make it.
    Raises click.BadParameter."""
    if value == "":
        raise click.BadParameter("it is empty.", ctx, param)
    return value


def duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """An option's callback: its duration in seconds. Raises click.BadParameter."""
    try:
        return None if value is None else seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def read_json(given: str, *, name: str = "--json") -> Any:
    """The document of `--json`: "@FILE", "-" for standard input, or the JSON itself.

    Raises click.UsageError that says what is wrong, and where.
    """
    if given == "-":
        text, source = sys.stdin.read(), f"{name} (standard input)"
    elif given.startswith("@"):
        text, source = _file(given[1:], name), f"{name} ({given[1:]})"
    else:
        text, source = given, name
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        hint = "" if text.strip() else " It is empty."
        where = f"line {error.lineno}, column {error.colno}"
        raise click.UsageError(f"{source} is no JSON: {error.msg}, {where}.{hint}") from error
    except RecursionError as error:
        raise click.UsageError(f"{source} is nested too deeply.") from error


def read_object(given: str, *, name: str = "--json") -> dict[str, Any]:
    """As `read_json`, for a JSON object. Raises click.UsageError."""
    document = read_json(given, name=name)
    if not isinstance(document, dict):
        raise click.UsageError(
            f'{name} must be a JSON object, {{"name": ...}}, not {type(document).__name__}.'
        )
    return document


def _file(path: str, name: str) -> str:
    try:
        return Path(path).expanduser().read_text("utf-8-sig")
    except OSError as error:
        raise click.UsageError(f"{name}: {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{name}: {path} is not UTF-8.") from error
