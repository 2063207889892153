"""A DataFrame in, a request out: what the worker makes of it equals what was meant."""

import base64
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.models.utils import _enforce_schema
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import Array, DataType, Object, Property

from lakeport.client.encode import Given, encode, to_json
from lakeport.client.signature import Signature, from_mlmodel
from lakeport.worker import model_input, request_body

QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001 -- MLflow's have none
FLOATS = st.floats() | st.sampled_from([math.inf, -math.inf, math.nan, 0.1, 1e300])
#: By MLflow's type: values, and the dtype of pandas that holds them.
COLUMNS: dict[str, tuple[st.SearchStrategy[Any], Any]] = {
    "double": (FLOATS, "float64"),
    "float": (st.floats(width=32), "float32"),
    "long": (st.integers(-(2**63), 2**63 - 1), "int64"),
    "integer": (st.integers(-(2**31), 2**31 - 1), "int32"),
    "boolean": (st.booleans(), "bool"),
    "string": (TEXT | st.none(), object),
    "datetime": (TIMES | st.none(), "datetime64[ns]"),
    "binary": (st.binary(max_size=6), object),
}
NESTED: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "doubles": (Array(DataType.double), st.lists(st.integers(-5, 5) | st.floats(-9, 9))),
    "texts": (Array(Array(DataType.string)), st.lists(st.lists(TEXT, max_size=2), max_size=2)),
    "objects": (
        Object([Property("x", DataType.double), Property("t", DataType.string, required=False)]),
        st.fixed_dictionaries({"x": st.floats(-9, 9)}, optional={"t": TEXT}),
    ),
}


def schema_of(**types: Any) -> Schema:
    return Schema([ColSpec(type, name) for name, type in types.items()])


def signature_of(schema: Schema) -> Signature:
    return from_mlmodel({"inputs": schema.to_json()})


def decoded(data: Any, schema: Schema | None, **options: Any) -> Any:
    """What the model's predict is given."""
    signature = signature_of(schema) if schema is not None else None
    body = to_json(encode(Given(data=data, **options), signature).document)
    interface = model_input.Interface(schema=schema, params=frozenset(), type_hinted=False)
    found = model_input.scoring_of(request_body.parse_json(body), interface).data
    return found if schema is None else _enforce_schema(found, schema)


def values(frame: pd.DataFrame) -> dict[str, list[Any]]:
    return {name: [_same(value) for value in frame[name].tolist()] for name in frame.columns}


def _same(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _same(item) for key, item in value.items()}
    if isinstance(value, (list, np.ndarray)):
        return [_same(item) for item in value]
    return None if value is None or value != value else value  # noqa: PLR0124 -- NaN, NaT


@st.composite
def frames(draw: st.DrawFn) -> tuple[pd.DataFrame, Schema]:
    kinds = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=4))
    rows = draw(st.integers(1, 5))
    columns = {}
    for place, kind in enumerate(kinds):
        strategy, dtype = COLUMNS[kind]
        drawn = draw(st.lists(strategy, min_size=rows, max_size=rows))
        columns[f"{kind} {place}"] = pd.Series(drawn, dtype=dtype)
    types = {name: name.split()[0] for name in columns}
    return pd.DataFrame(columns), schema_of(**types)


@QUICK
@given(frames())
def test_a_frame_arrives_as_it_was_meant(drawn: tuple[pd.DataFrame, Schema]) -> None:
    frame, schema = drawn

    found = decoded(frame, schema)

    assert values(found) == values(frame)
    plain = [name for name in map(str, frame) if name.split()[0] not in {"string", "binary"}]
    assert found[plain].dtypes.tolist() == frame[plain].dtypes.tolist()


@QUICK
@given(frames())
def test_records_and_columns_say_the_same_as_the_frame(
    drawn: tuple[pd.DataFrame, Schema],
) -> None:
    frame, schema = drawn
    meant = values(frame)

    assert values(decoded(frame.to_dict("records"), schema)) == meant
    assert values(decoded({name: frame[name] for name in frame}, schema)) == meant
    assert values(decoded(frame.to_numpy(dtype=object).tolist(), schema)) == meant


@QUICK
@given(frames())
def test_polars_and_arrow_say_the_same_as_pandas(drawn: tuple[pd.DataFrame, Schema]) -> None:
    frame, schema = drawn
    table = pa.Table.from_pandas(frame, preserve_index=False)

    assert values(decoded(table, schema)) == values(frame)
    assert values(decoded(pl.from_arrow(table), schema)) == values(frame)


