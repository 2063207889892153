"""What is refused before it is sent, and that MLflow would have refused it too."""

import json
import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_params_schema, _enforce_schema
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, DataType, Map, Object, Property

from lakeport.client.encode import Encoded, Given, encode, to_json
from lakeport.client.errors import InvalidInput, Problem
from lakeport.client.signature import Column, Param, Signature, from_mlmodel, from_openapi
from lakeport.client.validate import LIMIT, check, ignored
from lakeport.control import openapi
from lakeport.runtimes.base import ModelInterface
from lakeport.worker import model_input, request_body
from lakeport.worker.refusal import Refusal

logging.getLogger("mlflow").setLevel(logging.ERROR)
QUICK = settings(
    max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

WORDS = st.sampled_from(
    ["", "x", "1", "1.5", "nan", "now", "may", "2024-01-01", "2024-01-01T00:00:00Z", "aGk=", "aGk"]
)
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | WORDS
DIRTY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2)
    ),
    max_leaves=4,
)
TYPES: list[Any] = [
    *(DataType[name] for name in ("double", "float", "long", "integer", "string", "boolean")),
    DataType.datetime,
    DataType.binary,
    Array(DataType.double),
    Array(DataType.long),
    Array(DataType.string),
    Array(Array(DataType.double)),
    Array(Object([Property("x", DataType.long)])),
    Array(AnyType()),
    Object([Property("x", DataType.double), Property("y", DataType.string, required=False)]),
    Object([Property("x", Array(DataType.boolean)), Property("y", AnyType(), required=False)]),
    Map(DataType.double),
    Map(Array(DataType.string)),
    AnyType(),
]
#: Values that fit a type, so that one wrong value in many right ones is found too.
CLEAN = {
    "double": st.floats(-2, 2),
    "long": st.integers(-3, 3),
    "string": st.sampled_from(["a", "b"]),
}


def refused(document: dict[str, Any], schema: Schema) -> str | None:
    """What the server's side says: its codec, then MLflow's enforcement."""
    interface = model_input.Interface(schema=schema, params=frozenset(), type_hinted=False)
    try:
        scoring = model_input.scoring_of(request_body.parse_json(to_json(document)), interface)
        _enforce_schema(scoring.data, schema)
    except (Refusal, MlflowException) as error:
        return str(error)
    except Exception as error:  # enforcement may fall over: that is no answer either
        return repr(error)
    return None


def page_of(schema: Schema) -> Signature:
    """The signature as the endpoint's page tells it."""
    interface = ModelInterface(json.loads(schema.to_json()), None, None)
    found = from_openapi(openapi.document("e", 1, "http://h", [("m", interface)]))
    assert found is not None
    return found


def signatures(schema: Schema) -> list[Signature]:
    return [from_mlmodel({"inputs": schema.to_json()}), page_of(schema)]


def assert_never_false(document: dict[str, Any], schema: Schema) -> None:
    problems = [check(Encoded(document, "scoring"), each) for each in signatures(schema)]
    event(f"problems: {bool(problems[0])}")
    if any(problems):
        assert refused(document, schema), problems


@st.composite
def specs(draw: st.DrawFn) -> Schema:
    names = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
    return Schema(
        [
            ColSpec(draw(st.sampled_from(TYPES)), name, required=draw(st.booleans()))
            for name in names
        ]
    )


def cells(column: Any) -> st.SearchStrategy[Any]:
    clean = CLEAN.get(getattr(column.type, "name", ""))
    return DIRTY if clean is None else st.one_of(clean, clean, clean, DIRTY)


@QUICK
@given(specs(), st.data())
def test_nothing_is_refused_that_mlflow_takes_as_split(schema: Schema, data: st.DataObject) -> None:
    labels = data.draw(st.permutations([*schema.input_names(), "extra"]))
    labels = labels[: data.draw(st.integers(1, len(labels)))]
    of = schema.input_dict()
    row = st.tuples(*(cells(of[name]) if name in of else DIRTY for name in labels))
    rows = data.draw(st.lists(row, min_size=1, max_size=3))

    assert_never_false({"dataframe_split": {"columns": labels, "data": rows}}, schema)


@QUICK
@given(specs(), st.data())
def test_nothing_is_refused_that_mlflow_takes_as_records(
    schema: Schema, data: st.DataObject
) -> None:
    fields = {name: cells(column) for name, column in schema.input_dict().items()}
    record = st.fixed_dictionaries({}, optional={**fields, "extra": DIRTY})
    records = data.draw(st.lists(record, min_size=1, max_size=3))

    assert_never_false({"dataframe_records": records}, schema)


