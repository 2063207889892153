"""Calls to answers: what the model makes of the bytes of a call, as frames ready to be sent."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from . import answer_body, chat, json_arrays, model_input, protocol, refusal, request_body
from .batch import groups
from .call import Call
from .chat import Dialogue
from .log import say, say_exception
from .model import Model
from .model_input import Scoring
from .plan import Asked
from .refusal import Refusal
from .request_body import Document


class _Planned(NamedTuple):
    """A call that the model's plan took."""

    call: Call
    #: None: its body has nothing but one form.
    document: Document | None
    asked: Asked


class Scorer:
    """Gives each call its answer."""

    def __init__(self, model: Model, *, max_body: int) -> None:
        self.model = model
        self.max_body = max_body
        #: Calls may share a predict, until the model shows that it is not row-wise.
        self.merges = model.row_wise

    def batch(self, calls: Sequence[Call]) -> Iterator[list[tuple[Call, bytes]]]:
        """The answers to calls, which a row-wise model may share predicts for, as they come."""
        now = time.monotonic()
        alike: dict[Any, list[_Planned]] = {}
        others: list[Call] = []
        for call in calls:
            planned = self._plan(call, now)
            if planned is None:
                others.append(call)
            elif (found := alike.get(planned.asked.key)) is not None:
                found.append(planned)
            else:
                alike[planned.asked.key] = [planned]
        for requests in alike.values():
            for group in groups([request.asked.rows for request in requests]):
                together = requests[group.start : group.stop]
                if self.merges:
                    yield self._merged(together)
                else:
                    for request in together:
                        yield self._merged([request])
        for call in others:
            yield [(call, self._answer_checked(call))]

    def answer(self, call: Call) -> bytes:
        """The one frame that answers a call to a model that does not stream."""
        _, frame = next(self.frames(call))
        return frame

    def frames(self, call: Call) -> Generator[tuple[bool, bytes]]:
        """All frames that answer a call, and whether each is a chunk. Close it to end a stream."""
        planned = self._plan(call, time.monotonic())
        if planned is None:
            yield from self._frames(call)
        else:
            for _, frame in self._merged([planned]):
                yield False, frame

    def _answer_checked(self, call: Call) -> bytes:
        _, frame = next(self._frames(call))
        return frame

    def _frames(self, call: Call) -> Generator[tuple[bool, bytes]]:
        """As `frames`, in MLflow's way."""
        document: Document | None = None
        dialogue: Dialogue | None = None
        try:
            if time.monotonic() >= call.deadline:
                raise refusal.late()
            media = request_body.media_type(call.content_type)
            body = request_body.inflate(call.body, call.content_encoding, self.max_body)
            if media == request_body.JSON:
                document = request_body.parse_json(body)
                if document.stream and not self.model.streams:
                    raise refusal.no_stream()
                dialogue = chat.begin(
                    document,
                    self.model.interface,
                    operation=call.operation,
                    chat_model=self.model.chat,
                )
                scoring = model_input.scoring_of(document, self.model.interface)
            else:
                scoring = model_input.table_of(media, body, self.model.interface)
            if document is not None and document.stream:
                yield from self._stream(call, document, scoring, dialogue)
                return
            started = time.perf_counter()
            predictions = self.model.predict(scoring)
            elapsed = time.perf_counter() - started
            if dialogue is not None:
                predictions = dialogue.answer(predictions)
            answer = answer_body.answer_json(predictions, bare=scoring.bare)
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
            note = _note(answer_body.answer_note(document))
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

    # --- planned --------------------------------------------------------------------------------

    def _plan(self, call: Call, now: float) -> _Planned | None:
        """The call as its plan takes it, or None: then MLflow's way, for its errors too."""
        plan = self.model.plan
        if plan is None or now >= call.deadline:
            return None
        try:
            body = call.body
            if call.content_encoding is not None or call.content_type != request_body.JSON:
                if request_body.media_type(call.content_type) != request_body.JSON:
                    return None
                body = request_body.inflate(body, call.content_encoding, self.max_body)
            fields = None
            if plan.numbers is not None and len(body) >= json_arrays.WORTH_IT:
                fields = json_arrays.loads(body, plan.numbers)
            if fields is None:
                fields = request_body.loads(body, exact_integers=plan.exact_integers)
            document = None
            if type(fields) is not dict or len(fields) != 1:
                document = request_body.document_of(fields)
                if document.bare or document.stream or fields.pop("params", None) not in _NO_PARAMS:
                    return None
                if len(fields) != 1:
                    return None
            ((form, value),) = fields.items()
            asked = plan.take(form, value)
        except Exception:  # noqa: BLE001  whatever it is: MLflow's way words it, or does without
            return None
        return None if asked is None else _Planned(call, document, asked)

    def _merged(self, requests: list[_Planned]) -> list[tuple[Call, bytes]]:
        """The answers to requests by one predict, or by several where that fails."""
        data = None
        try:
            assert self.model.plan is not None
            data = self.model.plan.join([request.asked for request in requests])
            if data is not None:
                started = time.perf_counter()
                predictions = self.model.predict_planned(data)
                elapsed = time.perf_counter() - started
                return _answers(requests, predictions, elapsed)
        except answer_body.NotRowWise:
            say("the model gave no answer for each row: its requests are not merged any more")
            self.merges = False
            return [answer for request in requests for answer in self._merged([request])]
        except BaseException as error:  # noqa: BLE001  a bad request fails alone, with its own answer
            if len(requests) == 1:
                call, document, _ = requests[0]
                if isinstance(error, MemoryError) or not self.model.pure:
                    said = self.model.refusal_of(error, data)
                    return [(call, self._refused(call, document, said))]
        if len(requests) == 1:
            return [(requests[0].call, self._answer_checked(requests[0].call))]
        half = len(requests) // 2
        return self._merged(requests[:half]) + self._merged(requests[half:])

    # --- failures -------------------------------------------------------------------------------

    def _refused(self, call: Call, document: Document | None, error: BaseException) -> bytes:
        refused = self._refusal_of(call, error)
        note = _note({"error": _error(refused), **answer_body.answer_note(document)})
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


