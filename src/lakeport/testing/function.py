"""A function of a test behind an endpoint: the bytes of a call to the frames of its answer.

A body is decoded by the worker's own code, and what the function returns is written as a worker
writes what a model returns. The function runs on the call's own thread; what it returns to be
awaited is awaited on the loop that all functions of a session share.
"""

import asyncio
import inspect
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from lakeport.testing import replies, taken
from lakeport.testing.frames import frame_of
from lakeport.testing.records import digest_of
from lakeport.worker import answer_body, chat, model_input, protocol, refusal, request_body
from lakeport.worker.call import Call
from lakeport.worker.model_input import Scoring
from lakeport.worker.refusal import Refusal
from lakeport.worker.request_body import Document

#: Bytes of one request, as the server's own setting has it.
MAX_BODY: Final = 16 * 1024 * 1024
#: Bytes of a body of which no frame can be made that is too large.
_SMALL: Final = 64 * 1024
#: Forms of a body whose value goes to the function as it is, where no signature says otherwise.
_VALUES: Final = ("inputs", "instances")
#: What a generator has after its last item.
_NO_MORE: Final = object()


@dataclass(eq=False)
class Job(Call):
    """A call that a function works on."""

    #: Any function may stream.
    changed: threading.Condition | None = field(default_factory=threading.Condition)
    #: The function's coroutine, while one runs.
    running: Future[Any] | None = None
    #: What the function raised.
    error: BaseException | None = None
    #: A digest of the request's body, None where it is no JSON.
    digest: int | None = None
    #: Seconds since the epoch.
    started: float = 0.0

    def failed(self, error: BaseException) -> None:
        """The function raised; what ends it because its caller has left is no failure."""
        if self.error is None and not self.cancelled:
            self.error = error

    def cancel(self) -> None:
        super().cancel()
        if self.running is not None:
            self.running.cancel()


class Function:
    """Answers calls with a function. Its methods may be called from several threads."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        loop: asyncio.AbstractEventLoop,
        signature: Any = None,
    ) -> None:
        """`name`: the endpoint's. `signature`: an MLflow ModelSignature, enforced as by MLflow.

        Raises TypeError for a function that takes no argument.
        """
        self._function = function
        self._name = name
        self._loop = loop
        self._takes_params = taken.takes_params(function)
        self._pyfunc = None if signature is None else taken.pyfunc(self, signature)
        self._interface = taken.interface(signature)

    def frames(self, job: Job) -> Generator[tuple[bool, bytes]]:
        """All frames that answer a call, and whether each is a chunk."""
        document: Document | None = None
        try:
            media = request_body.media_type(job.content_type)
            body = request_body.inflate(job.body, job.content_encoding, MAX_BODY)
            if media != request_body.JSON:
                scoring = model_input.table_of(media, body, self._interface)
                yield False, _whole(job, None, scoring, self._run(job, scoring))
                return
            document = request_body.parse_json(body)
            with suppress(orjson.JSONDecodeError):  # read as the server's record of it is
                job.digest = digest_of(orjson.loads(body))
            dialogue = chat.begin(
                document, self._interface, operation=job.operation, chat_model=False
            )
            scoring = self._scoring(document, len(body))
            result = self._run(job, scoring)
            if document.stream:
                yield from self._stream(job, document, dialogue, result)
                return
            if _streams(result):
                result = _joined(list(self._chunks(job, result)), document)
            result = self._reply(result, document)
            if dialogue is not None:
                result = dialogue.answer(result)
            yield False, _whole(job, document, scoring, result)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  every call gets an answer, whatever went wrong
            refused = _refusal_of(job, error)
            note = orjson.dumps({"error": _told(refused), **answer_body.answer_note(document)})
            yield False, protocol.frame(protocol.ANSWER, job.id, note=note, status=refused.status)

    # --- the function ---------------------------------------------------------------------------

    def predict(self, data: Any, params: Any = None) -> Any:
        """The function itself; MLflow calls this once it has enforced a signature."""
        if self._takes_params:
            return self._function(data, params=params or {})
        return self._function(data)

    def _scoring(self, document: Document, size: int) -> Scoring:
        """What the function gets: of `inputs` and `instances` the value itself, as a PythonModel
        with type hints does, unless a signature has MLflow convert it."""
        fields = document.fields
        forms = [form for form in request_body.FORMS if form in fields]
        if self._pyfunc is None and not document.bare and len(forms) == 1:
            form, params = forms[0], fields.get("params")
            if form in _VALUES:
                return Scoring(fields[form], params, bare=False)
            frame = frame_of(form, fields[form]) if size <= _SMALL else None
            if frame is not None:
                return Scoring(frame, params, bare=False)
        return model_input.scoring_of(document, self._interface)

    def _run(self, job: Job, scoring: Scoring) -> Any:
        """What the function returns, awaited where it must be. Raises what it raises."""
        try:
            if self._pyfunc is None:
                result = self.predict(scoring.data, scoring.params)
            else:
                result = self._pyfunc.predict(scoring.data, params=scoring.params)
            return self._awaited(job, result) if inspect.isawaitable(result) else result
        except BaseException as error:
            job.failed(error)
            if isinstance(error, GeneratorExit):  # it would end the generators that it passes
                raise Refusal(refusal.EVALUATION_FAILED) from error
            raise

    def _awaited(self, job: Job, awaitable: Awaitable[Any]) -> Any:
        job.running = future = asyncio.run_coroutine_threadsafe(_result(awaitable), self._loop)
        if job.cancelled:
            future.cancel()
        try:
            return future.result()
        finally:
            job.running = None

    def _chunks(self, job: Job, result: Any) -> Iterator[Any]:
        """The items of a generator, plain or asynchronous. Raises what it raises."""
        try:
            while (item := self._next(job, result)) is not _NO_MORE:
                yield item
        finally:
            self._close(job, result)

    def _next(self, job: Job, result: Any) -> Any:
        """A generator's next item, or _NO_MORE."""
        try:
            if not isinstance(result, AsyncIterator):
                return next(result, _NO_MORE)
            with suppress(StopAsyncIteration):
                return self._awaited(job, anext(result))
            return _NO_MORE
        except BaseException as error:
            job.failed(error)
            if isinstance(error, GeneratorExit):  # it would end the generators that it passes
                raise Refusal(refusal.EVALUATION_FAILED) from error
            raise

    def _close(self, job: Job, result: Any) -> None:
        if isinstance(result, AsyncIterator) and hasattr(result, "aclose"):
            with suppress(RuntimeError, CancelledError):  # its caller has gone, or the session
                asyncio.run_coroutine_threadsafe(_result(result.aclose()), self._loop).result()
        elif hasattr(result, "close"):
            result.close()

    # --- answers --------------------------------------------------------------------------------

    def _reply(self, result: Any, document: Document) -> Any:
        if isinstance(result, str) and "messages" in document.fields:
            return replies.completion(result, document.fields, model=self._name)
        return result

    def _stream(
        self, job: Job, document: Document, dialogue: chat.Dialogue | None, result: Any
    ) -> Generator[tuple[bool, bytes]]:
        if isinstance(result, str):
            items: Iterator[Any] = iter([result])
        elif _streams(result):
            items = self._chunks(job, result)
        else:
            raise refusal.no_stream()
        events = items
        if "messages" in document.fields:
            events = replies.chunks(items, document.fields, model=self._name)
        if dialogue is not None:
            events = dialogue.events(events)
        try:
            # The first before the STREAM frame: a failure up to here is an honest answer.
            first = [_event(job, event) for event in _one(events)]
            note = _note(document)
            yield False, protocol.frame(protocol.STREAM, job.id, note=note, status=200)
            note = b""
            try:
                for event in first:
                    yield True, protocol.frame(protocol.CHUNK, job.id, event)
                for item in events:
                    yield True, protocol.frame(protocol.CHUNK, job.id, _event(job, item))
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001  it has begun: its end has to tell
                note = orjson.dumps({"error": _told(_refusal_of(job, error))})
            yield False, protocol.frame(protocol.END, job.id, note=note)
        finally:
            if hasattr(items, "close"):
                items.close()