@QUICK
@given(specs(), st.sampled_from(["inputs", "instances"]), st.data())
def test_nothing_is_refused_that_mlflow_takes_as_inputs(
    schema: Schema, form: str, data: st.DataObject
) -> None:
    of = schema.input_dict()
    column = st.dictionaries(
        st.sampled_from([*of, "extra"]), DIRTY | st.lists(DIRTY, max_size=2), max_size=4
    )
    value = data.draw(column | st.lists(column, max_size=2) | DIRTY | st.lists(DIRTY, max_size=2))

    assert_never_false({form: value}, schema)


@QUICK
@given(
    st.lists(st.sampled_from(TYPES[:8]), min_size=2, max_size=3),
    st.lists(st.lists(SCALARS, min_size=1, max_size=4), min_size=1, max_size=2),
    st.sampled_from([None, ["a", "b", "c", "d"], [0, 1, 2, 3], [1, 0, 2, 3]]),
)
def test_nothing_is_refused_of_columns_without_names(
    types: list[Any], rows: list[list[Any]], labels: list[Any] | None
) -> None:
    schema = Schema([ColSpec(type) for type in types])
    split: dict[str, Any] = {"data": rows}
    if labels is not None:
        split["columns"] = labels[: max(map(len, rows))]

    assert_never_false({"dataframe_split": split}, schema)


TENSORS = st.builds(
    lambda dtype, shape: {"dtype": dtype, "shape": [-1, *shape]},
    st.sampled_from(["float64", "float32", "int64", "uint8", "bool", "object", "str"]),
    st.lists(st.sampled_from([-1, 1, 2, 3]), max_size=2),
)


@st.composite
def nested(draw: st.DrawFn) -> Any:
    """Mostly even lists, such as arrays are."""
    shape = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    leaf = draw(st.sampled_from([st.integers(0, 9), st.floats(-2, 2), st.booleans(), SCALARS]))

    def fill(sizes: list[int]) -> Any:
        if not sizes:
            return draw(leaf)
        return [fill(sizes[1:]) for _ in range(sizes[0])]

    return fill(shape)


@QUICK
@given(TENSORS, st.booleans(), nested() | DIRTY, st.data())
def test_nothing_is_refused_that_fits_a_tensor(
    spec: dict[str, Any], named: bool, value: Any, data: st.DataObject
) -> None:
    tensor = {"type": "tensor", "tensor-spec": spec} | ({"name": "t"} if named else {})
    schema = Schema.from_json(json.dumps([tensor]))
    split = {"columns": ["t", "u"][: data.draw(st.integers(1, 2))], "data": value}
    documents: list[dict[str, Any]] = [
        {"inputs": value},
        {"inputs": {"t": value}},
        {"instances": value},
        {"dataframe_split": split},
    ]

    assert_never_false(data.draw(st.sampled_from(documents)), schema)


PARAMS = [("boolean", True), ("long", 1), ("integer", 1), ("double", 0.5), ("string", "a")]


@QUICK
@given(st.sampled_from(PARAMS), st.booleans(), DIRTY)
def test_no_param_is_refused_that_mlflow_takes(
    param: tuple[str, Any], several: bool, value: Any
) -> None:
    type, default = param
    spec = ParamSpec("p", type, [default] if several else default, (-1,) if several else None)
    signature = from_mlmodel({"params": json.dumps([spec.to_dict()]), "inputs": [{"type": "any"}]})
    problems = check(Encoded({"inputs": [1], "params": {"p": value}}, "scoring"), signature)

    if problems:
        with pytest.raises((MlflowException, ValueError)):
            _enforce_params_schema({"p": value}, ParamSchema([spec]))


FLOWER = Signature(
    (
        Column("sepal_length", "double"),
        Column("petals", "long"),
        Column("name", "string", required=False),
        Column("seen", "datetime"),
        Column("scores", {"type": "array", "items": {"type": "double"}}),
        Column("words", {"type": "array", "items": {"type": "string"}}),
    )
)
ROW = {
    "sepal_length": 1.5,
    "petals": 5,
    "name": "a",
    "seen": "2024-01-01",
    "scores": [0.5],
    "words": [],
}


def problems_of(signature: Signature = FLOWER, **given: Any) -> list[tuple[Any, Any, str]]:
    encoded = encode(Given(**given), signature)
    return [(each.column, each.row, each.message) for each in check(encoded, signature)]


