"""What a plan takes, it makes of it what MLflow makes of it: over signatures, forms and values."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.models.utils import _enforce_schema
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array, Object, Property
from pandas.testing import assert_frame_equal

from lakeport.worker import json_arrays, model_input, request_body, unchecked
from lakeport.worker.frames import frame_of
from lakeport.worker.plan import Columns, Floats, Plan, Tensor, Tensors, plan_of

BOUNDED = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

INTEGERS = st.one_of(
    *[st.integers(-5, 5)] * 8,
    st.sampled_from([2**31 - 1, 2**31, -(2**31), 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63]),
    st.sampled_from([-(2**63), 2**64, 10**25, -(10**30)]),
)
FLOATS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.1, -0.0, 1e39, 1e-320, 2.0])
)
ODD: st.SearchStrategy[Any] = st.sampled_from([None, True, "1.5", "x", "", [], [1.0], {}, {"a": 1}])
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "double": st.one_of(FLOATS, FLOATS, INTEGERS, st.none()),
    "float": st.one_of(FLOATS, FLOATS, INTEGERS, st.none()),
    "long": INTEGERS,
    "integer": INTEGERS,
    "boolean": st.booleans(),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
}
NAMES = ["a", "b", "c", "data"]
FORMS = ["dataframe_split", "dataframe_records", "instances", "inputs"]


@st.composite
def asked(draw: st.DrawFn, schema: Schema, *, odd: bool) -> tuple[str, Any]:
    """A form and a value: nearly always one that the schema might take."""
    names = NAMES[: len(schema.inputs)]
    kinds = [str(column.type).removeprefix("DataType.") for column in schema.inputs]
    values = [st.one_of(*[GOOD[kind]] * 9, ODD) if odd else GOOD[kind] for kind in kinds]
    rows = draw(st.lists(st.tuples(*values).map(list), min_size=1, max_size=4))
    form = draw(st.sampled_from(FORMS))
    usual = "named" if schema.has_input_names() else "bare"
    shape = draw(st.sampled_from([usual, usual, usual, "named", "bare"]))
    order = draw(st.permutations(range(len(names))))
    columns, rows = [names[at] for at in order], [[row[at] for at in order] for row in rows]
    if odd and draw(st.integers(0, 9)) == 0:
        rows[-1] = rows[-1][:-1]
    if odd and draw(st.integers(0, 9)) == 0:
        columns[-1] = draw(st.sampled_from(["other", columns[0]]))
    if form == "dataframe_split":
        return form, ({"columns": columns} if shape == "named" else {}) | {"data": rows}
    if shape == "bare":
        return form, rows
    if form == "inputs" and draw(st.booleans()):
        return form, {
            name: [row[at] for row in rows if at < len(row)] for at, name in enumerate(columns)
        }
    return form, [dict(zip(columns, row, strict=False)) for row in rows]


def text_of(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


@st.composite
def read(draw: st.DrawFn, plan: Plan, form: str, value: Any) -> Any:
    """The value as it is read from its text, by either way that a plan allows."""
    body = text_of({form: value})
    found = None
    if plan.numbers is not None and draw(st.booleans()):
        found = json_arrays.loads(body, plan.numbers)
    if found is None:
        found = request_body.loads(body, exact_integers=plan.exact_integers)
    return found[form]


def mlflows(form: str, value: Any, schema: Schema) -> Any:
    """What MLflow's server hands to the model. Raises whatever refuses it."""
    interface = model_input.Interface(schema=schema, params=frozenset(), type_hinted=False)
    scoring = model_input.scoring_of(request_body.parse_json(text_of({form: value})), interface)
    return _enforce_schema(scoring.data, schema)


@pytest.mark.filterwarnings("ignore")
@BOUNDED
@given(data=st.data())
def test_what_a_plan_takes_becomes_mlflows_frame(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(sorted(GOOD)), min_size=1, max_size=4))
    if data.draw(st.booleans()):
        kinds = [kinds[0]] * len(kinds)
    named = data.draw(st.sampled_from([True, True, False]))
    required = data.draw(st.booleans()) or not named
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType[kind], NAMES[at] if named else None, required=required)
        for at, kind in enumerate(kinds)
    ]
    schema = Schema(columns)
    plan = plan_of(schema)
    assert isinstance(plan, Columns)
    assert unchecked.agrees(plan, schema)
    form, value = data.draw(asked(schema, odd=data.draw(st.booleans())))

    taken = plan.take(form, data.draw(read(plan, form, value)))
    joined = None if taken is None else plan.join([taken])

    if joined is not None:
        assert_frame_equal(frame_of(plan, joined), mlflows(form, value, schema), check_exact=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["double", "long", "boolean"])
