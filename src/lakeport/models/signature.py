"""A model's interface: its signature and its input example, as parsed JSON."""

import json
from dataclasses import dataclass
from pathlib import Path

from lakeport.models.mlmodel import MLmodel, read_json

#: An example larger than this tells nobody anything.
MAX_EXAMPLE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Signature:
    """Each is None where the model does not say."""

    #: Columns or tensors: [{"type": "double", "name": "x", "required": true}], or
    #: [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}].
    inputs: list[dict[str, object]] | None
    outputs: list[dict[str, object]] | None
    #: [{"name": "temperature", "type": "double", "default": 1.0, "shape": null}].
    params: list[dict[str, object]] | None
    #: A request body in the scoring protocol's form, e.g. {"dataframe_split": {...}}.
    example: object | None


def read_signature(model: MLmodel, folder: Path) -> Signature:
    return Signature(
        inputs=_fields(model.signature.get("inputs")),
        outputs=_fields(model.signature.get("outputs")),
        params=_fields(model.signature.get("params")),
        example=_example(model, folder),
    )


def _fields(text: object) -> list[dict[str, object]] | None:
    """MLflow writes each part as JSON text inside the YAML."""
    if not isinstance(text, str):
        return None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, list) or not all(isinstance(item, dict) for item in parsed):
        return None
    return parsed


def _example(model: MLmodel, folder: Path) -> object | None:
    serving = _inside(folder, model.example.get("serving_input_path"))
    if serving is not None and (document := read_json(serving, MAX_EXAMPLE)) is not None:
        return document
    saved = _inside(folder, model.example.get("artifact_path"))
    document = read_json(saved, MAX_EXAMPLE) if saved is not None else None
    if document is None:
        return None
    match model.example.get("type"):
        case "dataframe":
            split = model.example.get("pandas_orient", "split") == "split"
            return {"dataframe_split" if split else "dataframe_records": document}
        case "ndarray" | "json_object":
            return {"inputs": document}
        case _:
            return None


def _inside(folder: Path, name: object) -> Path | None:
    """A file of the model by its name; a name that leads out of the folder is nobody's example."""
    if not isinstance(name, str) or not name:
        return None
    path = (folder / name).resolve()
    return path if path.is_relative_to(folder.resolve()) else None
