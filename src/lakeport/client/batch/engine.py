"""One chunk → what came of each of its items: asked, waited for, asked again, split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lakeport.client.answers import Answer, Chat, Embeddings, Prediction
from lakeport.client.batch.options import Options
from lakeport.client.batch.pace import Gate, Pace
from lakeport.client.batch.plan import Chunk
from lakeport.client.batch.results import Asks
from lakeport.client.errors import (
    BadAnswer,
    BadRequest,
    ConfigError,
    InvalidInput,
    LakeportError,
    NotFound,
    NotReady,
    PermissionDenied,
    Unauthenticated,
)
from lakeport.client.retry import Retry
from lakeport.client.signature import Signature

#: Requests that failed, and none that was answered: the rest would fail too.
HOPELESS = 32

_ONCE = Retry(attempts=1)
_SAFE = Retry()


@dataclass(frozen=True, slots=True)
class Part:
    """What came of `rows` items that went in one request: values, or the error of all."""

    start: int
    rows: int
    values: Sequence[Any] = ()
    error: LakeportError | None = None
    answer: Answer | None = None


class Engine:
    """The requests of one batch to one endpoint. For tasks of one event loop."""

    def __init__(
        self, client: Asks, name: str, options: Options, *, gate: Gate | None = None
    ) -> None:
        self._client = client
        self._name = name
        self._retry = options.retry or client.retry
        self._on_error = options.on_error
        self._query = options.query
        self._gate = gate or Gate(Pace(options.concurrency, self._retry))
        #: Requests that were sent.
        self.requests = 0
        #: Some request was answered, in this run or one that it goes on with.
        self.answered = False
        self._failures = 0
        #: What ends the batch, though the same error at one item would not.
        self._over: LakeportError | None = None

    async def task(self) -> str | None:
        """The endpoint's task. Raises NotFound; None too where the caller may not read it."""
        try:
            return (await self._client.get(self._name, refresh=False)).task
        except PermissionDenied:
            return None

    async def signature(self) -> Signature | None:
        """The model's, where it has one that the caller may read."""
        try:
            return await self._client.signature(self._name, entity=self._query.get("entity"))
        except (NotFound, PermissionDenied, BadAnswer, BadRequest):
            return None

    async def settle(self, chunk: Chunk) -> list[Part]:
        """What came of each item of it, in order.

        Raises what ends the batch; with on_error="raise" the error of the first item that fails.
        """
        try:
            answer = await self._ask(chunk)
            values = values_of(answer, chunk)
        except LakeportError as error:
            if chunk.rows > 1 and splits(error):
                first, second = chunk.halves()
                return await self.settle(first) + await self.settle(second)
            self._judge(error, chunk)
            # Its traceback would keep the chunk, and all that was sent, in memory.
            error.__traceback__ = error.__context__ = error.__cause__ = None
            return [Part(chunk.start, chunk.rows, error=error)]
        self.answered = True
        return [Part(chunk.start, chunk.rows, values, None, answer)]

    def _judge(self, error: LakeportError, chunk: Chunk) -> None:
        """Raise it when it ends the batch."""
        self._failures += 1
        hopeless = not self.answered and self._failures >= HOPELESS
        if hopeless:
            error.add_note(f"{self._failures} requests of the batch failed and none was answered.")
        if self._on_error == "raise":
            error.add_note(f"Input {chunk.start} of the batch.")
        if (
            hopeless
            or self._on_error == "raise"
            or isinstance(error, _FINAL)
            or error is self._over
        ):
            raise error

    async def _ask(self, chunk: Chunk) -> Answer:
        """One answer, however many requests it takes."""
        given = chunk.given()
        tries, began = 0, None
        while True:
            async with self._gate.turn():
                self.requests += 1
                try:
                    answer = await self._client.query(
                        self._name, **given, **self._query, retry=_ONCE
                    )
                except InvalidInput:
                    self.requests -= 1  # it was found before it was sent
                    raise
                except LakeportError as error:
                    failure = error
                else:
                    self._gate.pace.answered()
                    return answer
                now = self._gate.clock()
                began = now if began is None else began
                tries += 1
                if not self._again(failure, tries, now - began):
                    raise failure
                self._gate.pace.refused(now, getattr(failure, "retry_after", None))
                if self._gate.pace.hopeless(now):
                    self._over = failure
                    failure.add_note(f"No answer for {self._retry.deadline:g} s: the batch ends.")
                    raise failure

    def _again(self, failure: LakeportError, tries: int, seconds: float) -> bool:
        if self._retry.attempts <= 1 or seconds > self._retry.deadline:
            return False
        if not_run(failure):  # as often as it takes: others may be let through before it
            return True
        return self._retry.allows(failure) and tries < self._retry.attempts


def not_run(error: LakeportError) -> bool:
    """The request was surely not run."""
    return isinstance(error, NotReady) or _SAFE.allows(error)


def splits(error: LakeportError) -> bool:
    """A smaller request may be taken where this one was refused."""
    return isinstance(error, BadRequest) and error.status in (None, 400, 413, 422)


def values_of(answer: Answer, chunk: Chunk) -> list[Any]:
    """One value for each item of the chunk. Raises BadAnswer when there are more or fewer."""
    if chunk.form == "whole":
        return [_whole(answer)]
    values: Any = None
    if isinstance(answer, Embeddings):
        values = answer.vectors
    elif isinstance(answer, Prediction):
        values = answer.predictions
        if isinstance(values, Mapping):  # named outputs, each with its values for all rows
            values = _by_row(values, chunk.rows) or values
    elif isinstance(answer.body, list):  # what some models answer
        values = answer.body
    if isinstance(values, list) and len(values) == chunk.rows:
        return values
    if chunk.rows == 1:
        return [values if isinstance(answer, Prediction) or values is not None else answer.body]
    count = len(values) if isinstance(values, list) else "no list of"
    raise BadAnswer(
        f"The answer has {count} predictions for {chunk.rows} rows: this model does not answer row "
        "by row. chunk_rows=1 (--rows 1) sends each row alone.",
        endpoint=answer.endpoint,
        request_id=answer.request_id,
    )


def _by_row(columns: Mapping[str, Any], rows: int) -> list[dict[str, Any]] | None:
    if any(not isinstance(each, list) or len(each) != rows for each in columns.values()):
        return None
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _whole(answer: Answer) -> Any:
    if isinstance(answer, Chat):
        return answer.text
    if isinstance(answer, Prediction):
        return answer.predictions
    return answer.vectors if isinstance(answer, Embeddings) else answer.body


#: No later request could fare better.
_FINAL = (Unauthenticated, PermissionDenied, NotFound, ConfigError)
