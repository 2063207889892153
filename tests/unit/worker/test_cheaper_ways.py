"""Ways that are only cheaper than the plain ones give what those give."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.utils.proto_json_utils import dataframe_from_parsed_json
from pandas.testing import assert_frame_equal

from lakeport.worker import request_body
from lakeport.worker.frames import frame_of
from lakeport.worker.plan import Columns

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
