import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeport.client.errors import BadAnswer
from lakeport.client.sse import Event, EventParser

lines = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


def parsed(pieces: list[bytes]) -> list[Event]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)] + parser.end()


@given(
    events=st.lists(st.lists(lines, min_size=1, max_size=3), max_size=4),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    data=st.data(),
)
def test_events_are_the_same_however_the_bytes_are_cut(
    events: list[list[str]], newline: str, data: st.DataObject
) -> None:
    text = "".join(
        "".join(f"data: {line}{newline}" for line in event) + newline for event in events
    ).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert parsed(pieces) == [Event("\n".join(event)) for event in events]


@given(pieces=st.lists(st.binary(max_size=30), max_size=10))
def test_any_bytes_are_taken(pieces: list[bytes]) -> None:
    assert parsed(pieces) == parsed([b"".join(pieces)])


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b": a comment\n\ndata: x\n\n", [Event("x")]),
        (b"event: delta\ndata: x\n\n", [Event("x", "delta")]),
        (b"data:x\ndata: y\n\n", [Event("x\ny")]),
        (b"data\n\n", [Event("")]),
        (b"id: 3\nretry: 10\n\ndata: x\n\n", [Event("x")]),
        (b"event: only\n\ndata: x\n\n", [Event("x")]),
        (b"\xef\xbb\xbfdata: x\n\n", [Event("x")]),
        (b"data: x\n", [Event("x")]),
        (b"data: x", [Event("x")]),
        (b"data: x\r", [Event("x")]),
        (b"data:  two spaces\n\n", [Event(" two spaces")]),
        (b"\n\n\n", []),
    ],
)
def test_the_format(text: bytes, events: list[Event]) -> None:
    assert parsed([text]) == events
    assert parsed([text[n : n + 1] for n in range(len(text))]) == events


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 50, b"data: " + b"x" * 50 + b"\n"])
def test_an_event_without_an_end_does_not_fill_the_memory(piece: bytes) -> None:
    parser = EventParser(largest=1000)

    def feed_all() -> None:
        for _ in range(100):
            parser.feed(piece)

    with pytest.raises(BadAnswer, match="1000"):
        feed_all()
