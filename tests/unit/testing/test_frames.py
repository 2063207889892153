"""Our way to a frame is the worker's, wherever ours is taken."""

import contextlib
import subprocess
import sys
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeport.testing.frames import frame_of
from lakeport.worker import model_input, request_body
from lakeport.worker.refusal import Refusal

# Uneven rows are what it is about.
pytestmark = pytest.mark.filterwarnings("ignore:Constructing a DataFrame")
INTERFACE = model_input.Interface(schema=None, params=frozenset(), type_hinted=False)

values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.none())
names = st.sampled_from(["a", "b", "c"])
records = st.lists(st.dictionaries(names, values) | values)
splits = st.fixed_dictionaries(
    {},
    optional={
        "data": st.lists(st.lists(values)) | values,
        "columns": st.lists(names) | values,
        "index": st.lists(values),
        "more": values,
    },
)


def same(form: str, value: Any) -> None:
    ours = frame_of(form, value)
    theirs: Any = None
    with contextlib.suppress(Refusal):
        document = request_body.Document({form: value}, bare=False, stream=False)
        theirs = model_input.scoring_of(document, INTERFACE).data

    if ours is None:
        assert theirs is None
    else:
        pd.testing.assert_frame_equal(ours, theirs)


@given(records | values)
def test_records(value: Any) -> None:
    same("dataframe_records", value)


@given(splits | values)
def test_splits(value: Any) -> None:
    same("dataframe_split", value)


@pytest.mark.parametrize("form", ["dataframe_records", "dataframe_split"])
def test_mlflow_is_not_loaded(form: str) -> None:
    value = [{"a": 1}] if form == "dataframe_records" else {"columns": ["a"], "data": [[1]]}
    program = (
        "import sys; from lakeport.testing.frames import frame_of\n"
        f"print(frame_of({form!r}, {value!r})['a'].tolist(), 'mlflow' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[1] False"
