"""The worker's own calls of estimators answer as MLflow does, alone and merged, and keep apart."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakeport.worker import json_arrays, protocol
from tests.unit.worker import planned
from tests.unit.worker.planned import COLUMNS
from tests.unit.worker.scoring import Pair, Reply

LoadPair = Callable[[str], Pair]

#: What is called with arrays, with frames, and only by MLflow.
ARRAYS = [
    "logistic",
    "ridge",
    "forest",
    "boosting",
    "pipeline",
    "whole",
    "unsigned",
    "array",
    "unnamed",
    "xgb_classes",
    "xgb_numbers",
    "xgb_booster",
    "lgb_classes",
    "lgb_whole",
    "lgb_booster",
    "onnx_classes",
    "onnx_numbers",
    "onnx_array",
    "onnx_inputs",
]
FRAMES = ["framed", "voting", "renamed", "xgb_linear"]
BOUNDED = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # to shrink takes minutes: a case is small anyway
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> LoadPair:
    folder: Path = tmp_path_factory.mktemp("planned")
    loaded: dict[str, Pair] = {}

    def load(name: str) -> Pair:
        if name not in loaded:
            planned.save(name, folder / name)
            loaded[name] = Pair.load(folder / name)
        return loaded[name]

    return load


NUMBERS = st.one_of(
    *[st.floats(-3, 3).map(lambda number: round(number, 3))] * 6,
    st.integers(-30, 30),
    st.sampled_from([math.nan, math.inf, 1e300, 2**53, 2**70, -0.0, None]),
)
ODD: st.SearchStrategy[Any] = st.sampled_from([None, True, "1.5", "x", [], {}])


#: Rows in a body that is large enough to be read at once.
MANY = [[0.5, 1.5, 2.5]] * 300
MORE = [{}, {}, {}, {"client_request_id": "x"}, {"params": {}}, {"params": {"p": 1}}]
SHAPES = ["split", "split", "bare", "records", "instances", "rows", "inputs"]


@st.composite
def bodies(draw: st.DrawFn, names: list[str]) -> dict[str, Any]:
    whole = draw(st.booleans())
    numbers = st.integers(-30, 30) if whole else NUMBERS
    values = draw(st.sampled_from([numbers, numbers, numbers, st.one_of(numbers, ODD)]))
    width = draw(st.sampled_from([len(names)] * 9 + [len(names) - 1]))
    rows = draw(st.lists(st.lists(values, min_size=width, max_size=width), min_size=1, max_size=4))
    columns = names if draw(st.booleans()) else draw(st.permutations(names))
    more: dict[str, Any] = draw(st.sampled_from(MORE))
    form = draw(st.sampled_from(SHAPES))
    if form == "split":
        return {"dataframe_split": {"columns": columns[:width], "data": rows}, **more}
    if form == "bare":
        return {"dataframe_split": {"data": rows}, **more}
    if form == "records":
        return {
            "dataframe_records": [dict(zip(columns, row, strict=False)) for row in rows],
            **more,
        }
    if form == "instances":
        return {"instances": [dict(zip(columns, row, strict=False)) for row in rows], **more}
    if form == "rows":
        return {draw(st.sampled_from(["inputs", "instances"])): rows, **more}
    columns_of = dict(zip(columns, (list(part) for part in zip(*rows, strict=True)), strict=False))
    return {"inputs": columns_of, **more}


def agree(ours: Reply, mlflows: Reply, *, exactly: bool) -> None:
    """Status and code to the letter; values too, or, where BLAS may add up in another order, all
    but their last bits."""
    assert (ours.status, ours.error_code) == (mlflows.status, mlflows.error_code)
    if exactly:
        assert ours.body == mlflows.body
    else:
        one, other = flat(ours.body), flat(mlflows.body)
        assert one.keys() == other.keys()
        for at, value in other.items():
            # `ridge` computes in 32 bits, of which its answers are too
            close = pytest.approx(value, rel=1e-5, abs=1e-6) if type(value) is float else value
            assert one[at] == close, at


def flat(body: Any) -> dict[str, Any]:
    """A body's leaves by where they are."""
    found: dict[str, Any] = {}

    def walk(at: str, value: Any) -> None:
        if isinstance(value, dict | list):
            found[at] = len(value)
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                walk(f"{at}/{key}", inner)
        else:
            found[at] = value

    walk("", body)
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "at once"])
@pytest.mark.parametrize("name", ARRAYS + FRAMES)
@BOUNDED
@given(data=st.data())
def test_models_answer_as_by_mlflow(
    pair: LoadPair,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    at_once: bool,
    data: st.DataObject,
) -> None:
    """`at_once`: whether numbers are read as if the body were a large one."""
    monkeypatch.setattr(json_arrays, "WORTH_IT", 0 if at_once else math.inf)
    names = COLUMNS[:2] if name == "onnx_inputs" else COLUMNS
    asked = data.draw(st.lists(bodies(names), min_size=1, max_size=4))
    texts = [json.dumps(body).encode() for body in asked]
    expected = [pair(name).mlflows(text) for text in texts]

    alone = [pair(name).ours(text) for text in texts]
    together = pair(name).ours_merged(texts)

    for mlflows, one, merged in zip(expected, alone, together, strict=True):
        agree(one, mlflows, exactly=True)
        agree(merged, mlflows, exactly=False)


