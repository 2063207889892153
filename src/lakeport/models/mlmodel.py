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
    #: `metadata.task`, by which Databricks knows agents and language models: "agent/v2/chat".
    task: str | None = None


def read_mlmodel(folder: Path) -> MLmodel:
    """The `MLmodel` file in `folder`. Raises BadModel."""
    try:
        text = read_bounded(folder / "MLmodel")
    except FileNotFoundError:
        raise BadModel("there is no MLmodel file in it") from None
    except (OSError, ValueError) as error:
        raise BadModel(f"its MLmodel file cannot be read: {type(error).__name__}") from error
    try:
        document = load_yaml(text)
    except ValueError as error:
        raise BadModel(f"its MLmodel file {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("flavors"), dict):
        raise BadModel("its MLmodel file names no flavors")
    version = document.get("mlflow_version")
    return MLmodel(
        flavors={str(name): _mapping(value) for name, value in document["flavors"].items()},
        mlflow_version=str(version) if version else None,
        signature=_mapping(document.get("signature")),
        example=_mapping(document.get("saved_input_example_info")),
        task=_task(document),
    )


def _task(document: Mapping[str, object]) -> str | None:
    task = _mapping(document.get("metadata")).get("task")
    return task if isinstance(task, str) and 0 < len(task) <= 64 else None


def read_bounded(path: Path, limit: int = MAX_BYTES) -> str:
    """A small text file. Raises OSError, ValueError (too large, not UTF-8)."""
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path.name} is larger than {limit} bytes")
    return content.decode()


def load_yaml(text: str) -> object:
    """What plain YAML says. Raises ValueError, whose message goes on from the file's name."""
    try:
        document: object = yaml.load(text, Loader=_Loader)  # noqa: S506 - one of the safe ones
    except Exception as error:  # odd scalars make PyYAML raise whatever came up inside
        raise ValueError("is not YAML") from error
    _refuse_bomb(document, 4 * len(text))
    return document


def _refuse_bomb(document: object, largest: int) -> None:
    """Some bytes of aliases can stand for billions of values, or for endless ones.

    Raises ValueError when the document is larger than `largest`, in values and characters.
    """
    size = 0
    left = [document]
    while left:
        match left.pop():
            case dict(members):
                inner: list[object] = [*members, *members.values()]
            case list() | tuple() | set() as items:
                inner = list(items)
            case str() | bytes() as scalar:
                size += len(scalar)
                inner = []
            case _:
                inner = []
        size += len(inner)
        if size > largest:
            raise ValueError("stands for more than it may")
        left += inner


def read_json(path: Path, limit: int) -> object:
    """A small JSON file; None where there is none that can be read."""
    try:
        document: object = json.loads(read_bounded(path, limit))
    except (OSError, ValueError, RecursionError):
        return None
    return document


def _mapping(value: object) -> Mapping[str, object]:
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}


# The C loader where PyYAML has it: 10 times as fast, and as safe.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Without merge keys, `<<`: a few of them can take for ever."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        pass
