"""From bytes to a document: what is taken, read and refused."""

import gzip
import json
import math
import random

import pytest

from lakeport.worker import request_body
from lakeport.worker.refusal import Refusal


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", request_body.JSON),
        ("application/json; charset=utf-8", request_body.JSON),
        ('application/json;charset="UTF-8"', request_body.JSON),
        ("Application/JSON;", request_body.JSON),
        ("text/csv; charset=utf8", request_body.CSV),
        ("application/vnd.apache.parquet", request_body.PARQUET),
    ],
)
def test_media_types_that_are_taken(content_type: str, expected: str) -> None:
    assert request_body.media_type(content_type) == expected


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
        request_body.media_type(content_type)

    assert (caught.value.status, caught.value.error_code) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_gzip_is_inflated_members_and_all() -> None:
    body = gzip.compress(b'{"a":') + gzip.compress(b"1}")

    assert request_body.inflate(body, "GZIP", 100) == b'{"a":1}'
    assert request_body.inflate(b"as is", None, 100) == b"as is"
    assert request_body.inflate(gzip.compress(bytes(100)), "gzip", 100) == bytes(100)
    assert (
        request_body.inflate(gzip.compress(b"") * 1023 + gzip.compress(b"{}"), "gzip", 2) == b"{}"
    )
    noise = random.Random(1).randbytes(300_000)  # more than is looked at in one step
    assert request_body.inflate(gzip.compress(noise) * 2, "gzip", 600_000) == noise * 2


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
        request_body.inflate(body, encoding, 100)

    assert caught.value.status == status


def test_what_never_reaches_the_model_is_taken_out() -> None:
    document = request_body.parse_json(
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
    document = request_body.parse_json(
        b'{"messages": [], "stream": true, "client_request_id": null}'
    )

    assert document.bare
    assert document.stream
    assert document.fields == {"messages": [], "stream": True}


@pytest.mark.parametrize(
    "fields", [{"client_request_id": 7}, {"usage_context": []}, {"usage_context": {"team": 1}}]
)
def test_fields_of_the_wrong_type_are_named(fields: dict[str, object]) -> None:
    with pytest.raises(Refusal, match=next(iter(fields))) as caught:
        request_body.parse_json(json.dumps({"inputs": []} | fields).encode())

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
        request_body.parse_json(body)

    assert (caught.value.status, caught.value.error_code) == (400, "BAD_REQUEST")


def test_numbers_are_read_as_by_python() -> None:
    body = b'{"inputs": [NaN, -Infinity, 123456789012345678901234567890, 18446744073709551615]}'

    nan, infinity, *integers = request_body.parse_json(body).fields["inputs"]

    assert math.isnan(nan)
    assert infinity == -math.inf
    assert integers == [123456789012345678901234567890, 18446744073709551615]


def test_a_number_too_large_for_a_float_is_infinity_and_a_mark_of_utf8_is_no_part() -> None:
    assert request_body.parse_json(b'\xef\xbb\xbf{"inputs": [1e400]}').fields == {
        "inputs": [math.inf]
    }


def test_the_last_of_two_equal_keys_counts_as_in_mlflow() -> None:
    assert request_body.parse_json(b'{"inputs": 1, "inputs": 2}').fields == {"inputs": 2}
