"""A body is read as it was sent, or refused."""

import gzip
import json
import random

import pytest

from lakeport.errors import (
    ApiError,
    InvalidParameter,
    MalformedRequest,
    TooLarge,
    UnsupportedMedia,
)
from lakeport.gateway.bodies import inflate, read_document

BOUND = 10_000


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json", "application/json; charset=utf-8", "application/problem+json"],
)
def test_json_is_read(content_type: str | None) -> None:
    assert read_document(b'{"a":[1,2.5,null]}', content_type, None, BOUND) == {"a": [1, 2.5, None]}


@pytest.mark.parametrize(
    ("body", "refusal", "word"),
    [
        (b"", MalformedRequest, "no valid JSON"),
        (b"[]", MalformedRequest, "object"),
        (b'{"a":', MalformedRequest, "no valid JSON"),
        (b'{"a":NaN}', MalformedRequest, "no NaN"),
        (b'{"a":-Infinity}', MalformedRequest, "Infinity"),
        (b'{"a":1e400}', MalformedRequest, "infinity"),
        (b'{"a":"\\ud800"}', MalformedRequest, "surrogate"),
        (b'{"a":"\xff"}', MalformedRequest, "UTF-8"),
        (b'{"a":' + b"[" * 5000, MalformedRequest, "depth"),
        (b'{"a":18446744073709551616}', InvalidParameter, "18446744073709551616"),
        (b'{"a":-9223372036854775809}', InvalidParameter, "64 bits"),
        (b'{"a":' + b"1" * 300 + b"}", InvalidParameter, "out of range"),
        (b'{"a":' + b"1" * 5000 + b"}", MalformedRequest, "infinity"),
    ],
)
def test_what_cannot_be_kept_is_refused(body: bytes, refusal: type[ApiError], word: str) -> None:
    with pytest.raises(refusal, match=word):
        read_document(body, "application/json", None, BOUND)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":18446744073709551615,"b":-9223372036854775808}',
        '{"a":"11111111111111111111111111"}',
        '{"a":0.12345678901234567890123456789}',
        '{"a":1e300}',
    ],
)
def test_long_digits_that_lose_nothing_are_read(text: str) -> None:
    assert read_document(text.encode(), None, None, BOUND) == json.loads(text)


def test_long_digits_deep_down_are_refused_not_lost() -> None:
    body = b'{"a":' + b"[" * 1000 + b"1" * 30 + b"]" * 1000 + b"}"

    with pytest.raises((MalformedRequest, InvalidParameter)):
        read_document(body, None, None, BOUND)


@pytest.mark.parametrize("content_type", ["text/csv", "application/x-www-form-urlencoded", "json"])
def test_another_media_type_is_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMedia, match="application/json"):
        read_document(b"{}", content_type, None, BOUND)


def test_another_charset_is_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="UTF-8"):
        read_document(b"{}", "application/json; charset=latin-1", None, BOUND)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", " GZIP "])
def test_a_packed_body_is_read(encoding: str) -> None:
    packed = gzip.compress(b'{"a"') + gzip.compress(b":1}")

    assert read_document(packed, "application/json", encoding, BOUND) == {"a": 1}


def test_a_body_that_swells_is_refused_before_it_does() -> None:
    with pytest.raises(TooLarge, match="10000 bytes"):
        inflate(gzip.compress(b" " * 10_001), "gzip", BOUND)
    assert len(inflate(gzip.compress(b" " * 10_000), "gzip", BOUND)) == 10_000


def test_members_count_together() -> None:
    with pytest.raises(TooLarge):
        inflate(gzip.compress(b" " * 6000) * 2, "gzip", BOUND)


def test_members_may_be_many_and_large() -> None:
    noise = random.Random(1).randbytes(300_000)  # more than is looked at in one step

    assert inflate(gzip.compress(b"") * 1023 + gzip.compress(b"{}"), "gzip", BOUND) == b"{}"
    assert inflate(gzip.compress(noise) * 2, "gzip", 600_000) == noise * 2


@pytest.mark.parametrize(
    ("body", "encoding", "refusal"),
    [
        (b"no gzip", "gzip", MalformedRequest),
        (gzip.compress(b"{}", mtime=0)[:-4], "gzip", MalformedRequest),
        (gzip.compress(b"", mtime=0) * 1025, "gzip", MalformedRequest),
        (b"{}", "br", UnsupportedMedia),
    ],
)
def test_a_broken_or_unknown_packing_is_refused(
    body: bytes, encoding: str, refusal: type[ApiError]
) -> None:
    with pytest.raises(refusal):
        inflate(body, encoding, BOUND)
