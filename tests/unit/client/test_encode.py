"""Every form of input → the request that carries it."""

import enum
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from databricks.sdk.service.serving import ChatMessage, ChatMessageRole
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from lakeport.client.answers import Chat
from lakeport.client.encode import Encoded, Given, encode, needs_signature, to_json
from lakeport.client.errors import InvalidInput
from lakeport.client.signature import Column, Signature

ARRAY = {"type": "array", "items": {"type": "double"}}
AB = Signature((Column("a", "double"), Column("b", "string")))
ONE = Signature((Column("a", "double"),))
VECTOR = Signature((Column("v", ARRAY),))
UNNAMED = Signature((Column(None, "string"),))
TENSOR = Signature((Column(None, "float64", True, (-1, 2)),))
WIDE = Signature((Column(None, "float64", True, (-1, -1)),))
NAMED = Signature((Column("t", "float64", True, (-1, 2)),))
TWO = Signature((Column("t", "float64", True, (-1, 2)), Column("u", "int64", True, (-1,))))
FRAME = pd.DataFrame({"a": [1.5, 2.0], "b": ["x", "y"]})
SPLIT = {"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, "x"], [2.0, "y"]]}}


def sent(signature: Signature | None = None, task: str | None = None, **given: Any) -> Any:
    return json.loads(to_json(encode(Given(**given), signature, task).document))


def split(columns: list[Any], *rows: list[Any]) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": list(rows)}}


CLASSIC: list[tuple[str, Signature | None, dict[str, Any], Any]] = [
    ("pandas", None, {"data": FRAME}, SPLIT),
    ("polars", None, {"data": pl.from_pandas(FRAME)}, SPLIT),
    ("frame by a keyword", AB, {"rows": FRAME}, SPLIT),
    ("frame for a tensor", WIDE, {"data": FRAME[["a"]]}, {"inputs": [[1.5], [2.0]]}),
    ("frame for one value", UNNAMED, {"data": FRAME[["b"]]}, {"inputs": ["x", "y"]}),
    ("array", None, {"data": np.eye(2)}, {"inputs": [[1, 0], [0, 1]]}),
    ("array for columns", AB, {"data": np.eye(2)}, split(["a", "b"], [1, 0], [0, 1])),
    ("array for a tensor", TENSOR, {"data": np.eye(2)}, {"inputs": [[1, 0], [0, 1]]}),
    ("array for a named tensor", NAMED, {"data": np.eye(2)}, {"inputs": {"t": [[1, 0], [0, 1]]}}),
    ("array for arrays", VECTOR, {"data": np.eye(2)}, split(["v"], [[1, 0]], [[0, 1]])),
    ("flat array", None, {"data": np.ones(2)}, {"inputs": [1, 1]}),
    ("flat array, one row", AB, {"data": np.ones(2)}, split(["a", "b"], [1, 1])),
    ("flat array, one column", ONE, {"data": np.ones(2)}, split(["a"], [1], [1])),
    ("flat array, one tensor row", TENSOR, {"data": np.ones(2)}, {"inputs": [[1, 1]]}),
    ("no rows", AB, {"data": np.empty((0, 2))}, split(["a", "b"])),
    ("no rows by a keyword", ONE, {"rows": np.empty((0, 1))}, split(["a"])),
    ("no values", ONE, {"data": np.empty(0)}, split(["a"])),
    ("no arrays", VECTOR, {"data": np.empty(0)}, split(["v"])),
    ("long doubles", None, {"data": np.ones((1, 2), np.longdouble)}, {"inputs": [[1, 1]]}),
    (
        "frame of long doubles",
        None,
        {"data": pd.DataFrame({"a": np.ones(1, np.longdouble)})},
        split(["a"], [1]),
    ),
    ("one long double", None, {"inputs": [np.longdouble(2)]}, {"inputs": [2]}),
    ("sparse", None, {"data": scipy.sparse.eye(1).tocsr()}, {"inputs": [[1]]}),
    (
        "structured",
        None,
        {"data": np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")])},
        split(["a", "b"], [1, 2.5]),
    ),
    ("records", None, {"data": [{"a": 1}]}, {"dataframe_records": [{"a": 1}]}),
    ("one record", None, {"records": {"a": 1}}, {"dataframe_records": [{"a": 1}]}),
    ("records for a type hint", UNNAMED, {"records": [{"a": 1}]}, {"inputs": [{"a": 1}]}),
    (
        "records for tensors",
        TWO,
        {"data": [{"t": [1, 2], "u": 3}]},
        {"instances": [{"t": [1, 2], "u": 3}]},
    ),
    (
        "dict of scalars",
        None,
        {"data": {"a": 1, "b": "x"}},
        {"dataframe_records": [{"a": 1, "b": "x"}]},
    ),
    (
        "dict of numpy's scalars",
        None,
        {"data": {"a": np.float32(1.5), "b": np.array(2)}},
        {"dataframe_records": [{"a": 1.5, "b": 2}]},
    ),
    ("dict of lists", None, {"data": {"a": [1], "b": ("x",)}}, split(["a", "b"], [1, "x"])),
    (
        "dict of an array column",
        VECTOR,
        {"data": {"v": [1.5, 2]}},
        {"dataframe_records": [{"v": [1.5, 2]}]},
    ),
    ("dict of array columns", VECTOR, {"data": {"v": [[1.5], [2]]}}, split(["v"], [[1.5]], [[2]])),
    (
        "dict of tensors",
        TWO,
        {"data": {"t": np.ones((1, 2)), "u": [3]}},
        {"inputs": {"t": [[1, 1]], "u": [3]}},
    ),
    (
        "columns",
        None,
        {"columns": {"a": np.array([1]), "b": pd.Series(["x"])}},
        split(["a", "b"], [1, "x"]),
    ),
    ("rows", AB, {"data": [[1, "x"], (2, "y")]}, split(["a", "b"], [1, "x"], [2, "y"])),
    ("rows without a signature", None, {"rows": [[1, 2]]}, {"inputs": [[1, 2]]}),
    ("rows of one value", UNNAMED, {"rows": [["x"], ["y"]]}, {"inputs": ["x", "y"]}),
    ("rows as an array", AB, {"rows": np.eye(2)}, split(["a", "b"], [1, 0], [0, 1])),
    ("one row", AB, {"data": [1, "x"]}, split(["a", "b"], [1, "x"])),
    ("one column", ONE, {"data": [1, 2]}, split(["a"], [1], [2])),
    ("one value", ONE, {"data": 1.5}, split(["a"], [1.5])),
    ("one value of numpy's", ONE, {"data": np.int64(2)}, split(["a"], [2])),
    ("a text for a model of texts", UNNAMED, {"data": "hi"}, {"inputs": ["hi"]}),
    ("inputs", None, {"inputs": {"t": np.ones((1, 2))}}, {"inputs": {"t": [[1, 1]]}}),
    ("inputs of a scalar", None, {"inputs": 5}, {"inputs": 5}),
    ("a body", None, {"data": {"instances": [1]}}, {"instances": [1]}),
    ("any body", None, {"body": {"my": "own"}}, {"my": "own"}),
]


@pytest.mark.parametrize(
    ("signature", "given", "expected"), [case[1:] for case in CLASSIC], ids=[c[0] for c in CLASSIC]
)
def test_what_people_have_becomes_what_the_model_takes(
    signature: Signature | None, given: dict[str, Any], expected: Any
) -> None:
    assert sent(signature, **given) == expected


def test_columns_at_the_end_that_are_optional_may_be_left_out_of_rows() -> None:
    signature = Signature((*AB.inputs, Column("c", "long", required=False)))

    assert sent(signature, rows=[[1, "x"]]) == split(["a", "b"], [1, "x"])


def test_the_callers_values_are_not_changed() -> None:
    body, record = {"inputs": [1]}, {"t": datetime(2024, 1, 1, tzinfo=UTC)}
    signature = Signature((Column("t", "datetime"),))

    encode(Given(body=body, params={"k": 1}))
    encode(Given(records=[record]), signature)

    assert body == {"inputs": [1]}
    assert record["t"].tzinfo is UTC


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        ({"data": FRAME}, 2),
        ({"records": [{"a": 1}] * 3}, 3),
        ({"inputs": [1, 2]}, 2),
        ({"body": SPLIT}, 2),
        ({"input": ["a", "b"]}, 2),
        ({"messages": "hi"}, None),
    ],
)
def test_the_rows_are_counted(given: dict[str, Any], rows: int | None) -> None:
    assert encode(Given(**given)).rows == rows


