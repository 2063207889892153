"""Frames survive any way of arriving, and what breaks the rules is refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeport.worker import protocol
from lakeport.worker.protocol import Frame, FrameReader, ProtocolError

FRAMES = st.builds(
    Frame,
    kind=st.integers(protocol.HELLO, protocol.MORE),
    form=st.just(0),
    status=st.integers(0, 599),
    time=st.integers(0, 2**32 - 1),
    id=st.integers(0, 2**64 - 1),
    note=st.sampled_from([b"", b'{"a":1}']),
    body=st.binary(max_size=200),
    batch=st.just(0),
).map(lambda frame: frame._replace(form=1 if frame.note else 0))


def encoded(frame: Frame) -> bytes:
    return protocol.frame(
        frame.kind, frame.id, frame.body, note=frame.note, status=frame.status, time=frame.time
    )


@given(st.lists(FRAMES, max_size=6), st.integers(1, 64))
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    frames: list[Frame], step: int
) -> None:
    stream = b"".join(map(encoded, frames))
    reader = FrameReader(1024)

    read = [
        frame
        for start in range(0, len(stream), step)
        for frame in reader.feed(stream[start : start + step])
    ]

    assert read == frames


@given(
    st.integers(0, 2**64 - 1),
    st.binary(max_size=20),
    st.sampled_from([b"", b'{"a":1}']),
    st.integers(0, 127),
)
def test_an_answer_says_how_many_requests_shared_its_predict(
    id: int, body: bytes, note: bytes, batch: int
) -> None:
    data = protocol.answer(id, body, note=note, time=2**40, batch=batch)

    (read,) = FrameReader(1024).feed(data)

    assert read == Frame(protocol.ANSWER, 1 if note else 0, 200, 2**32 - 1, id, note, body, batch)


def test_a_large_frame_in_small_pieces_takes_linear_time() -> None:
    body = bytes(8 * 1024 * 1024)
    stream = protocol.frame(protocol.CALL, 1, body)
    reader = FrameReader(len(body))
    cuts = 0
    cut = reader._cut

    def counted(data: bytes | bytearray) -> tuple[list[Frame], int]:
        nonlocal cuts
        cuts += 1
        return cut(data)

    reader._cut = counted  # type: ignore[method-assign]
    frames = [
        frame
        for start in range(0, len(stream), 65536)
        for frame in reader.feed(stream[start : start + 65536])
    ]

    assert [frame.body for frame in frames] == [body]
    assert cuts <= 2


@pytest.mark.parametrize(
    ("kind", "size", "note"),
    [(0, 0, 0), (10, 0, 0), (255, 0, 0), (3, 1025, 0), (3, 2**32 - 1, 0), (3, 10, 11)],
)
def test_a_frame_against_the_rules_is_refused_by_its_head(kind: int, size: int, note: int) -> None:
    head = struct.pack("<IBBHIIQ", size, kind, 0, 0, note, 0, 1)

    with pytest.raises(ProtocolError):
        FrameReader(1024).feed(head)


def test_a_time_that_does_not_fit_is_cut() -> None:
    (late,) = FrameReader(0).feed(protocol.frame(protocol.CALL, 1, time=-5))
    (early,) = FrameReader(0).feed(protocol.frame(protocol.CALL, 1, time=2**40))

    assert late.time == 0
    assert early.time == 2**32 - 1