@QUICK
@given(st.data())
def test_arrays_and_objects_arrive_as_they_were_meant(data: st.DataObject) -> None:
    drawn = {
        name: data.draw(st.lists(strategy, min_size=2, max_size=2))
        for name, (_, strategy) in NESTED.items()
    }
    schema = schema_of(**{name: type for name, (type, _) in NESTED.items()})

    found = decoded(pd.DataFrame(drawn), schema)

    assert values(found) == drawn


@QUICK
@given(
    st.sampled_from(["float64", "float32", "int64", "int8", "uint16", "bool"]),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.data(),
)
def test_an_array_arrives_as_it_was(dtype: str, shape: list[int], data: st.DataObject) -> None:
    size = math.prod(shape)
    flat = data.draw(st.lists(st.integers(0, 100), min_size=size, max_size=size))
    array = np.array(flat).astype(dtype).reshape(shape)
    tensor = [{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *shape[1:]]}}]
    schema = Schema.from_json(json.dumps(tensor))

    found = decoded(array, schema)

    assert found.dtype == array.dtype
    assert np.array_equal(found, array)
    assert np.array_equal(decoded(array, None), array)


@pytest.mark.parametrize(
    ("series", "meant"),
    [
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.Series([0.5, None], dtype="Float32"), [0.5, None]),
        (pd.Series([True, None], dtype="boolean"), [True, None]),
        (pd.Series(["a", None], dtype="string"), ["a", None]),
        (pd.Series(["a", None, "a"], dtype="category"), ["a", None, "a"]),
        (pd.Series([1, None], dtype=pd.ArrowDtype(pa.int32())), [1, None]),
        (pd.Series([1.0, 0.0], dtype="Sparse[float64]"), [1.0, 0.0]),
        (pd.Series([None, math.nan, pd.NA, pd.NaT], dtype=object), [None] * 4),
        (pd.Series([np.int64(3), np.float32(0.5), np.bool_(True)], dtype=object), [3, 0.5, True]),
        (pd.Series([[1, 2], None, {"k": np.int8(1)}]), [[1, 2], None, {"k": 1}]),
        (pd.Series([2**70, 1], dtype=object), [2**70, 1]),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_every_dtype_of_pandas_has_its_values(series: pd.Series, meant: list[Any]) -> None:
    found = decoded(pd.DataFrame({"x": series, "n": 0}), None)

    assert values(found)["x"] == meant


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_times_with_a_zone_become_utc_where_the_model_takes_times(
    library: Callable[..., Any],
) -> None:
    moments = [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 0, 0, 5, tzinfo=UTC)]

    with_schema = decoded(library({"t": moments}), schema_of(t="datetime"))
    without = decoded(library({"t": moments}), None)

    assert with_schema["t"].tolist() == [pd.Timestamp(each).tz_localize(None) for each in moments]
    assert [pd.Timestamp(text) for text in without["t"]] == moments


def test_nanoseconds_are_kept() -> None:
    texts = np.array(["2024-01-01T00:00:00.123456789", "NaT", "2024-01-01"], "datetime64[ns]")
    frame = pd.DataFrame({"t": texts})

    assert decoded(frame, schema_of(t="datetime"))["t"].equals(frame["t"])
    table = pa.Table.from_pandas(frame)
    assert decoded(pl.from_arrow(table), schema_of(t="datetime"))["t"].equals(frame["t"])


def test_the_index_is_dropped_and_names_that_are_numbers_stay_numbers() -> None:
    frame = pd.DataFrame(np.eye(2), index=["x", "y"])
    schema = Schema([ColSpec("double", name) for name in (0, 1)])  # type: ignore[arg-type]

    found = decoded(frame, schema)

    assert found.to_numpy().tolist() == [[1, 0], [0, 1]]
    assert decoded([[1, 0]], schema).to_numpy().tolist() == [[1, 0]]
    assert decoded([{0: 1.0, 1: 0.0}], schema).to_numpy().tolist() == [[1, 0]]


def test_bytes_are_what_mlflow_calls_binary() -> None:
    body = to_json({"x": b"\x00\xff", "y": bytearray(b"ab"), "z": memoryview(b"c")})

    said = request_body.parse_json(body).fields
    assert {key: base64.b64decode(text) for key, text in said.items()} == {
        "x": b"\x00\xff",
        "y": b"ab",
        "z": b"c",
    }
