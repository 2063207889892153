"""MLmodel files, signatures and examples, read without MLflow."""

import json
from pathlib import Path

import pytest

from lakeport.models.mlmodel import BadModel, read_mlmodel
from lakeport.models.signature import Signature, read_signature

SKLEARN = """\
flavors:
  python_function:
    loader_module: mlflow.sklearn
    python_version: 3.11.7
  sklearn:
    sklearn_version: 1.9.1
mlflow_version: 3.17.2
saved_input_example_info:
  artifact_path: input_example.json
  pandas_orient: split
  serving_input_path: serving_input_example.json
  type: dataframe
signature:
  inputs: '[{"type": "double", "name": "x", "required": true}]'
  outputs: '[{"type": "long", "required": true}]'
  params: null
"""
BARE = "flavors:\n  python_function: {}\n"


def save(folder: Path, mlmodel: str, **files: object) -> Path:
    (folder / "MLmodel").write_text(mlmodel)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def signature(folder: Path) -> Signature:
    return read_signature(read_mlmodel(folder), folder)


def test_flavors_and_versions(tmp_path: Path) -> None:
    model = read_mlmodel(save(tmp_path, SKLEARN))

    assert set(model.flavors) == {"python_function", "sklearn"}
    assert model.flavors["python_function"]["loader_module"] == "mlflow.sklearn"
    assert model.mlflow_version == "3.17.2"


@pytest.mark.parametrize(
    ("metadata", "task"),
    [
        ("metadata: {task: agent/v2/chat}", "agent/v2/chat"),
        ("metadata: {task: llm/v1/chat, more: [1]}", "llm/v1/chat"),
        ("", None),
        ("metadata: null", None),
        ("metadata: [task]", None),
        ("metadata: {other: 1}", None),
        ("metadata: {task: ''}", None),
        ("metadata: {task: 3}", None),
        ("metadata: {task: [agent/v1/chat]}", None),
        (f"metadata: {{task: {'x' * 65}}}", None),
    ],
)
def test_the_task_is_what_the_metadata_says(
    tmp_path: Path, metadata: str, task: str | None
) -> None:
    assert read_mlmodel(save(tmp_path, BARE + metadata)).task == task


def test_the_signature_is_parsed(tmp_path: Path) -> None:
    said = signature(save(tmp_path, SKLEARN))

    assert said.inputs == [{"type": "double", "name": "x", "required": True}]
    assert said.outputs == [{"type": "long", "required": True}]
    assert said.params is None


def test_a_model_without_a_signature_says_nothing(tmp_path: Path) -> None:
    assert signature(save(tmp_path, BARE)) == Signature(None, None, None, None)


def test_the_serving_example_is_taken_as_it_is(tmp_path: Path) -> None:
    example = {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}

    assert signature(save(tmp_path, SKLEARN, serving_input_example=example)).example == example


@pytest.mark.parametrize(
    ("kind", "orient", "saved", "body"),
    [
        (
            "dataframe",
            "split",
            {"columns": ["x"], "data": [[1]]},
            {"dataframe_split": {"columns": ["x"], "data": [[1]]}},
        ),
        ("dataframe", "records", [{"x": 1}], {"dataframe_records": [{"x": 1}]}),
        ("ndarray", "split", [[1, 2]], {"inputs": [[1, 2]]}),
        ("json_object", "split", {"q": "?"}, {"inputs": {"q": "?"}}),
        ("sparse_matrix_csr", "split", {"data": []}, None),
    ],
)
def test_an_older_example_is_put_into_the_scoring_form(
    tmp_path: Path, kind: str, orient: str, saved: object, body: object
) -> None:
    mlmodel = SKLEARN.replace("type: dataframe", f"type: {kind}")
    mlmodel = mlmodel.replace("pandas_orient: split", f"pandas_orient: {orient}")

    assert signature(save(tmp_path, mlmodel, input_example=saved)).example == body


def test_an_example_outside_the_model_is_no_example(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"password": 1}')
    folder = tmp_path / "model"
    folder.mkdir()
    mlmodel = SKLEARN.replace("serving_input_example.json", "../secret.json")

    assert signature(save(folder, mlmodel)).example is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no MLmodel file in it"),
        ("flavors: [", "its MLmodel file is not YAML"),
        ("", "its MLmodel file names no flavors"),
        ("flavors: 3", "its MLmodel file names no flavors"),
        ("!!python/object/apply:os.system [echo]", "its MLmodel file is not YAML"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "MLmodel").write_text(content)

    with pytest.raises(BadModel, match=message):
        read_mlmodel(tmp_path)