class Role(enum.Enum):
    USER = "user"


@dataclass
class Said:
    role: Role
    content: str


HI = {"role": "user", "content": "hi"}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ("hi", [HI]),
        (HI, [HI]),
        ([HI], [HI]),
        ([Said(Role.USER, "hi")], [HI]),
        ([ChatMessage(role=ChatMessageRole.USER, content="hi")], [HI]),
        ([SystemMessage("s"), HumanMessage("hi")], [{"role": "system", "content": "s"}, HI]),
        (
            [AIMessage("", tool_calls=[{"id": "1", "name": "f", "args": {"x": 1}}])],
            [{"role": "assistant", "content": "", "tool_calls": [CALL]}],
        ),
        (
            [ToolMessage("r", tool_call_id="1")],
            [{"role": "tool", "content": "r", "tool_call_id": "1"}],
        ),
        (
            [HI, Chat(endpoint="e", body={}, text="yes")],
            [HI, {"role": "assistant", "content": "yes"}],
        ),
    ],
)
def test_messages_may_be_dicts_or_objects(messages: Any, expected: Any) -> None:
    assert sent(messages=messages) == {"messages": expected}
    assert sent(task="llm/v1/chat", data=messages) == {"messages": expected}


@pytest.mark.parametrize(
    ("task", "data", "expected", "operation"),
    [
        ("llm/v1/chat", "hi", {"messages": [HI]}, "chat"),
        ("agent/v2/chat", [HI], {"messages": [HI]}, "chat"),
        ("agent/v1/responses", "hi", {"input": [HI]}, "chat"),
        ("llm/v1/completions", ["a", "b"], {"prompt": ["a", "b"]}, "completions"),
        ("llm/v1/embeddings", pd.Series(["a"]), {"input": ["a"]}, "embeddings"),
        ("llm/v1/chat", {"messages": [HI], "n": 2}, {"messages": [HI], "n": 2}, "chat"),
        (None, [HI], {"messages": [HI]}, "chat"),
        (None, {"prompt": "a", "max_tokens": 1}, {"prompt": "a", "max_tokens": 1}, "completions"),
        (None, {"input": ["a"]}, {"input": ["a"]}, "embeddings"),
    ],
)
def test_the_endpoints_task_says_what_data_is(
    task: str | None, data: Any, expected: Any, operation: str
) -> None:
    encoded = encode(Given(data=data), None, task)

    assert encoded.document == expected
    assert encoded.operation == operation


