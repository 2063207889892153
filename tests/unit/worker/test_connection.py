"""What a front's frames become."""

import json
import socket
from collections.abc import Iterator

import pytest

from lakeport.worker import protocol
from lakeport.worker.connection import Connection

SECRET = "s" * 32
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def front() -> Iterator[tuple[socket.socket, Connection]]:
    """The front's end, greeted, and the worker's."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    connection = Connection(theirs, secret=SECRET, credit=4, max_body=1000, wake=lambda: None)
    note = json.dumps({"protocol": protocol.VERSION, "secret": SECRET}).encode()
    ours.sendall(protocol.frame(protocol.HELLO, 0, note=note))
    assert connection.receive() == []
    with ours:
        yield ours, connection
        connection.close()


def test_a_calls_note_says_what_its_body_is_and_where_it_belongs(
    front: tuple[socket.socket, Connection],
) -> None:
    ours, connection = front
    note = json.dumps({"content_type": "text/csv", "content_encoding": None, "traceparent": TRACE})
    ours.sendall(protocol.frame(protocol.CALL, 7, b"a\n1", note=note.encode(), time=1000))

    (call,) = connection.receive()

    assert (call.id, call.body, call.content_type) == (7, b"a\n1", "text/csv")
    assert (call.content_encoding, call.operation, call.traceparent) == (None, None, TRACE)


def test_a_call_without_a_note_is_json(front: tuple[socket.socket, Connection]) -> None:
    ours, connection = front
    ours.sendall(protocol.frame(protocol.CALL, 8, b"{}", time=1000))

    (call,) = connection.receive()
    connection.close()

    assert (call.content_type, call.traceparent) == ("application/json", None)
    assert call.cancelled
