"""Command-line options made from the settings, one each."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from lakeport.settings import CONFIG_NAME, Settings, SettingsError, env_name, flag_name

_NAMED = {"model": "NAME=URI", "chat": "NAME=TARGET", "embeddings": "NAME=TARGET"}
_METAVARS: dict[object, str] = {int: "INTEGER", float: "NUMBER", Path: "PATH"}


def load_settings(flags: Mapping[str, object], config: Path | None = None) -> Settings:
    """The settings, as `Settings.load` has them; ends the program, with a line for each problem,
    where they cannot be used."""
    try:
        return Settings.load(flags, config)
    except SettingsError as error:
        for problem in error.problems:
            click.echo(f"lakeport: {problem}", err=True)
        sys.exit(2)


def config_option() -> click.Option:
    return click.Option(
        ["--config"],
        type=click.Path(path_type=Path, dir_okay=False),
        help=f"TOML file of settings.  [default: HOME/{CONFIG_NAME} where it exists]",
    )


def setting_options() -> list[click.Option]:
    """Values stay as they were written: Settings validates them, from wherever they come."""
    return [_option(name, field) for name, field in Settings.model_fields.items()]


def setting_default(field: FieldInfo) -> str:
    """The default as one would write it, with a unit that people read; '' for none."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value == []:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value >= 1024**2 and value % 1024**2 == 0:
        return f"{value} ({value // 1024**2} MiB)"
    return str(value)


def repeatable(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is list


def _option(name: str, field: FieldInfo) -> click.Option:
    notes = [f"env: {env_name(name)}"]
    if default := setting_default(field):
        notes.append(f"default: {default}")
    if field.annotation is bool:
        return click.Option(
            [flag_name(name)],
            is_flag=True,
            default=None,  # not False: another source may say true
            help=f"{field.description}  [{'; '.join(notes)}]",
        )
    return click.Option(
        [flag_name(name)],
        metavar=_NAMED.get(name) or _metavar(field),
        multiple=repeatable(field),
        default=None,
        help=f"{field.description}  [{'; '.join(notes)}]",
    )


def _metavar(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "|".join(get_args(field.annotation))
    return _METAVARS.get(field.annotation, "TEXT")