def _whole(job: Job, document: Document | None, scoring: Scoring, result: Any) -> bytes:
    with _writing(job):
        body = answer_json(result, bare=scoring.bare)
    return protocol.frame(protocol.ANSWER, job.id, body, note=_note(document), status=200)


@contextmanager
def _writing(job: Job) -> Iterator[None]:
    """A test is told why what its function returned could not be written, as its caller is."""
    try:
        yield
    except Refusal as refused:
        job.failed(refused.__cause__ or refused)
        raise


def _event(job: Job, item: Any) -> bytes:
    with _writing(job):
        return answer_body.event_json(item)


def _note(document: Document | None) -> bytes:
    fields = answer_body.answer_note(document)
    return orjson.dumps(fields) if fields else b""


def answer_json(result: Any, *, bare: bool) -> bytes:
    """As the worker's, without the libraries that plain values and numbers don't need."""
    document = result if bare else {"predictions": result}
    try:
        return orjson.dumps(document, default=_number, option=orjson.OPT_PASSTHROUGH_DATETIME)
    except TypeError:
        return answer_body.answer_json(result, bare=bare)


def _number(value: Any) -> Any:
    """numpy's numbers, and arrays of them, as MLflow's encoder has them. Raises TypeError."""
    numpy = sys.modules.get("numpy")
    plain = numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray))
    if plain and value.dtype.kind in "biuf":
        return value.tolist()
    raise TypeError


async def _result(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _one(items: Iterator[Any]) -> Iterator[Any]:
    for item in items:
        yield item
        return


def _streams(result: Any) -> bool:
    mock = sys.modules.get("unittest.mock")
    if mock is not None and isinstance(result, mock.NonCallableMock):
        return False  # a MagicMock has what any iterator has, and no end
    return isinstance(result, (Iterator, AsyncIterator))


def _joined(items: list[Any], document: Document) -> Any:
    """What a generator yielded, for a caller that asked for no stream."""
    texts = document.bare and bool(items) and all(isinstance(item, str) for item in items)
    return "".join(items) if texts else items


def _refusal_of(job: Job, error: BaseException) -> Refusal:
    """What the caller is told: as of a model that raised."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, MemoryError):
        return refusal.out_of_memory()
    mlflow = sys.modules.get("mlflow.exceptions")
    if mlflow is not None and isinstance(error, mlflow.MlflowException):
        return refusal.of_mlflow(error, "Failed to predict. \nError: ")
    job.failed(error)  # its result could not be written
    return Refusal(refusal.EVALUATION_FAILED)


def _told(refused: Refusal) -> dict[str, str]:
    return {"error_code": refused.error_code, "message": refused.message}
