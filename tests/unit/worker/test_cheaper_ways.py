"""Ways that are only cheaper than the plain ones give what those give."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.utils.proto_json_utils import dataframe_from_parsed_json
from pandas.testing import assert_frame_equal

from lakeport.worker import request_body
from lakeport.worker.frames import frame_of
from lakeport.worker.plan import Columns
from tests.unit.worker.scoring import Pair

KINDS: dict[str, st.SearchStrategy[Any]] = {
    "double": st.one_of(st.floats(allow_nan=False), st.integers(-(2**53), 2**53 - 1)),
    "float": st.one_of(st.floats(allow_nan=False), st.integers(-(2**53), 2**53 - 1)),
    "long": st.integers(-(2**63), 2**63 - 1),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "boolean": st.booleans(),
}


def joined(plan: Columns, body: dict[str, Any]) -> Any:
    asked = plan.take("dataframe_split", body)
    assert asked is not None
    return plan.join([asked])


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_frame_whose_columns_are_of_one_kind_is_mlflows(kind: str, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(KINDS[kind], min_size=3, max_size=3), min_size=1))
    columns: list[ColSpec | TensorSpec] = [ColSpec(DataType[kind], name) for name in "abc"]
    plan = Columns([(name, kind) for name in "abc"])
    body = {"columns": list("abc"), "data": rows}

    frame = frame_of(plan, joined(plan, body))

    mlflows = dataframe_from_parsed_json(body, pandas_orient="split", schema=Schema(columns))
    assert_frame_equal(frame, mlflows, check_exact=True)


def test_what_a_frame_suffers_leaves_the_next_one_alone() -> None:
    plan = Columns([("a", "double"), ("b", "double")])
    body = {"columns": ["a", "b"], "data": [[1.0, 2.0]]}
    first = frame_of(plan, joined(plan, body))
    first.columns.name = "spoilt"
    first["b"] = 0.0

    second = frame_of(plan, joined(plan, body))

    assert list(second.columns) == ["a", "b"]
    assert second.columns.name is None
    assert second.to_numpy().tolist() == [[1.0, 2.0]]


DIGITS = st.text("0123456789", min_size=1, max_size=45)
NUMBERS = st.builds(
    lambda sign, whole, fraction, exponent: sign + str(int(whole)) + fraction + exponent,
    st.sampled_from(["", "-"]),
    DIGITS,
    st.one_of(st.just(""), DIGITS.map(lambda digits: f".{digits}")),
    st.one_of(st.just(""), st.integers(-400, 250).map(lambda power: f"e{power}")),
)


@settings(max_examples=300)
@given(numbers=st.lists(NUMBERS, max_size=5))
def test_numbers_of_any_length_are_read_as_by_python(numbers: list[str]) -> None:
    body = f'{{"inputs": [{", ".join(numbers)}]}}'

    read = request_body.parse_json(body.encode()).fields["inputs"]

    assert list(map(repr, read)) == list(map(repr, json.loads(body)["inputs"]))
    assert all(math.isfinite(number) for number in read)


def _with_context(self: Any, context: Any, model_input: Any) -> Any:
    return [type(context).__name__, *model_input["a"]][1:]


def _with_params(self: Any, model_input: Any, params: Any = None) -> Any:
    return [f"{value} {params}" for value in model_input["a"]]


def _with_both(self: Any, context: Any, model_input: Any, params: Any = None) -> Any:
    return [f"{value} {params} {sorted(context.artifacts)}" for value in model_input["a"]]


def _another_next_time(self: Any, context: Any, model_input: Any) -> Any:
    self.predict = lambda context, model_input: [-value for value in model_input["a"]]
    return list(model_input["a"])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("predict", [_with_context, _with_params, _with_both, _another_next_time])
@pytest.mark.parametrize("params", [None, {"p": 1}])
def test_a_python_model_is_asked_as_by_mlflow(
    tmp_path: Path, predict: Any, params: dict[str, Any] | None
) -> None:
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    model = type("Asked", (mlflow.pyfunc.PythonModel,), {"predict": predict})()
    rows = {"a": [1.5, 2.5]}
    signature = infer_signature(pd.DataFrame(rows), params=params)
    mlflow.pyfunc.save_model(
        tmp_path / "m", python_model=model, signature=signature, pip_requirements=[]
    )
    ours, theirs = Pair.load(tmp_path / "m"), Pair.load(tmp_path / "m")
    text = json.dumps({"inputs": rows}).encode()

    for _ in range(3):
        reply = ours.ours(text)

        assert reply.status == 200, reply
        assert reply == theirs.mlflows(text)
    assert ours.scorer.model.plan is not None
