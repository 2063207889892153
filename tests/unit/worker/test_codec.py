"""Bytes to documents and back, without a model."""

import gzip
import json
import math
import random
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lakeport.worker import codec
from lakeport.worker.refusal import Refusal


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", codec.JSON),
        ("application/json; charset=utf-8", codec.JSON),
        ('application/json;charset="UTF-8"', codec.JSON),
        ("Application/JSON;", codec.JSON),
        ("text/csv; charset=utf8", codec.CSV),
        ("application/vnd.apache.parquet", codec.PARQUET),
    ],
)
def test_media_types_that_are_taken(content_type: str, expected: str) -> None:
    assert codec.media_type(content_type) == expected


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        (None, "no Content-Type"),
        ("", "no Content-Type"),
        ("text/plain", "Got 'text/plain'"),
        ("application/json; charset=latin-1", "only supports UTF-8"),
        ("application/json; format=pandas-split", "Unrecognized content type parameters: format"),
    ],
)
def test_other_media_types_are_415(content_type: str | None, says: str) -> None:
    with pytest.raises(Refusal, match=says) as caught:
        codec.media_type(content_type)

    assert (caught.value.status, caught.value.error_code) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_gzip_is_inflated_members_and_all() -> None:
    body = gzip.compress(b'{"a":') + gzip.compress(b"1}")

    assert codec.inflate(body, "GZIP", 100) == b'{"a":1}'
    assert codec.inflate(b"as is", None, 100) == b"as is"
    assert codec.inflate(gzip.compress(bytes(100)), "gzip", 100) == bytes(100)
    assert codec.inflate(gzip.compress(b"") * 1023 + gzip.compress(b"{}"), "gzip", 2) == b"{}"
    noise = random.Random(1).randbytes(300_000)  # more than is looked at in one step
    assert codec.inflate(gzip.compress(noise) * 2, "gzip", 600_000) == noise * 2


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(bytes(101), mtime=0), "gzip", 413),
        (gzip.compress(bytes(50), mtime=0) * 3, "gzip", 413),
        (gzip.compress(bytes(50_000_000), mtime=0), "gzip", 413),
        (b"no gzip", "gzip", 400),
        (gzip.compress(b"cut short", mtime=0)[:-4], "gzip", 400),
        (b"{}", "br", 415),
        (b"{}", "gzip, gzip", 415),
        (gzip.compress(b"", mtime=0) * 1025, "gzip", 400),
    ],
)
def test_gzip_beyond_the_limit_or_broken_is_refused(
    body: bytes, encoding: str, status: int
) -> None:
    with pytest.raises(Refusal) as caught:
        codec.inflate(body, encoding, 100)

    assert caught.value.status == status


def test_what_never_reaches_the_model_is_taken_out() -> None:
    document = codec.parse_json(
        json.dumps(
            {
                "inputs": [1],
                "client_request_id": "r-1",
                "usage_context": {"team": "a"},
                "databricks_options": {"return_trace": True},
                "stream": False,
            }
        ).encode()
    )

    assert document.fields == {"inputs": [1]}
    assert document.client_request_id == "r-1"
    assert document.usage_context == {"team": "a"}
    assert not document.stream


def test_a_model_that_takes_messages_is_given_stream_too() -> None:
    document = codec.parse_json(b'{"messages": [], "stream": true, "client_request_id": null}')

    assert document.bare
    assert document.stream
    assert document.fields == {"messages": [], "stream": True}


@pytest.mark.parametrize(
    "fields", [{"client_request_id": 7}, {"usage_context": []}, {"usage_context": {"team": 1}}]
)
def test_fields_of_the_wrong_type_are_named(fields: dict[str, object]) -> None:
    with pytest.raises(Refusal, match=next(iter(fields))) as caught:
        codec.parse_json(json.dumps({"inputs": []} | fields).encode())

    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"[1]",
        b'"text"',
        b"null",
        b'{"inputs": "\\ud800"}',
        b'{"inputs": ["\\ud800", NaN]}',
        b'{"inputs": "\xff"}',
        b'{"inputs": "\xff", "n": NaN}',
        b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"inputs": ' + b"[" * 100_000 + b"NaN" + b"]" * 100_000 + b"}",
        b'{"inputs": ' + b"9" * 5000 + b"}",
    ],
)
def test_bodies_that_are_no_json_object_are_400(body: bytes) -> None:
    with pytest.raises(Refusal, match="Invalid input") as caught:
        codec.parse_json(body)

    assert (caught.value.status, caught.value.error_code) == (400, "BAD_REQUEST")