def test_plain_requests_are_taken_in_every_form(form: str, kind: str) -> None:
    value = {"double": 1.5, "long": 2, "boolean": True}[kind]
    plan = Columns([("a", kind), ("b", kind)])
    values: dict[str, Any] = {
        "dataframe_split": {"columns": ["b", "a"], "data": [[value, value]]},
        "dataframe_records": [{"b": value, "a": value}],
        "instances": [{"a": value, "b": value}],
        "inputs": {"a": [value], "b": [value]},
    }

    taken = plan.take(form, values[form])

    assert taken is not None
    assert taken.rows == 1
    assert plan.join([taken]).tolist() == [[value, value]]


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("dataframe_split", {"columns": ["x", "n", "s", "b"], "data": []}),
        ("dataframe_split", {"columns": ["x", "n", "s", "b"], "data": [[1.5, 2, "a"]]}),
        ("dataframe_split", {"columns": ["x", "n", "s", "b"], "data": ["abcd"]}),
        ("dataframe_split", {"columns": ["x", "n", "s", "o"], "data": [[1.5, 2, "a", True]]}),
        ("dataframe_split", {"columns": ["x", "n", "s", "s"], "data": [[1.5, 2, "a", True]]}),
        ("dataframe_split", {"columns": ["x", "n", "s", ["b"]], "data": [[1.5, 2, "a", True]]}),
        ("dataframe_split", {"columns": None, "data": [[1.5, 2, "a", True]]}),
        ("dataframe_split", {"data": [[1.5, 2, "a", True]]}),
        (
            "dataframe_split",
            {"columns": ["x", "n", "s", "b"], "data": [[1.5, 2, "a", True]], "index": [7]},
        ),
        ("dataframe_split", [1]),
        ("dataframe_records", [{"x": 1.5, "n": 2, "s": "a"}]),
        ("dataframe_records", [{"x": 1.5, "n": 2, "s": "a", "b": True, "o": 1}]),
        ("dataframe_records", [[1.5, 2, "a", True]]),
        ("dataframe_records", {"x": [1.5]}),
        ("dataframe_records", []),
        ("inputs", [[1.5, 2, "a", True]]),
        ("inputs", "text"),
        ("other", [[1.5, 2, "a", True]]),
    ],
)
def test_another_shape_takes_mlflows_way(form: str, value: Any) -> None:
    plan = Columns([("x", "double"), ("n", "long"), ("s", "string"), ("b", "boolean")])

    assert plan.take(form, value) is None


@pytest.mark.parametrize(
    "row",
    [
        [True, 2, "a", True],
        ["1.5", 2, "a", True],
        [2**53, 2, "a", True],
        [1.5, 2.0, "a", True],
        [1.5, True, "a", True],
        [1.5, 2**63, "a", True],
        [1.5, 2, 3, True],
        [1.5, 2, None, True],
        [1.5, 2, "a", 1],
    ],
)
def test_another_type_takes_mlflows_way(row: list[Any]) -> None:
    plan = Columns([("x", "double"), ("n", "long"), ("s", "string"), ("b", "boolean")])
    taken = plan.take("dataframe_records", [dict(zip("xnsb", row, strict=True))])

    assert taken is not None
    assert plan.join([taken]) is None