def test_a_good_record_has_no_problem() -> None:
    assert problems_of(records=[ROW]) == []
    assert problems_of(rows=[list(ROW.values())]) == []


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("sepal_length", "long", "expected a number, got 'long'"),
        ("sepal_length", [1], "expected a number, got a list"),
        ("petals", None, "expected a whole number, got nothing: this type has no missing values"),
        ("petals", float("nan"), "expected a whole number, got nothing"),
        ("seen", "yesterday", "expected a time in ISO 8601, got 'yesterday'"),
        ("seen", "2024-01-01T00:00:00+02:00", "without a zone"),
        ("seen", True, "expected a time in ISO 8601, got True"),
        ("scores", 1.0, "expected a list, got 1.0"),
        ("scores", [0.5, "x"], "[1]: expected a number, got 'x'"),
        ("scores", None, "expected a list, got nothing"),
        ("words", [1, 2], "expected texts, got 1"),
    ],
)
def test_a_wrong_value_is_named_by_column_and_row(column: str, value: Any, says: str) -> None:
    [(name, row, message)] = problems_of(records=[ROW, ROW | {column: value}])

    assert (name, row) == (column, 1)
    assert says in message


def test_a_misspelt_column_is_suggested() -> None:
    record = {name: value for name, value in ROW.items() if name != "sepal_length"}

    [(column, row, message)] = problems_of(records=[record | {"Sepal_lenght": 1.5}])

    assert (column, row) == ("sepal_length", None)
    assert message == "required and missing; did you mean it by 'Sepal_lenght'?"


def test_what_mlflow_drops_or_does_without_is_no_problem() -> None:
    less = {name: value for name, value in ROW.items() if name != "name"}

    assert problems_of(records=[less | {"more": 1}]) == []


def test_rows_that_fail_alike_are_one_problem() -> None:
    [(_, row, message)] = problems_of(records=[ROW] + [ROW | {"petals": "x"}] * 7)

    assert row == 1
    assert message == "expected a whole number, got 'x' (and 6 more rows)"


def test_problems_are_twenty_at_most() -> None:
    signature = Signature(tuple(Column(f"c{n}", "double") for n in range(50)))

    assert len(problems_of(signature, records=[{"x": 1}])) == LIMIT == 20


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([[1.0, 2.0]], "expected the shape (any, 3), got (1, 2)"),
        ([[1.0, 2.0, 3.0], [1.0]], "the lists have different lengths: 1, 3"),
        ([[1.0, 2.0, [3.0]]], "the lists are not of one depth"),
        ([1.0, 2.0, 3.0], "expected the shape (any, 3), got (3)"),
        ([[1.0, 2.0, 3.0], [1.0, 2.0, "x"]], "expected a number, got 'x'"),
    ],
)
def test_a_tensor_has_its_shape(value: Any, says: str) -> None:
    signature = Signature((Column(None, "float64", True, (-1, 3)),))

    [(_, _, message)] = problems_of(signature, inputs=value)

    assert message == says


def test_params_have_their_types_and_unknown_ones_are_told() -> None:
    signature = Signature((Column("x", "double"),), (), (Param("top_k", "long", 3),))
    encoded = encode(Given(records=[{"x": 1}], params={"top_k": "many", "topk": 1}), signature)

    assert check(encoded, signature) == [
        Problem("top_k", None, "param: expected a whole number, got 'many'")
    ]
    assert ignored(encoded, [signature]) == [
        Problem("topk", None, "no param of the model; did you mean 'top_k'?")
    ]


def test_a_param_of_any_of_the_models_is_not_told_nor_one_where_no_params_are_known() -> None:
    old = Signature((Column("x", "double"),), (), (Param("top_k", "long", 3),))
    new = Signature((Column("x", "double"),), (), (Param("topk", "long", 3),))
    encoded = encode(Given(records=[{"x": 1}], params={"topk": 1}), old)

    assert ignored(encoded, [old, new]) == []
    assert ignored(encoded, [Signature(old.inputs)]) == []
    assert ignored(encoded, []) == []


def test_rows_without_names_are_sent_in_order_not_refused() -> None:
    document = {"inputs": [[1.5, 5]]}

    [problem] = check(Encoded(document, "scoring"), FLOWER)
    assert "give rows= instead of inputs=" in problem.message
    with pytest.raises(InvalidInput, match="the model takes 6 columns: sepal_length"):
        encode(Given(rows=[[1.5, 5]]), FLOWER)