#: Values of `params` that say nothing.
_NO_PARAMS: tuple[Any, ...] = (None, {})


def _one(chunks: Iterator[Any]) -> Iterator[Any]:
    for chunk in chunks:
        yield chunk
        return


def _answers(
    requests: list[_Planned], predictions: Any, elapsed: float
) -> list[tuple[Call, bytes]]:
    """Raises Refusal for what JSON cannot say, and where the predictions are not one for a row."""
    if len(requests) == 1:
        call, document, _ = requests[0]
        body = answer_body.answer_json(predictions, bare=False)
        return [(call, _answer(call, document, body, elapsed))]
    pieces = answer_body.split(predictions, [request.asked.rows for request in requests])
    answers = []
    for (call, document, _), piece in zip(requests, pieces, strict=True):
        body = answer_body.dumps({"predictions": piece})
        answers.append((call, _answer(call, document, body, elapsed, batch=len(requests))))
    return answers


def _event(chunk: Any) -> bytes:
    event = answer_body.event_json(chunk)
    if len(event) > protocol.MAX_ANSWER:
        raise Refusal(f"An event of the model's stream is larger than {protocol.MAX_ANSWER} bytes.")
    return event


def _answer(
    call: Call, document: Document | None, body: bytes, elapsed: float, *, batch: int = 1
) -> bytes:
    """Raises Refusal for one that is too large."""
    note = _note(answer_body.answer_note(document))
    if len(body) + len(note) > protocol.MAX_ANSWER:
        raise Refusal(f"The model's answer is larger than {protocol.MAX_ANSWER} bytes.")
    return protocol.answer(call.id, body, note=note, time=int(elapsed * 1e6), batch=batch)


def _error(refused: Refusal) -> dict[str, str]:
    return {"error_code": refused.error_code, "message": refused.message}


def _note(note: Any) -> bytes:
    return orjson.dumps(note) if note else b""
