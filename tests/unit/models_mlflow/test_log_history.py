"""The tag that tells which models a run logged, and their signatures."""

import json
from typing import Any

import pytest

from lakeport.models.mlflow.log_history import LONGEST, with_model


def mlmodel(uuid: str = "u1", columns: int = 2, **more: Any) -> dict[str, Any]:
    inputs = [{"type": "double", "name": f"column {n}", "required": True} for n in range(columns)]
    signature = {"inputs": json.dumps(inputs), "outputs": '[{"type": "long"}]', "params": None}
    return {
        "model_uuid": uuid,
        "artifact_path": "model",
        "flavors": {"python_function": {"loader_module": "mlflow.sklearn"}},
        "signature": signature,
        "mlflow_version": "3.17.2",
    } | more


def told(value: str | None) -> list[dict[str, Any]]:
    assert value is not None
    assert len(value) <= LONGEST
    found: list[dict[str, Any]] = json.loads(value)
    return found


def test_it_is_the_longest_that_mlflow_keeps() -> None:
    validation = pytest.importorskip("mlflow.utils.validation")

    assert LONGEST == validation.MAX_TAG_VAL_LENGTH


def test_a_model_is_told_with_its_signature() -> None:
    model = mlmodel()

    (entry,) = told(with_model(None, model, "run1"))

    assert entry == {
        "run_id": "run1",
        "artifact_path": "model",
        "model_uuid": "u1",
        "flavors": model["flavors"],
        "signature": model["signature"],
    }


def test_a_second_model_of_the_run_comes_after_the_first() -> None:
    first = with_model(None, mlmodel("u1"), "run1")

    entries = told(with_model(first, mlmodel("u2"), "run1"))

    assert [entry["model_uuid"] for entry in entries] == ["u1", "u2"]


@pytest.mark.parametrize("history", ['[{"model_uuid": "u1"}]', "not JSON", '{"a": 1}'])
def test_what_others_wrote_stays(history: str) -> None:
    assert with_model(history, mlmodel("u1"), "run1") is None


def test_flavors_are_left_out_before_the_signature_is() -> None:
    model = mlmodel(flavors={"custom": {"code": "x" * LONGEST}})

    (entry,) = told(with_model(None, model, "run1"))

    assert "flavors" not in entry
    assert entry["signature"] == model["signature"]


def test_the_oldest_models_make_room() -> None:
    history = None
    for number in range(40):
        history = with_model(history, mlmodel(f"u{number}"), "run1")

    entries = told(history)

    assert entries[-1]["model_uuid"] == "u39"
    assert 1 < len(entries) < 40


def test_of_very_many_columns_the_first_are_told() -> None:
    model = mlmodel(columns=1000)

    (entry,) = told(with_model(None, model, "run1"))

    assert entry["signature"]["cut"]
    columns = json.loads(entry["signature"]["inputs"])
    assert columns == json.loads(model["signature"]["inputs"])[: len(columns)]
    assert len(columns) > 50


def test_a_model_without_a_signature_is_told_without_one() -> None:
    (entry,) = told(with_model(None, mlmodel(signature=None), "run1"))

    assert "signature" not in entry
    assert "flavors" in entry
