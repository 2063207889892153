"""What a saved model says of itself, read from its `MLmodel` file without MLflow."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

#: A file larger than this is not a description of a model.
MAX_BYTES = 8 * 1024 * 1024


class BadModel(Exception):
    """The folder holds no model that can be read; the message is for people and names no path."""


@dataclass(frozen=True, slots=True)
class MLmodel:
    #: Flavor to what it wrote: {"python_function": {"loader_module": ...}, "sklearn": ...}
    flavors: Mapping[str, Mapping[str, object]]
    #: The MLflow that saved it, e.g. "3.1.0".
    mlflow_version: str | None = None
    #: "inputs", "outputs", "params": JSON text each, or None.
    signature: Mapping[str, object] = field(default_factory=dict)
    #: `saved_input_example_info`, empty without one.
    example: Mapping[str, object] = field(default_factory=dict)


def read_mlmodel(folder: Path) -> MLmodel:
    """The `MLmodel` file in `folder`. Raises BadModel."""
    try:
        text = read_bounded(folder / "MLmodel")
    except FileNotFoundError:
        raise BadModel("there is no MLmodel file in it") from None
    except (OSError, ValueError) as error:
        raise BadModel(f"its MLmodel file cannot be read: {type(error).__name__}") from error
    try:
        document: object = yaml.load(text, Loader=_LOADER)  # noqa: S506 - one of the safe ones
    except yaml.YAMLError as error:
        raise BadModel("its MLmodel file is not YAML") from error
    if not isinstance(document, dict) or not isinstance(document.get("flavors"), dict):
        raise BadModel("its MLmodel file names no flavors")
    version = document.get("mlflow_version")
    return MLmodel(
        flavors={str(name): _mapping(value) for name, value in document["flavors"].items()},
        mlflow_version=str(version) if version else None,
        signature=_mapping(document.get("signature")),
        example=_mapping(document.get("saved_input_example_info")),
    )


def read_bounded(path: Path, limit: int = MAX_BYTES) -> str:
    """A small text file. Raises OSError, ValueError (too large, not UTF-8)."""
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path.name} is larger than {limit} bytes")
    return content.decode()


def read_json(path: Path, limit: int) -> object:
    """A small JSON file; None where there is none that can be read."""
    try:
        document: object = json.loads(read_bounded(path, limit))
    except (OSError, ValueError):
        return None
    return document


def _mapping(value: object) -> Mapping[str, object]:
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}


#: The C loader where PyYAML has it: 10 times as fast, and as safe.
_LOADER: type[yaml.SafeLoader] | type[yaml.CSafeLoader] = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)