def test_a_models_own_columns_come_before_the_words_of_llms() -> None:
    prompts = Signature((Column("prompt", "string"),))
    talk = Signature((Column("role", "string"), Column("content", "string")))

    assert sent(prompts, data={"prompt": ["a", "b"]}) == split(["prompt"], ["a"], ["b"])
    assert sent(talk, data=[HI]) == {"dataframe_records": [HI]}


def test_params_and_fields_are_joined_in() -> None:
    assert sent(inputs=[1], params={"k": 1}, fields={"x": 2}) == {
        "inputs": [1],
        "params": {"k": 1},
        "x": 2,
    }
    assert sent(prompt="a", params={"t": 1}, fields={"n": 2}) == {"prompt": "a", "t": 1, "n": 2}


REFUSED: list[tuple[Signature | None, dict[str, Any], str]] = [
    (None, {}, "There is no input: give data or one of records, columns"),
    (None, {"data": FRAME, "rows": [[1]]}, "given were data and rows"),
    (None, {"inputs": [1], "params": {"k": 1}, "fields": {"params": {}}}, "fields: params is in"),
    (None, {"prompt": "a", "fields": {"prompt": "b"}}, "fields: prompt is in the request already"),
    (None, {"inputs": [1], "params": [1]}, "params: expected a dict, got list"),
    (None, {"data": "hi"}, "use messages=, prompt=, input= or inputs="),
    (None, {"data": [1, 2]}, r"give rows=\[\[…\]\]"),
    (None, {"data": {"a": [1], "b": 2}}, "say columns={…} or records="),
    (Signature((Column("inputs", "long"),)), {"data": {"inputs": [1]}}, "say columns=, records="),
    (None, {"data": []}, "the list is empty"),
    (None, {"data": {}}, "the dict is empty"),
    (None, {"data": [{"a": 1}, [1]]}, "got one of dict, list"),
    (None, {"data": FRAME["a"]}, "A Series may be one row or one column"),
    (None, {"data": pl.LazyFrame({"a": [1]})}, r"got LazyFrame. Call .collect\(\) first"),
    (None, {"data": np.array(1)}, "no dimension"),
    (None, {"records": [{"a": 1}, 2]}, r"records\[1\]: expected a dict, got int"),
    (None, {"records": "a"}, "records: expected a list of dicts, got str"),
    (None, {"columns": {"a": [1], "b": [1, 2]}}, "these have a: 1, b: 2"),
    (None, {"columns": {"a": 1}}, "Column a: expected a list of values, got int"),
    (AB, {"rows": [[1, "x"], [2]]}, r"rows\[1\] has a different number of values"),
    (AB, {"rows": [[1, 2, 3]]}, "3 in each row; the model takes 2 columns: a, b"),
    (AB, {"rows": [{"a": 1}]}, "Dicts go by records="),
    (AB, {"data": np.ones((1, 2, 2))}, r"the shape \(1, 2, 2\); the model takes columns: a, b"),
    (WIDE, {"data": [1, 2]}, "given was a flat list of 2"),
    (TWO, {"rows": [[1, 2]]}, "several tensors: give columns= with t, u"),
    (None, {"body": [1]}, "body: expected a dict, got list"),
    (None, {"messages": []}, "messages: there is none"),
    (None, {"messages": [HI, "x"]}, r"messages\[1\]: expected a dict or an object"),
    (None, {"messages": [{"content": "x"}]}, r"messages\[0\].*a dict without a role"),
    (None, {"input": ["a", 1.5]}, r"input\[1\]: expected a text, got float"),
    (None, {"prompt": b"a"}, "prompt: expected a text or a list of texts, got bytes"),
    (None, {"data": pd.DataFrame({"d": [timedelta(1)]})}, "Column d: values of type timedelta64"),
    (None, {"data": pd.DataFrame({"d": [1, {2}]})}, "Column d, row 1: values of type set"),
    (None, {"data": pd.DataFrame({"d": [time(12)]})}, "Column d, row 0: values of type time"),
    (None, {"data": pd.DataFrame({"d": pd.cut([1, 2], 2)})}, "Column d, row 0: .* type Interval"),
    (
        None,
        {"data": pd.DataFrame({"d": pd.period_range("2024", periods=1, freq="M")})},
        "Column d, row 0: values of type Period",
    ),
    (None, {"data": pd.DataFrame({("a", "b"): [1]})}, "several levels"),
    (None, {"data": pd.DataFrame({True: [1]})}, "column name True is no text"),
    (None, {"data": np.array([1j])}, "values of type complex128"),
]


@pytest.mark.parametrize(("signature", "given", "says"), REFUSED)
def test_what_is_ambiguous_or_impossible_is_refused(
    signature: Signature | None, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        encode(Given(**given), signature)


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ({"data": FRAME}, True),
        ({"rows": [[1]]}, True),
        ({"columns": {}}, True),
        ({"records": []}, True),
        ({"data": [HI]}, False),
        ({"inputs": [1]}, False),
        ({"body": {}}, False),
        ({"messages": "hi"}, False),
    ],
)
def test_whole_requests_need_no_signature(given: dict[str, Any], needed: bool) -> None:
    assert needs_signature(Given(**given)) is needed


def test_encoding_loads_no_library_of_frames() -> None:
    code = "import sys, lakeport.client.validate; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not {"numpy", "pandas", "polars", "pyarrow", "mlflow"} & set(done.stdout.split())


def test_an_encoded_request_is_plain_data() -> None:
    assert encode(Given(inputs=[1])) == Encoded({"inputs": [1]}, "scoring", 1)
