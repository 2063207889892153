"""The reader of server-sent events, on its own."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeport.providers.sse import EventTooLarge, SseReader


def read(*chunks: bytes, limit: int = 1000) -> list[bytes]:
    reader = SseReader(limit)
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    return events + reader.end()


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"", []),
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\n\r\ndata: b\r\n\n", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\ndata\ndata: b\n\n", [b"a\n\nb"]),
        (b"data\n\n", []),
        (b"data\ndata\n\n", [b"\n"]),
        (b"data:\n\n", []),
        (b"\n\n\n", []),
        (b": comment\n\n", []),
        (b": comment\ndata: a\n: more\n\n", [b"a"]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"database: a\n\n", []),
        (b" data: a\n\n", []),
        (b"Data: a\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"data: a", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"data: a\n\ndata: b", [b"a", b"b"]),
        ("data: \u2028\x85ü\n\n".encode(), ["\u2028\x85ü".encode()]),
        (b"data: \x00\xff\n\n", [b"\x00\xff"]),
    ],
)
def test_events(data: bytes, events: list[bytes]) -> None:
    assert read(data) == events
    assert read(*(data[i : i + 1] for i in range(len(data)))) == events
    for cut in range(len(data)):
        assert read(data[:cut], data[cut:]) == events


@given(
    st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=3), max_size=8),
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
    st.lists(st.integers(0, 500), max_size=10),
)
def test_cuts_change_nothing(events: list[list[bytes]], end: bytes, cuts: list[int]) -> None:
    clean = [[p.replace(b"\r", b"").replace(b"\n", b"") for p in event] for event in events]
    data = b"".join(b"".join(b"data: " + p + end for p in event) + end for event in clean)
    bounds = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    chunks = [data[a:b] for a, b in pairwise(bounds)]
    assert read(*chunks) == [joined for event in clean if (joined := b"\n".join(event))]


@pytest.mark.parametrize(
    "data", [b"data: " + b"x" * 101, b"data: xxxxxxxxx\n" * 12, b"data\n" * 200, b":" * 200]
)
def test_what_is_held_is_bounded(data: bytes) -> None:
    with pytest.raises(EventTooLarge):
        read(data, limit=100)
    with pytest.raises(EventTooLarge):
        read(*(data[i : i + 1] for i in range(len(data))), limit=100)


def test_many_events_are_no_large_event() -> None:
    assert len(read(b"data: 0123456789\n\n" * 1000, limit=20)) == 1000
    assert read(b": a long comment, again and again\n" * 1000, limit=50) == []
