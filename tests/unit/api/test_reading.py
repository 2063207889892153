"""The same bytes are the same requests, however they come apart."""

import gc
import weakref
from dataclasses import dataclass, field

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lakeport.api.limits import Limits
from lakeport.api.reading import Reader


@dataclass
class Seen:
    """What a reader said, in order."""

    reader: Reader = field(init=False)
    requests: list[tuple[object, ...]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    ended: int = 0

    def request(self) -> None:
        head = self.reader.head
        self.requests.append(
            (head.method, head.url, head.version, head.headers, head.known, head.keep_alive)
        )
        self.bodies.append(b"")

    def body(self, piece: bytes) -> None:
        self.bodies[-1] += piece

    def complete(self) -> None:
        self.ended += 1


def read(pieces: list[bytes]) -> tuple[Seen, str | None]:
    seen = Seen()
    seen.reader = Reader(Limits(), seen, 0.0)
    for piece in pieces:
        if (refusal := seen.reader.feed(piece, 0.0)) is not None:
            return seen, refusal.error_code
    return seen, None


WISH = (
    b"POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
)
HEADS = [
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: y\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
    WISH,
    b"POST /d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
]
CHUNKED = (
    b"POST /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n"
)
REQUESTS = st.one_of(
    st.builds(
        bytes.__add__,
        st.sampled_from(HEADS),
        st.sampled_from([b"hello", b"\r\n\r\nx", b"POST "]),
    ),
    st.sampled_from(
        [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            CHUNKED,
            b"POST /f HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            b"\r\n",
        ]
    ),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(REQUESTS, min_size=1, max_size=8), st.data())
def test_requests_are_the_same_however_they_come_apart(
    requests: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(requests)
    assume(whole.count(WISH) < 2)  # two in one piece are refused
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    apart = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    by_bytes = read([whole[at : at + 1] for at in range(len(whole))])
    by_requests = read(requests)
    by_chance = read(apart)

    assert by_requests[0].requests == by_bytes[0].requests == by_chance[0].requests
    assert by_requests[0].bodies == by_bytes[0].bodies == by_chance[0].bodies
    assert by_requests[0].ended == by_bytes[0].ended == by_chance[0].ended
    assert by_requests[1] == by_bytes[1] == by_chance[1]


def test_a_head_that_comes_again_is_not_parsed_again() -> None:
    seen, _ = read([HEADS[0] + b"hello"])
    seen.reader._parser = None  # type: ignore[assignment]

    refusal = seen.reader.feed(HEADS[0] + b"again", 0.0)

    assert refusal is None
    assert seen.bodies == [b"hello", b"again"]
    assert seen.requests[0] == seen.requests[1]


def test_a_reader_that_forgets_leaves_no_circle() -> None:
    gc.disable()
    try:
        seen, _ = read([HEADS[0] + b"hello"])
        gone = weakref.ref(seen)
        seen.reader.forget()
        del seen
        assert gone() is None
    finally:
        gc.enable()
