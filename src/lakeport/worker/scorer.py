"""Calls to answers: what the model makes of the bytes of a call, as frames ready to be sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from . import chat, codec, protocol, refusal
from .batch import Row, groups
from .chat import Dialogue
from .codec import Document, Scoring
from .log import say_exception
from .model import Model
from .refusal import Refusal


@dataclass(slots=True, eq=False)
class Call:
    """One call of one front, from its frame to its answer."""

    id: int
    body: bytes
    content_type: str | None
    content_encoding: str | None
    #: time.monotonic() by which it must have begun.
    deadline: float
    #: The OpenAI route that it came by, such as "chat/completions"; None: by none.
    operation: str | None = None
    cancelled: bool = False
    #: The model ran out of memory over it: once it is answered, the process should end.
    exhausted: bool = False
    #: Chunks that may still be sent; changed and waited for under `changed`.
    window: int = protocol.STREAM_WINDOW
    changed: threading.Condition = field(default_factory=threading.Condition)

    def cancel(self) -> None:
        with self.changed:
            self.cancelled = True
            self.changed.notify_all()

    def allow(self, chunks: int) -> None:
        with self.changed:
            self.window += chunks
            self.changed.notify_all()

    def take_chunk(self) -> bool:
        """Wait until one more chunk may be sent; False when the caller has gone."""
        with self.changed:
            while self.window <= 0 and not self.cancelled:
                self.changed.wait()
            self.window -= 1
            return not self.cancelled


@dataclass(slots=True)
class _Plain:
    call: Call
    document: Document
    rows: list[Row]


class Scorer:
    """Gives each call its answer."""

    def __init__(self, model: Model, *, max_body: int) -> None:
        self.model = model
        self.max_body = max_body

    def batch(self, calls: Sequence[Call]) -> Iterator[list[tuple[Call, bytes]]]:
        """The answers to calls that a row-wise model may share predicts for, as they come."""
        plain: list[_Plain] = []
        others: list[Call] = []
        for call in calls:
            request = self._plain(call)
            if request is None:
                others.append(call)
            else:
                plain.append(request)
        for group in groups(len(request.rows) for request in plain):
            yield self._merged(plain[group.start : group.stop])
        for call in others:
            yield [(call, self.answer(call))]

    def answer(self, call: Call) -> bytes:
        """The one frame that answers a call to a model that does not stream."""
        _, frame = next(self.frames(call))
        return frame

    def frames(self, call: Call) -> Generator[tuple[bool, bytes]]:
        """All frames that answer a call, and whether each is a chunk. Close it to end a stream."""
        document: Document | None = None
        dialogue: Dialogue | None = None
        try:
            if _late(call):
                raise refusal.late()
            media = codec.media_type(call.content_type)
            body = codec.inflate(call.body, call.content_encoding, self.max_body)
            if media == codec.JSON:
                document = codec.parse_json(body)
                if document.stream and not self.model.streams:
                    raise refusal.no_stream()
                dialogue = chat.begin(
                    document,
                    self.model.interface,
                    operation=call.operation,
                    chat_model=self.model.chat,
                )
                scoring = codec.scoring_of(document, self.model.interface)
            else:
                scoring = codec.table_of(media, body, self.model.interface)
            if document is not None and document.stream:
                yield from self._stream(call, document, scoring, dialogue)
                return
            started = time.perf_counter()
            predictions = self.model.predict(scoring)
            elapsed = time.perf_counter() - started
            if dialogue is not None:
                predictions = dialogue.answer(predictions)
            answer = codec.answer_json(predictions, bare=scoring.bare)
            yield False, _answer(call, document, answer, elapsed)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  every call gets an answer, whatever went wrong
            yield False, self._refused(call, document, error)

    # --- one by one -----------------------------------------------------------------------------

    def _stream(
        self, call: Call, document: Document, scoring: Scoring, dialogue: Dialogue | None
    ) -> Generator[tuple[bool, bytes]]:
        stream = self.model.stream(scoring)
        chunks: Iterator[Any] = stream if dialogue is None else dialogue.events(stream)
        try:
            # The first chunk before the STREAM frame: a failure up to here is an honest answer.
            first = [_event(chunk) for chunk in _one(chunks)]
            note = _note(codec.answer_note(document))
            yield False, protocol.frame(protocol.STREAM, call.id, note=note, status=200)
            try:
                for event in first:
                    yield True, protocol.frame(protocol.CHUNK, call.id, event)
                for chunk in chunks:
                    yield True, protocol.frame(protocol.CHUNK, call.id, _event(chunk))
                note = b""
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001  it has begun: its end has to tell
                note = _note({"error": _error(self._refusal_of(call, error))})
            yield False, protocol.frame(protocol.END, call.id, note=note)
        finally:
            stream.close()

    # --- merged ---------------------------------------------------------------------------------

    def _plain(self, call: Call) -> _Plain | None:
        """The call as a plain request, or None: then `answer` takes care of it, errors too."""
        assert self.model.plain is not None
        try:
            if codec.media_type(call.content_type) != codec.JSON or _late(call):
                return None
            document = codec.parse_json(
                codec.inflate(call.body, call.content_encoding, self.max_body)
            )
            rows = None if document.stream else self.model.plain.rows(document.fields)
        except (Refusal, MemoryError):
            return None
        return None if rows is None else _Plain(call, document, rows)

    def _merged(self, requests: list[_Plain]) -> list[tuple[Call, bytes]]:
        """The answers to plain requests by one predict, or by one each where that fails."""
        rows = [row for request in requests for row in request.rows]
        try:
            started = time.perf_counter()
            predictions = self.model.predict_rows(rows)
            elapsed = time.perf_counter() - started
            if len(requests) == 1:
                body = codec.answer_json(predictions, bare=False)
                return [(requests[0].call, _answer(*_of(requests[0]), body, elapsed))]
            values = codec.plain_values(predictions)
            if not isinstance(values, list) or len(values) != len(rows):
                raise Refusal("the model does not work row by row")
            return list(_split(requests, values, elapsed))
        except Exception as error:  # noqa: BLE001  a bad request fails alone, with its own answer
            if len(requests) == 1:
                return [(requests[0].call, self._refused(*_of(requests[0]), error))]
        return [answer for request in requests for answer in self._merged([request])]

    # --- failures -------------------------------------------------------------------------------

    def _refused(self, call: Call, document: Document | None, error: BaseException) -> bytes:
        refused = self._refusal_of(call, error)
        note = _note({"error": _error(refused), **codec.answer_note(document)})
        return protocol.frame(protocol.ANSWER, call.id, note=note, status=refused.status)

    def _refusal_of(self, call: Call, error: BaseException) -> Refusal:
        if isinstance(error, Refusal):
            return error
        if isinstance(error, MemoryError):
            call.exhausted = True
            say_exception("the model ran out of memory")
            return refusal.out_of_memory()
        say_exception("an answer could not be made")
        return Refusal(refusal.EVALUATION_FAILED)


def _late(call: Call) -> bool:
    return time.monotonic() >= call.deadline


def _of(request: _Plain) -> tuple[Call, Document]:
    return request.call, request.document


def _one(chunks: Iterator[Any]) -> Iterator[Any]:
    for chunk in chunks:
        yield chunk
        return


def _split(
    requests: list[_Plain], values: list[Any], elapsed: float
) -> Iterator[tuple[Call, bytes]]:
    start = 0
    for request in requests:
        end = start + len(request.rows)
        body = codec.dumps({"predictions": values[start:end]})
        yield request.call, _answer(request.call, request.document, body, elapsed)
        start = end


def _event(chunk: Any) -> bytes:
    event = codec.event_json(chunk)
    if len(event) > protocol.MAX_ANSWER:
        raise Refusal(f"An event of the model's stream is larger than {protocol.MAX_ANSWER} bytes.")
    return event


def _answer(call: Call, document: Document | None, body: bytes, elapsed: float) -> bytes:
    note = _note(codec.answer_note(document))
    if len(body) + len(note) > protocol.MAX_ANSWER:
        raise Refusal(f"The model's answer is larger than {protocol.MAX_ANSWER} bytes.")
    time = int(elapsed * 1e6)
    return protocol.frame(protocol.ANSWER, call.id, body, note=note, status=200, time=time)


def _error(refused: Refusal) -> dict[str, str]:
    return {"error_code": refused.error_code, "message": refused.message}


def _note(note: Any) -> bytes:
    return orjson.dumps(note) if note else b""
