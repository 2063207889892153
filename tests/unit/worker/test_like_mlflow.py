"""The worker answers as MLflow's scoring server does, merged or not, request by request."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.utils.proto_json_utils import dataframe_from_parsed_json
from pandas.testing import assert_frame_equal

from lakeport.worker.frames import frame_of
from lakeport.worker.plan import Columns
from tests.models.fixtures import SavedModel
from tests.unit.worker.scoring import Pair, Reply

LoadPair = Callable[[str], Pair]

IRIS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
FLOWER = [5.1, 3.5, 1.4, 0.2]
DIABETES = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
PASSENGER = {"age": 22.0, "fare": 7.25, "class": 3, "port": "S", "alone": False}


@pytest.fixture(scope="module")
def pair(saved_model: SavedModel) -> LoadPair:
    loaded: dict[str, Pair] = {}

    def load(name: str) -> Pair:
        if name not in loaded:
            loaded[name] = Pair.load(saved_model(name))
        return loaded[name]

    return load


def split(columns: list[str], *rows: list[Any], **more: Any) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": list(rows)}, **more}


def records(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"dataframe_records": list(rows), **more}


def flower(**changes: Any) -> dict[str, Any]:
    return dict(zip(IRIS, FLOWER, strict=True)) | changes


REQUESTS: list[tuple[str, Any]] = [
    ("iris", split(IRIS, FLOWER)),
    ("iris", split(IRIS, FLOWER, [6, 3, 5, 2])),
    ("iris", split(IRIS[::-1], FLOWER)),
    ("iris", split([*IRIS, "extra"], [*FLOWER, "x"])),
    ("iris", split(IRIS[:3], FLOWER[:3])),
    ("iris", split(IRIS, FLOWER[:3])),
    ("iris", split(IRIS, ["a", 1, 2, 3])),
    ("iris", split(IRIS, ["5.1", 1, 2, 3])),
    ("iris", split(IRIS, [None, 1, 2, 3])),
    ("iris", split(IRIS, [math.nan, 1, 2, 3])),
    ("iris", split(IRIS, [math.inf, 1, 2, 3])),
    ("iris", split(IRIS, [True, 1, 2, 3])),
    ("iris", split(IRIS, [[1], 1, 2, 3])),
    ("iris", split(IRIS, [10**30, 1, 2, 3])),
    ("iris", split(IRIS)),
    ("iris", {"dataframe_split": {"data": [FLOWER]}}),
    ("iris", {"dataframe_split": {"columns": IRIS}}),
    ("iris", {"dataframe_split": {"columns": IRIS, "data": [FLOWER], "index": [7]}}),
    ("iris", {"dataframe_split": {"columns": IRIS, "data": [FLOWER], "other": 1}}),
    ("iris", {"dataframe_split": [FLOWER]}),
    ("iris", {"dataframe_split": "text"}),
    ("iris", records(flower())),
    ("iris", records(flower(), flower(extra=1))),
    ("iris", records(flower(), {})),
    ("iris", {"dataframe_records": {}}),
    ("iris", {"dataframe_records": []}),
    ("iris", {"dataframe_records": [1]}),
    ("iris", {"dataframe_records": None}),
    ("iris", {"instances": [FLOWER]}),
    ("iris", {"instances": [flower()]}),
    ("iris", {"instances": []}),
    ("iris", {"inputs": [FLOWER]}),
    ("iris", {"inputs": [flower()]}),
    ("iris", {"inputs": {name: [1.0] for name in IRIS}}),
    ("iris", {"inputs": {}}),
    ("iris", {"inputs": "text"}),
    ("iris", {"inputs": None}),
    ("iris", {"inputs": {IRIS[0]: [[[]]]}}),
    ("iris", {}),
    ("iris", {"data": [FLOWER]}),
    ("iris", {"inputs": [FLOWER], "instances": [FLOWER]}),
    ("iris", split(IRIS, FLOWER, params={"unknown": 1})),
    ("iris", split(IRIS, FLOWER, params=[1])),
    ("iris", split(IRIS, FLOWER, params={})),
    ("iris", split(IRIS, FLOWER, unknown=1)),
    ("iris", {"messages": [{"role": "user", "content": "hello"}]}),
    ("iris", [FLOWER]),
    ("iris", "text"),
    ("iris_proba", split(IRIS, FLOWER, [6, 3, 5, 2])),
    ("no_signature", split(IRIS, FLOWER)),
    ("no_signature", {"inputs": [FLOWER]}),
    ("no_signature", {"instances": [FLOWER, FLOWER]}),
    ("no_signature", {"inputs": "text"}),
    ("no_signature", {"inputs": [[[FLOWER]]]}),
    ("mixed", records(PASSENGER)),
    ("mixed", records(PASSENGER, PASSENGER | {"port": "?"})),
    ("mixed", records(PASSENGER | {"class": 3.0})),
    ("mixed", records(PASSENGER | {"class": 3.5})),
    ("mixed", records(PASSENGER | {"class": 2**63})),
    ("mixed", records(PASSENGER | {"class": 2**64})),
    ("mixed", records(PASSENGER | {"class": True})),
    ("mixed", records(PASSENGER | {"class": "3"})),
    ("mixed", records(PASSENGER | {"port": None})),
    ("mixed", records(PASSENGER | {"port": 3})),
    ("mixed", records(PASSENGER | {"port": "\u2028é"})),
    ("mixed", records(PASSENGER | {"alone": 1})),
    ("mixed", records(PASSENGER | {"alone": None})),
    ("mixed", records(PASSENGER | {"alone": "no"})),
    ("mixed", records(PASSENGER | {"age": None})),
    ("mixed", {"inputs": {name: [value] for name, value in PASSENGER.items()}}),
    ("mixed", {"instances": [PASSENGER]}),
    ("regressor", split(DIABETES, [0.01] * 10, [0] * 10)),
    ("xgboost", split(IRIS, FLOWER, [6, 3, 5, 2])),
    ("xgboost", split(IRIS, [math.nan, 3, 5, 2])),
    ("lightgbm", split(DIABETES, [0.01] * 10, [0] * 10)),
    ("params", records({"x": 1.5})),
    ("params", records({"x": 1.5}, params={"temperature": 2})),
    ("params", records({"x": 1.5}, params={"temperature": "hot"})),
    ("params", records({"x": 1.5}, params={"other": "hot"})),
    ("params", records({"x": 1.5}, params="hot")),
    ("params", records({"x": 1.5}, params=None)),
    ("frame", records({"x": 1.5}, {"x": -2})),
    ("frame", {"inputs": {"x": [1.5]}}),
    ("tensor", {"inputs": [[[1, 2, 3], [4, 5, 6]]]}),
    ("tensor", {"instances": [[[1, 2, 3], [4, 5, 6]], [[0, 0, 0], [0, 0, 0]]]}),
    ("tensor", {"inputs": [[1, 2, 3]]}),
    ("tensor", {"inputs": [[[1, 2], [3]]]}),
    ("tensor", {"inputs": [[["a", "b", "c"], ["d", "e", "f"]]]}),
    ("tensor", split(["a"], [1])),
    ("chat", {"messages": [{"role": "user", "content": "hello"}]}),
    (
        "chat",
        {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, "stream": False},
    ),
    ("chat", {"messages": []}),
    ("chat", {"prompt": "hello"}),
    ("chat_counts", {"messages": [{"role": "user", "content": "hello"}], "model": "big"}),
    ("chat_counts", {"messages": [{"content": "hello"}]}),
    ("chat_counts", {"messages": [{"role": "user", "content": "hello"}], "n": "many"}),
    (
        "chat_agent",
        {
            "messages": [{"role": "user", "content": "hello"}],
            "context": {"user_id": "ann"},
            "custom_inputs": {"a": [1]},
            "seed": 3,
        },
    ),
    ("chat_agent", {"messages": [{"role": "tool", "content": "hello"}]}),
    ("chat_agent", {"messages": []}),
    ("responses_agent", {"input": [{"role": "user", "content": "hello"}], "temperature": 0.5}),
    ("responses_agent", {"input": "hello"}),
    ("responses_agent", {"messages": [{"role": "user", "content": "hello"}]}),
    ("hinted", {"inputs": ["a", "b"]}),
    ("hinted", {"inputs": "a"}),
    ("hinted", {"inputs": [1]}),
    ("hinted", records({"a": "b"})),
    ("typed", records({"at": "2026-01-02T03:04:05", "raw": "aGVsbG8=", "n": 1})),
    ("typed", records({"at": "2026-01-02T03:04:05", "raw": "aGVsbG8="})),
    ("typed", records({"at": "yesterday", "raw": "aGVsbG8="})),
    ("typed", records({"at": "2026-01-02", "raw": 5})),
    ("typed", records({"at": "2026-01-02", "raw": "aGVsbG8=", "n": None})),
    ("typed", {"inputs": [{"at": "2026-01-02", "raw": "aGVsbG8="}]}),
    ("hostile", records({"do": "nothing"})),
    ("hostile", records({"do": "raise"})),
    ("hostile", records({"do": "nan"})),
]


def comparable(reply: Reply) -> Reply:
    """What both must agree on: not the fields that MLflow lists in the order of the day, nor the
    repr of the data, which we cut."""
    message = reply.message
    for start in ("Failed to predict data", "Failed to enforce schema", "The input must be"):
        if start in message:
            message = start
    return Reply(reply.status, reply.error_code, message, reply.body)


@pytest.mark.parametrize(
    ("name", "request_body"),
    REQUESTS,
    ids=[f"{name}-{json.dumps(body)[:60]}" for name, body in REQUESTS],
)
def test_json_requests_are_answered_as_by_mlflow(
    pair: LoadPair, name: str, request_body: Any
) -> None:
    body = json.dumps(request_body).encode()

    answered = pair(name).ours(body)

    assert comparable(answered) == comparable(pair(name).mlflows(body))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("iris", ",".join(IRIS) + "\n5.1,3.5,1.4,0.2\n6,3,5,2\n"),
        ("iris", ",".join(IRIS) + "\n"),
        ("iris", "a,b\n1,2\n"),
        ("iris", ",".join(IRIS) + "\nx,3,5,2\n"),
        ("iris", ""),
        ("iris", '"'),
        ("mixed", "age,fare,class,port,alone\n22,7.25,3,S,False\n"),
        ("no_signature", ",".join(IRIS) + "\n5.1,3.5,1.4,0.2\n"),
        ("tensor", "a\n1\n"),
    ],
)
def test_csv_is_answered_as_by_mlflow(pair: LoadPair, name: str, text: str) -> None:
    body = text.encode()

    answered = pair(name).ours(body, "text/csv")

    assert comparable(answered) == comparable(pair(name).mlflows(body, "text/csv"))


def test_parquet_is_answered_as_by_mlflow(pair: LoadPair) -> None:
    import pandas as pd

    kind = "application/vnd.apache.parquet"
    for body in (pd.DataFrame([FLOWER], columns=IRIS).to_parquet(), b"no parquet"):
        answered = pair("iris").ours(body, kind)

        assert comparable(answered) == comparable(pair("iris").mlflows(body, kind))


def test_an_error_tells_no_path_and_no_traceback(pair: LoadPair) -> None:
    answered = pair("hostile").ours(json.dumps(records({"do": "raise"})).encode())

    assert answered.status == 400
    assert "/" not in answered.message
    assert "Traceback" not in answered.message


def test_a_model_cannot_speak_with_the_platforms_codes(pair: LoadPair) -> None:
    answered = pair("hostile").ours(json.dumps(records({"do": "raise_foreign_code"})).encode())

    assert (answered.status, answered.error_code) == (400, "BAD_REQUEST")
    assert "busy" in answered.message


# --- merged -------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.floats(-100, 100),
    st.integers(-100, 100),
    st.sampled_from([math.nan, 2**53, 2**64, 10**25, -0.0, 1e300]),
)
ODD: st.SearchStrategy[Any] = st.sampled_from([None, True, "1.5", "x", [], {}])
FLOWERS = st.lists(st.one_of(NUMBERS, NUMBERS, NUMBERS, ODD), min_size=3, max_size=5)
PASSENGERS = st.fixed_dictionaries(
    {
        "age": st.one_of(NUMBERS, ODD),
        "fare": NUMBERS,
        "class": st.one_of(
            st.integers(0, 5), st.integers(-(2**40), 2**40), st.integers(-(2**65), 2**65), ODD
        ),
        "port": st.one_of(st.sampled_from("SCQ?"), st.text(max_size=3), ODD),
        "alone": st.one_of(st.booleans(), ODD),
    }
)
BODIES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "iris": st.lists(FLOWERS, min_size=1, max_size=3).map(lambda rows: split(IRIS, *rows)),
    "mixed": st.lists(PASSENGERS, min_size=1, max_size=3).map(lambda rows: records(*rows)),
    "xgboost": st.lists(FLOWERS, min_size=1, max_size=3).map(lambda rows: split(IRIS, *rows)),
}


def encodable(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


@pytest.mark.parametrize("name", list(BODIES))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_requests_that_come_together_are_answered_as_each_by_mlflow(
    pair: LoadPair, name: str, data: st.DataObject
) -> None:
    bodies = [encodable(body) for body in data.draw(st.lists(BODIES[name], min_size=1, max_size=6))]

    answered = pair(name).ours_merged(bodies)

    for body, reply in zip(bodies, answered, strict=True):
        assert comparable(reply) == comparable(pair(name).mlflows(body))


PLAIN_COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "double": st.one_of(st.floats(), st.integers(-(2**53), 2**53 - 1)),
    "float": st.one_of(st.floats(), st.integers(-(2**53), 2**53 - 1)),
    "long": st.integers(-(2**63), 2**63 - 1),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "boolean": st.booleans(),
    "string": st.text(st.characters(exclude_categories=["Cs"])),
}


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries(PLAIN_COLUMNS), min_size=1, max_size=4))
def test_the_frame_of_plain_rows_is_mlflows_to_the_bit(rows: list[dict[str, Any]]) -> None:
    columns: list[ColSpec | TensorSpec] = [ColSpec(DataType[kind], kind) for kind in PLAIN_COLUMNS]
    schema = Schema(columns)
    plan = Columns([(kind, kind) for kind in PLAIN_COLUMNS])

    lists = [[row[kind] for kind in PLAIN_COLUMNS] for row in rows]

    for body in (records(*rows), split(list(PLAIN_COLUMNS), *lists)):
        form, data = next(iter(body.items()))
        asked = plan.take(form, data)
        assert asked is not None
        joined = plan.join([asked])
        # None: a NaN beside a large integer may take MLflow's way, though it need not.
        if joined is not None:
            orient = form.removeprefix("dataframe_")
            expected = dataframe_from_parsed_json(data, pandas_orient=orient, schema=schema)
            # MLflow puts the columns into the signature's order later, when it predicts.
            expected = expected[list(PLAIN_COLUMNS)]
            assert_frame_equal(frame_of(plan, joined), expected, check_exact=True)


def test_probabilities_of_merged_requests_are_those_of_single_ones(pair: LoadPair) -> None:
    rows = [[number / 10, 3.5, number / 5, 0.2] for number in range(50)]
    bodies = [encodable(split(IRIS, row)) for row in rows]

    answered = pair("iris_proba").ours_merged(bodies)

    for body, reply in zip(bodies, answered, strict=True):
        expected = pair("iris_proba").mlflows(body).body["predictions"]
        assert reply.body["predictions"][0] == pytest.approx(expected[0], rel=1e-12)


def test_a_bad_request_fails_alone(pair: LoadPair) -> None:
    good, bad = split(IRIS, FLOWER), split(IRIS, ["x", 1, 2, 3])
    # A NaN is a plain number, and LogisticRegression refuses it: the merged predict raises.
    poison = split(IRIS, [math.nan, 1, 2, 3])

    answered = pair("iris").ours_merged([encodable(body) for body in (good, bad, poison, good)])

    assert [reply.status for reply in answered] == [200, 400, 400, 200]


def test_forms_that_can_be_merged_are(pair: LoadPair) -> None:
    scorer = pair("iris").scorer
    predicted: list[int] = []
    predict = scorer.model.predict_planned

    def counted(data: Any) -> Any:
        predicted.append(len(data))
        return predict(data)

    scorer.model.predict_planned = counted  # type: ignore[method-assign]
    try:
        bodies = [split(IRIS, FLOWER), split(IRIS[::-1], FLOWER, FLOWER), records(flower())]
        answered = pair("iris").ours_merged([encodable(body) for body in bodies])
    finally:
        del scorer.model.predict_planned

    assert [len(reply.body["predictions"]) for reply in answered] == [1, 2, 1]
    assert predicted == [4]