@pytest.mark.parametrize("other", [2**53, -(2**60)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_nan_hides_no_large_integer(other: int, place: int) -> None:
    values: list[float] = [1, other]
    values.insert(place, math.nan)
    plan = Columns([("x", "double")])
    taken = plan.take("inputs", {"x": values})

    assert taken is not None
    assert plan.join([taken]) is None


def test_requests_of_all_forms_are_joined_in_their_order() -> None:
    plan = Columns([("a", "double"), ("b", "double")])
    asked = [
        plan.take("dataframe_split", {"columns": ["b", "a"], "data": [[2.0, 1.0], [4.0, 3.0]]}),
        plan.take("inputs", {"b": [6.0], "a": [5.0]}),
        plan.take("instances", [{"b": None, "a": 7}]),
    ]

    taken = [one for one in asked if one is not None]

    assert [one.rows for one in taken] == [2, 1, 1]
    assert len({one.key for one in taken}) == 1
    np.testing.assert_array_equal(plan.join(taken), [[1, 2], [3, 4], [5, 6], [7, math.nan]])


@pytest.mark.parametrize(
    "column",
    [
        ColSpec(DataType.datetime, "a"),
        ColSpec(DataType.binary, "a"),
        ColSpec(Array(DataType.double), "a"),
        ColSpec(Object([Property("p", DataType.double)]), "a"),
        TensorSpec(np.dtype("str"), (-1, 2), "a"),
        TensorSpec(np.dtype("float64"), (3, 2), "a"),
    ],
)
def test_signatures_of_other_types_have_no_plan(column: ColSpec | TensorSpec) -> None:
    assert plan_of(Schema([column])) is None
    assert plan_of(None) is None


NESTED: st.SearchStrategy[Any] = st.recursive(
    st.one_of(FLOATS, INTEGERS, ODD),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=8,
)
DTYPES = ["float64", "float32", "int64", "int32", "uint8", "bool"]


@pytest.mark.filterwarnings("ignore")
@BOUNDED
@given(data=st.data())
def test_what_a_plan_takes_becomes_mlflows_array(data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    width = data.draw(st.sampled_from([-1, 1, 2]))
    schema = Schema([TensorSpec(dtype, (-1, width))])
    plan = plan_of(schema)
    assert isinstance(plan, Tensor)
    form = data.draw(st.sampled_from(["inputs", "instances"]))
    item = data.draw(st.sampled_from([FLOATS, INTEGERS, st.booleans(), st.one_of(FLOATS, ODD)]))
    rows = st.lists(st.lists(item, min_size=1, max_size=2), min_size=1, max_size=3)
    value = data.draw(st.one_of(rows, rows, NESTED))

    taken = plan.take(form, data.draw(read(plan, form, value)))

    if taken is not None:
        expected = mlflows(form, value, schema)
        joined = plan.join([taken])
        assert joined.dtype == expected.dtype
        np.testing.assert_array_equal(joined, expected, strict=True)


def test_tensors_by_name_are_joined_where_their_shapes_agree() -> None:
    plan = plan_of(
        Schema(
            [
                TensorSpec(np.dtype("float32"), (-1, 2), "a"),
                TensorSpec(np.dtype("int64"), (-1,), "b"),
            ]
        )
    )
    assert isinstance(plan, Tensors)

    first = plan.take("inputs", {"a": [[1, 2]], "b": [3]})
    second = plan.take("inputs", {"b": [6, 9], "a": [[4, 5], [7, 8]]})
    uneven = plan.take("inputs", {"a": [[1, 2]], "b": [3, 4]})

    assert uneven is None
    assert first is not None
    assert second is not None
    assert first.key == second.key
    joined = plan.join([first, second])
    assert joined["a"].tolist() == [[1, 2], [4, 5], [7, 8]]
    assert joined["b"].tolist() == [3, 6, 9]
    assert joined["a"].dtype == "float32"


def test_tensors_with_other_free_dimensions_are_kept_apart() -> None:
    plan = Tensor("float64", (-1, -1))

    narrow, wide = plan.take("inputs", [[1.0]]), plan.take("inputs", [[1.0, 2.0]])

    assert narrow is not None
    assert wide is not None
    assert narrow.key != wide.key


@pytest.mark.parametrize(
    ("form", "value", "taken"),
    [
        ("dataframe_split", {"columns": ["a", "b"], "data": [[1.5, 2.5]]}, True),
        ("dataframe_split", {"columns": ["b", "a"], "data": [[1.5, 2.5]]}, False),
        ("dataframe_split", {"columns": ["a", "b"], "data": [[1, 2.5]]}, False),
        ("dataframe_split", {"data": [[1.5, 2.5]]}, False),
        ("inputs", [[1.5, 2.5]], True),
        ("instances", [[1.5, 2.5], [3.5, 4.5]], True),
        ("instances", [[1.5, None]], False),
        ("dataframe_records", [{"a": 1.5, "b": 2.5}], False),
    ],
)
def test_without_a_signature_only_floats_are_taken(form: str, value: Any, taken: bool) -> None:
    plan = Floats(2, ["a", "b"])
    asked = plan.take(form, value)
    joined = None if asked is None else plan.join([asked])

    assert (joined is not None) is taken
    if joined is not None:
        data = value["data"] if form == "dataframe_split" else value
        np.testing.assert_array_equal(joined, pd.DataFrame(data).to_numpy(), strict=True)
