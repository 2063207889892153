"""Makes docs/settings.md: `python -m lakeport.cli.settings_page > docs/settings.md`."""

import json
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from lakeport.cli.options import setting_default
from lakeport.settings import CONFIG_NAME, Settings, env_name, flag_name

#: What one might write, where neither the default nor the type tells.
EXAMPLES = {
    "model": '["iris=models:/iris/1"]',
    "chat": '["writer=system.ai.smollm2-135m-instruct"]',
    "embeddings": '["minilm=system.ai.all-minilm-l6-v2"]',
    "mlflow_tracking_uri": '"http://mlflow.example:5000"',
    "egress_allow": '["ollama.internal", "10.1.0.0/16"]',
    "engine_threads": "2",
    "scale_up_to": "4",
}

INTRODUCTION = f"""\
# Settings

Made from `src/lakeport/settings.py` by `python -m lakeport.cli.settings_page`; change it there.

Each setting is a flag of `lakeport serve`, a variable of the environment, and a key of a TOML file.
A flag counts before the environment, and that before the file. The file is `HOME/{CONFIG_NAME}`,
where it exists, or the one that `--config` names. A variable that is set but empty counts as not
set. What the file holds besides settings is refused.

| Setting | Environment | Flag | TOML | Default | Meaning |
| --- | --- | --- | --- | --- | --- |
"""


def page() -> str:
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    return INTRODUCTION + "\n".join(rows) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    default = setting_default(field)
    cells = (
        f"`{name}`",
        f"`{env_name(name)}`",
        f"`{flag_name(name)}`",
        f"`{name} = {_example(name, field)}`",
        f"`{default}`" if default else "none",
        _choices(field) + (field.description or ""),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _example(name: str, field: FieldInfo) -> str:
    """The default as TOML, or what one might write where there is none."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if name in EXAMPLES:
        return EXAMPLES[name]
    if value is None:
        return '"..."'
    return json.dumps(str(value) if isinstance(value, Path) else value)


def _choices(field: FieldInfo) -> str:
    if get_origin(field.annotation) is not Literal:
        return ""
    return "One of " + ", ".join(f"`{choice}`" for choice in get_args(field.annotation)) + ". "


if __name__ == "__main__":
    print(page(), end="")
