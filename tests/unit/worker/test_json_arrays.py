"""Lists that are read as one array are those that the ordinary way reads, and nothing else is."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeport.worker import json_arrays, request_body
from lakeport.worker.plan import Columns, Tensor

BOUNDED = settings(max_examples=250, deadline=None, derandomize=True)

FLOATS = st.one_of(
    st.floats(-9e15, 9e15).map(repr),
    st.integers(-(2**53) + 1, 2**53 - 1).map(str),
    st.sampled_from(
        ["-0", "-0.0", "1E5", "1e-400", "4.9e-324", "0.1e1", "123456789012345678.5e-9"]
    ),
)
INTEGERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str), st.sampled_from(["-0", str(2**63 - 1)])
)
#: Each of them leaves the list to the ordinary way, or makes it no JSON at all.
ODD = st.sampled_from(
    [
        *["null", "true", '"1"', "NaN", "Infinity", "1e400", "1e39"],
        *[str(2**64), str(2**53), str(10**30), "[1]", "[]", "{}"],
        *["", "01", "1.", "+1", "1 2", "--1", "1e", "e", "[[", "]]"],
    ]
)
KINDS = pytest.mark.parametrize(
    ("kind", "values"),
    [(json_arrays.FLOATS, FLOATS), (json_arrays.INTEGERS, INTEGERS)],
    ids=["f", "i"],
)
SPACE = st.sampled_from(["", "", " ", "\n", "\t ", "\r\n"])
#: Around the list: in its form and beside it.
AROUND = [
    '{{"inputs": {}}}',
    '{{"dataframe_split": {{"columns": ["a", "b]["], "data": {}}}}}',
    '{{"dataframe_split": {{"data": {}, "columns": ["a", "[", "]"]}}, "client_request_id": "x"}}',
    '{{"client_request_id": "]]}}", "instances":{} }}',
    ' \n{{ "stream" : false, "instances" :\n{}\n }}\n ',
]

#: And where the first list is not the one.
ASTRAY = [
    '{{"dataframe_split": {{"columns": ["a", "b[[1]]"], "data": {}}}}}',
    '{{"inputs": [[1]], "params": {}}}',
    '{{"inputs": {}, "inputs": [[1]]}}',
    '{{"inputs": {{"a": {}}}}}',
]


@st.composite
def lists(draw: st.DrawFn, values: st.SearchStrategy[str], *, odd: bool) -> str:
    """A nested list: nearly always of lists as long as each other."""
    shape = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))

    def text(level: int) -> str:
        if level == len(shape):
            return draw(SPACE) + draw(values) + draw(SPACE)
        count = shape[level]
        if odd and draw(st.integers(0, 15)) == 0:
            count = draw(st.integers(0, 4))
        return "[" + ",".join(text(level + 1) for _ in range(count)) + "]" + draw(SPACE)

    return text(0)


def compare(read: Any, ordinary: Any, kind: str) -> None:
    """Whether both are the same, but for arrays in place of lists."""
    if isinstance(read, np.ndarray):
        assert read.dtype == ("float64" if kind == json_arrays.FLOATS else "int64")
        assert json.dumps(read.tolist()) == json.dumps(np.array(ordinary, read.dtype).tolist())
    elif isinstance(read, dict):
        assert read.keys() == ordinary.keys()
        for key, value in read.items():
            compare(value, ordinary[key], kind)
    else:
        assert json.dumps(read) == json.dumps(ordinary)


@KINDS
@BOUNDED
@given(data=st.data())
def test_what_is_read_at_once_is_what_is_read_one_by_one(
    kind: str, values: st.SearchStrategy[str], data: st.DataObject
) -> None:
    body = data.draw(st.sampled_from(AROUND)).format(data.draw(lists(values, odd=False))).encode()

    read = json_arrays.loads(body, kind)

    assert read is not None
    assert not any(
        isinstance(value, list) and isinstance(value[0], list) for value in read.values()
    )
    compare(read, request_body.loads(body), kind)


@KINDS
@BOUNDED
@given(data=st.data())
def test_what_is_odd_is_never_read_as_something_else(
    kind: str, values: st.SearchStrategy[str], data: st.DataObject
) -> None:
    strange = st.one_of(*[values] * 12, ODD)
    around = data.draw(st.sampled_from(AROUND + ASTRAY))
    text = around.format(data.draw(lists(strange, odd=True)))
    at = data.draw(st.one_of(st.none(), st.integers(0, len(text) - 1)))
    if at is not None:  # one byte too few, or a bracket or quote too many
        text = (
            text[:at] + data.draw(st.sampled_from(["", "[", "]", '"', "{", "}", ","])) + text[at:]
        )
    body = text.encode()

    read = json_arrays.loads(body, kind)

    if read is not None:
        compare(read, request_body.loads(body), kind)


@pytest.mark.parametrize(
    "text",
    [
        '{"inputs": [1, 2]}',
        '{"inputs": [[1], [2, 3]]}',
        '{"inputs": [[]]}',
        '{"inputs": [[1], [2]], "inputs": 1}',
        '{"inputs": {"a": {"data": [[1]]}}}',
        '{"inputs": "[[1]]"}',
        '{"inputs": "\\[[1]]", "b": 1}',
        "[[[1]]]",
        "[[1]]",
        '{"inputs": [[1]]',
        '{"inputs": 5[[1]]}',
        '{"inputs": [[1]][[2]]}',
        '{"inputs": [[1]], [[2]]}',
        pytest.param(f'{{"inputs": {"[" * 10**6}1{"]" * 10**6}}}', id="deep"),
        f'{{"inputs": [[{2**53}]]}}',
        f'{{"inputs": [[{10**30}]]}}',
    ],
)
def test_these_are_left_to_the_ordinary_way(text: str) -> None:
    assert json_arrays.loads(text.encode(), json_arrays.FLOATS) is None


def test_a_number_with_a_fraction_is_no_integer() -> None:
    assert json_arrays.loads(b'{"inputs": [[1.0, 2]]}', json_arrays.INTEGERS) is None


def test_without_simdjson_all_is_read_in_the_ordinary_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_arrays, "simdjson", None)

    assert json_arrays.loads(b'{"inputs": [[1, 2]]}', json_arrays.FLOATS) is None


@pytest.mark.parametrize("there", ["None", "types.ModuleType('simdjson')"])
def test_a_worker_starts_without_simdjson(there: str) -> None:
    code = f"import sys, types; sys.modules['simdjson'] = {there}; import lakeport.worker.scorer"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("kind", "value", "taken"),
    [
        ("double", 1.5, True),
        ("float", 0.1, True),
        ("long", 2**62, True),
        ("integer", -(2**31), True),
        ("integer", 2**31, False),
    ],
)
def test_a_plan_makes_of_an_array_what_it_makes_of_rows(
    kind: str, value: float, taken: bool
) -> None:
    plan = Columns([("a", kind), ("b", kind)])
    rows: list[list[Any]] = [[value, 1], [2, 3]]
    assert plan.numbers is not None
    read = json_arrays.loads(
        json.dumps({"dataframe_split": {"columns": ["b", "a"], "data": rows}}).encode(),
        plan.numbers,
    )
    assert type(read["dataframe_split"]["data"]) is np.ndarray

    asked = plan.take("dataframe_split", read["dataframe_split"])
    ordinary = plan.take("dataframe_split", {"columns": ["b", "a"], "data": rows})

    assert asked is not None
    assert ordinary is not None
    array, expected = plan.join([asked, asked]), plan.join([ordinary, ordinary])
    if not taken:
        assert array is None
        assert expected is None
        return
    assert (array.dtype, array.strides) == (expected.dtype, expected.strides)
    assert array.tolist() == expected.tolist()
    assert array.flags.writeable


def test_a_tensor_takes_an_array() -> None:
    tensor = Tensor("float32", (-1, 2, 2))
    read = json_arrays.loads(
        b'{"inputs": [[[1, 2], [3, 4]], [[5, 6], [7, 0.1]]]}', json_arrays.FLOATS
    )

    asked = tensor.take("inputs", read["inputs"])

    assert asked is not None
    assert asked.rows == 2
    assert tensor.join([asked]).dtype == np.float32
    assert tensor.join([asked]).tolist() == [
        [[1, 2], [3, 4]],
        [[5, 6], [7, float(np.float32(0.1))]],
    ]
    assert tensor.take("inputs", read["inputs"][0]) is None