def test_numbers_are_read_as_by_python() -> None:
    body = b'{"inputs": [NaN, -Infinity, 123456789012345678901234567890, 18446744073709551615]}'

    nan, infinity, *integers = codec.parse_json(body).fields["inputs"]

    assert math.isnan(nan)
    assert infinity == -math.inf
    assert integers == [123456789012345678901234567890, 18446744073709551615]


def test_a_number_too_large_for_a_float_is_infinity_and_a_mark_of_utf8_is_no_part() -> None:
    assert codec.parse_json(b'\xef\xbb\xbf{"inputs": [1e400]}').fields == {"inputs": [math.inf]}


MANY = 10_000
NO_SIGNATURE = codec.Interface(schema=None, params=frozenset(), type_hinted=False)


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
        {"dataframe_records": [{f"k{i}": 1 for i in range(codec.MAX_COLUMNS + 1)}]},
    ],
    ids=["records", "inputs", "instances", "columns", "uneven", "one value", "dicts", "wide"],
)
def test_a_few_bytes_cannot_ask_for_a_huge_table(forms: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="more than the limit") as caught:
        codec.scoring_of(codec.Document(forms, bare=False, stream=False), NO_SIGNATURE)

    assert (caught.value.status, caught.value.error_code) == (413, "REQUEST_TOO_LARGE")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (",".join(f"c{i}" for i in range(MANY)) + "\n1" * MANY, 413, "more than the limit"),
        ("c\n" + "," * MANY + "\n1" * MANY, 413, "more than the limit"),
        (",".join(f"c{i}" for i in range(codec.MAX_COLUMNS + 1)), 413, "more than the limit"),
        (",".join(["c"] * 2000), 400, "names that repeat"),
    ],
    ids=["short lines", "labels", "wide", "alike"],
)
def test_a_few_lines_of_csv_cannot_either(body: str, status: int, says: str) -> None:
    with pytest.raises(Refusal, match=says) as caught:
        codec.table_of(codec.CSV, body.encode(), NO_SIGNATURE)

    assert caught.value.status == status


def test_a_wide_csv_is_read() -> None:
    names = [f"c{i}" for i in range(2000)]
    body = ",".join(names) + "\n" + ",".join("1" * 2000) + "\n"

    frame = codec.table_of(codec.CSV, body.encode(), NO_SIGNATURE).data

    assert list(frame.columns) == names
    assert frame.shape == (1, 2000)


def test_the_last_of_two_equal_keys_counts_as_in_mlflow() -> None:
    assert codec.parse_json(b'{"inputs": 1, "inputs": 2}').fields == {"inputs": 2}


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        (np.array([1, 2]), [1, 2]),
        (np.array([0.1], dtype="float32"), [0.10000000149011612]),
        (np.array([1.0, math.nan, math.inf]), [1.0, None, None]),
        (pd.Series([1.5, 2.5], name="y"), [{"y": 1.5}, {"y": 2.5}]),
        (pd.DataFrame({"a": [1], "b": ["x"]}), [{"a": 1, "b": "x"}]),
        (["a", None], ["a", None]),
        ({"a": np.float64(1.5), "b": [np.int32(2)], "c": np.array([True])}, None),
        ([10**30, math.nan], [10**30, None]),
        ({1: "one", None: "none"}, {"1": "one", "null": "none"}),
        (["\ud800"], ["\ud800"]),
        (b"bytes", "Ynl0ZXM=\n"),
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006+00:00"),
        (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
    ],
)
def test_predictions_are_written_as_mlflow_writes_them(predictions: Any, expected: Any) -> None:
    body = json.loads(codec.answer_json(predictions, bare=False))

    if expected is None:
        expected = {"a": 1.5, "b": [2], "c": [True]}
    assert body == {"predictions": expected}


def test_an_output_that_json_cannot_say_is_refused() -> None:
    circle: list[object] = []
    circle.append(circle)

    for output in (object(), {"a": {1, 2}}, circle):
        with pytest.raises(Refusal, match="cannot be written as JSON"):
            codec.answer_json(output, bare=True)


def test_an_event_has_no_line_ends_of_any_kind() -> None:
    event = codec.event_json({"text": "a\nb\rc\u0085d\u2028e\u2029f"})

    assert len(event.decode().splitlines()) == 1
    assert json.loads(event) == {"text": "a\nb\rc\u0085d\u2028e\u2029f"}