@pytest.mark.parametrize("name", ["wide", "wide_unsigned", "wide_array"])
@pytest.mark.parametrize("rows", [1, 2, 5, 17, 100])
def test_a_request_of_its_own_has_mlflows_last_bits(pair: LoadPair, name: str, rows: int) -> None:
    data = planned.WIDE.head(rows).to_numpy().tolist()
    split: dict[str, Any] = {"columns": list(planned.WIDE.columns), "data": data}

    for body in ({"dataframe_split": split}, {"inputs": data}):
        text = json.dumps(body).encode()

        agree(pair(name).ours(text), pair(name).mlflows(text), exactly=True)


@pytest.mark.parametrize("name", ARRAYS)
def test_these_are_called_without_a_frame(
    pair: LoadPair, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    names = COLUMNS[:2] if name == "onnx_inputs" else COLUMNS
    value: float = 2 if "whole" in name else 0.5
    row = [value] * len(names)
    rows = name in {"unsigned", "array", "unnamed", "onnx_array"}
    body = {"inputs": [row]} if rows else {"dataframe_split": {"columns": names, "data": [row]}}
    text = json.dumps(body).encode()
    pair(name)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a frame was made")

    with monkeypatch.context() as patched:
        patched.setattr(pd.DataFrame, "__init__", refuse)
        reply = pair(name).ours(text)

    assert reply.status == 200, reply
    agree(reply, pair(name).mlflows(text), exactly=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["logistic", "forest", "pipeline", "lgb_classes", "voting"])
def test_an_estimator_with_names_warns_of_nothing(pair: LoadPair, name: str) -> None:
    body = {"dataframe_split": {"columns": COLUMNS, "data": [[0.5, 1.5, 2.5]] * 3}}

    assert pair(name).ours(json.dumps(body).encode()).status == 200


@pytest.mark.parametrize(
    ("name", "row_wise"),
    [
        ("array", True),
        ("drawn", False),
        ("partial", False),
        ("unsigned", True),
        ("onnx_classes", True),
        ("onnx_numbers", True),
        ("onnx_array", True),
        ("onnx_inputs", False),
        ("xgb_booster", True),
        ("lgb_booster", True),
    ],
)
def test_what_is_known_row_by_row(pair: LoadPair, name: str, row_wise: bool) -> None:
    assert pair(name).scorer.model.row_wise is row_wise


@pytest.mark.parametrize("name", ["several", "drawn", "partial"])
@pytest.mark.parametrize("requests", [2, 3])
def test_what_is_not_row_by_row_is_answered_request_by_request(
    tmp_path: Path, name: str, requests: int
) -> None:
    planned.save(name, tmp_path / name)
    fresh = Pair.load(tmp_path / name)
    rows = [[1.0, 1.0, 0.1], [-1.0, -1.0, 0.2], [-1.0, 2.0, 0.9]][:requests]
    texts = [
        json.dumps({"dataframe_split": {"columns": COLUMNS, "data": [row]}}).encode()
        for row in rows
    ]

    for merged, text in zip(fresh.ours_merged(texts), texts, strict=True):
        agree(merged, fresh.mlflows(text), exactly=True)


def test_of_merged_answers_the_one_that_is_too_large_is_refused(
    pair: LoadPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [
        json.dumps({"dataframe_split": {"columns": COLUMNS, "data": rows}}).encode()
        for rows in ([[0.5, 1.0, 2.0]], [[0.5, 1.0, 2.0]] * 100)
    ]
    monkeypatch.setattr(protocol, "MAX_ANSWER", 1000)

    small, large = pair("logistic").ours_merged(texts)

    assert small.status == 200
    assert (large.status, large.error_code) == (400, "BAD_REQUEST")
    assert "larger than 1000 bytes" in large.message


@pytest.mark.parametrize("name", ["logistic", "forest", "xgb_classes", "unsigned", "array"])
@pytest.mark.parametrize(
    "body",
    [
        {"params": MANY, "inputs": {"a": [1.0], "b": [2.0], "c": [3.0]}},
        {"params": {"p": MANY}, "inputs": [[1.0, 2.0, 3.0]]},
        {"params": {}, "inputs": MANY},
        {"inputs": MANY, "instances": MANY},
        {"client_request_id": MANY, "inputs": MANY},
        {"dataframe_split": {"columns": COLUMNS, "data": MANY, "index": MANY}},
        {"dataframe_split": {"columns": MANY, "data": MANY}},
        {"dataframe_split": MANY},
        {"dataframe_records": MANY},
        {"messages": MANY},
        {"data": MANY},
    ],
    ids="+".join,
)
def test_many_numbers_where_they_may_not_be_are_refused_as_by_mlflow(
    pair: LoadPair, name: str, body: dict[str, Any]
) -> None:
    text = json.dumps(body).encode()
    plain = json.dumps({"inputs": [[1.0, 2.0, 3.0]]}).encode()

    odd, good = pair(name).ours_merged([text, plain])

    expected = pair(name).mlflows(text)
    if set(body) & {"client_request_id", "messages"}:  # which MLflow's server doesn't know
        assert odd.status == 400
    else:
        assert (odd.status, odd.error_code) == (expected.status, expected.error_code)
    agree(good, pair(name).mlflows(plain), exactly=False)


@pytest.mark.parametrize("name", ["forest", "whole", "xgb_numbers", "xgb_booster", "lgb_booster"])
def test_trees_give_a_row_the_same_bits_in_any_company(pair: LoadPair, name: str) -> None:
    draw = random.Random(5)
    size = 10 if name == "whole" else 1
    rows = [[draw.randint(-3, 3) * size for _ in COLUMNS] for _ in range(64)]
    texts = [
        json.dumps({"dataframe_split": {"columns": COLUMNS, "data": [row]}}).encode()
        for row in rows
    ]

    merged = pair(name).ours_merged(texts)

    assert merged == [pair(name).ours(text) for text in texts]
