"""Records of calls are bounded, and hold bodies as people read them."""

import gzip

import pytest

from lakeport.serving.calls import Calls
from lakeport.serving.ports import Invocation

MAX_BODY = 1000


def calls(**limits: int) -> Calls:
    return Calls(lambda: 7, max_body=MAX_BODY, **limits)


def asked(body: bytes, encoding: str | None = None, endpoint: str = "iris") -> Invocation:
    return Invocation(endpoint, None, body, "application/json", encoding, "r1")


@pytest.mark.parametrize(
    ("body", "encoding", "is_json", "text"),
    [
        (b'{"inputs": [1]}', None, True, '{"inputs": [1]}'),
        (gzip.compress(b'{"inputs": [1]}', mtime=0), "gzip", True, '{"inputs": [1]}'),
        (b"a,b\n1,2", None, False, "a,b\n1,2"),
        (b"[NaN]", None, False, "[NaN]"),
        (b'"\\ud800"', None, False, '"\\ud800"'),
        (b"", None, False, ""),
        (b"\xff\xfe", None, False, None),
        (b"no gzip", "gzip", False, None),
        (gzip.compress(bytes(MAX_BODY + 1), mtime=0), "gzip", False, None),
        (b"{}", "br", False, None),
    ],
)
def test_a_body_is_json_or_text_or_nothing(
    body: bytes, encoding: str | None, is_json: bool, text: str | None
) -> None:
    call = calls().begin("ann", asked(body, encoding))

    assert (call.is_json, call.text) == (is_json, text)
    assert (call.caller, call.time, call.status, call.seconds) == ("ann", 7, None, None)


def test_the_oldest_make_room() -> None:
    few, small = calls(max_calls=2), calls(max_bytes=10)
    for body in (b"1111", b"2222", b"3333"):
        few.begin("ann", asked(body))
        small.begin("ann", asked(body))

    assert [call.body for call in few.of(None)] == [b"2222", b"3333"]
    assert [call.body for call in small.of(None)] == [b"2222", b"3333"]


def test_a_body_larger_than_all_the_room_is_left_out_and_drives_nothing_away() -> None:
    kept = calls(max_bytes=10)
    kept.begin("ann", asked(b"1111"))

    large = kept.begin("ann", asked(b"x" * 11))

    assert large.body is None
    assert len(kept.of("iris")) == 2


def test_those_of_one_endpoint_are_told_and_forgotten_apart() -> None:
    kept = calls(max_bytes=10)
    iris, wine = kept.begin("ann", asked(b"11111")), kept.begin("ann", asked(b"2", endpoint="wine"))

    assert (kept.of("iris"), kept.of(None)) == ([iris], [iris, wine])
    kept.forget(lambda call: call.endpoint != "iris")
    kept.begin("ann", asked(b"333333333"))

    assert [call.body for call in kept.of(None)] == [b"2", b"333333333"]  # there is room again
