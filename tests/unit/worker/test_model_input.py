"""What a few bytes of a request may not ask for."""

from typing import Any

import pytest

from lakeport.worker import model_input, request_body
from lakeport.worker.refusal import Refusal

MANY = 10_000
NO_SIGNATURE = model_input.Interface(schema=None, params=frozenset(), type_hinted=False)


@pytest.mark.parametrize(
    "forms",
    [
        {"dataframe_records": [{f"k{i}": 1} for i in range(MANY)]},
        {"inputs": [{f"k{i}": 1} for i in range(MANY)]},
        {"instances": [{f"k{i}": 1} for i in range(MANY)]},
        {"inputs": {f"k{i}": 1 for i in range(MANY)} | {"long": [1] * MANY}},
        {"dataframe_split": {"data": [[1] * MANY] + [[1]] * MANY}},
        {"dataframe_split": {"data": 1, "index": [1] * MANY, "columns": [1] * MANY}},
        {"dataframe_split": {"data": {f"k{i}": {f"r{i}": 1} for i in range(MANY)}}},
        {"dataframe_records": [{f"k{i}": 1 for i in range(model_input.MAX_COLUMNS + 1)}]},
    ],
    ids=["records", "inputs", "instances", "columns", "uneven", "one value", "dicts", "wide"],
)
def test_a_few_bytes_cannot_ask_for_a_huge_table(forms: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="more than the limit") as caught:
        model_input.scoring_of(request_body.Document(forms, bare=False, stream=False), NO_SIGNATURE)

    assert (caught.value.status, caught.value.error_code) == (413, "REQUEST_TOO_LARGE")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (",".join(f"c{i}" for i in range(MANY)) + "\n1" * MANY, 413, "more than the limit"),
        ("c\n" + "," * MANY + "\n1" * MANY, 413, "more than the limit"),
        (",".join(f"c{i}" for i in range(model_input.MAX_COLUMNS + 1)), 413, "more than the limit"),
        (",".join(["c"] * 2000), 400, "names that repeat"),
    ],
    ids=["short lines", "labels", "wide", "alike"],
)
def test_a_few_lines_of_csv_cannot_either(body: str, status: int, says: str) -> None:
    with pytest.raises(Refusal, match=says) as caught:
        model_input.table_of(request_body.CSV, body.encode(), NO_SIGNATURE)

    assert caught.value.status == status


def test_a_wide_csv_is_read() -> None:
    names = [f"c{i}" for i in range(2000)]
    body = ",".join(names) + "\n" + ",".join("1" * 2000) + "\n"

    frame = model_input.table_of(request_body.CSV, body.encode(), NO_SIGNATURE).data

    assert list(frame.columns) == names
    assert frame.shape == (1, 2000)
