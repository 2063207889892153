"""The notes of the worker protocol's frames, as the front writes and reads them."""

from typing import Any

import orjson

from lakeport.runtimes.base import Answer, Call
from lakeport.worker import protocol
from lakeport.worker.protocol import Frame, ProtocolError


def note_of(call: Call) -> bytes:
    """What a worker must know beside the body; b"" where it is plain JSON."""
    if (
        call.content_type == "application/json"
        and call.content_encoding is None
        and call.route is None
        and call.traceparent is None
    ):
        return b""
    note = {
        "content_type": call.content_type,
        "content_encoding": call.content_encoding,
        "operation": call.route,
    }
    if call.traceparent is not None:
        note["traceparent"] = call.traceparent
    return orjson.dumps(note)


def answer_of(frame: Frame) -> Answer:
    """What an ANSWER says. Raises as `note_in`."""
    if not frame.form:
        return Answer(frame.status, frame.body, seconds=frame.time / 1e6, batch=frame.batch or 1)
    note = note_in(frame)
    error = note.get("error")
    return Answer(
        frame.status,
        frame.body,
        note.get("content_type") or "application/json",
        error_in(error) if error else None,
        frame.time / 1e6,
        note.get("client_request_id"),
        note.get("usage_context"),
        batch=frame.batch or 1,
    )


def note_in(frame: Frame) -> dict[str, Any]:
    """A frame's note; {} where it has none. Raises ProtocolError, and ValueError for no JSON."""
    note = orjson.loads(frame.note) if frame.note else {}
    if not isinstance(note, dict):
        raise ProtocolError("a note that is no object")
    return note


def error_in(error: Any) -> tuple[str, str]:
    """The code and message of an error in a note. Raises ProtocolError."""
    if not isinstance(error, dict):
        raise ProtocolError("an error that is no object")
    return str(error.get("error_code")), str(error.get("message"))


def credit_in(frame: Frame) -> int:
    """What a WELCOME grants. Raises as `note_in`, and ProtocolError for another protocol."""
    welcome = note_in(frame)
    credit = welcome.get("credit")
    if welcome.get("protocol") != protocol.VERSION or not isinstance(credit, int) or credit < 1:
        raise ProtocolError("a welcome in another protocol")
    return credit
