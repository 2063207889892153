"""What becomes of one invocation, from its lease to its outcome."""

import logging
from collections.abc import Callable

from lakeport.errors import (
    ApiError,
    BadGateway,
    BadRequest,
    DeadlineExceeded,
    Internal,
    InvalidParameter,
    TooLarge,
    TooManyRequests,
    Unavailable,
    UnsupportedMedia,
)
from lakeport.gateway.chat import Exchange
from lakeport.runtimes.base import Answer, Call, Stream
from lakeport.serving.asking import unforeseen
from lakeport.serving.deployment import Deployment
from lakeport.serving.events import Events
from lakeport.serving.flight import Flight
from lakeport.serving.ports import Done, Outcome, Reply, StreamReply
from lakeport.serving.routes import Share
from lakeport.telemetry.metrics import EntityMetrics
from lakeport.telemetry.traces import Trace

log = logging.getLogger(__name__)

#: What a worker or a link may refuse with; anything else that it says is our fault.
_REFUSALS: dict[str, type[ApiError]] = {
    "BAD_REQUEST": BadRequest,
    "INVALID_PARAMETER_VALUE": InvalidParameter,
    "REQUEST_TOO_LARGE": TooLarge,
    "UNSUPPORTED_MEDIA_TYPE": UnsupportedMedia,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "BAD_GATEWAY": BadGateway,
    "TEMPORARILY_UNAVAILABLE": Unavailable,
    "REQUEST_LIMIT_EXCEEDED": TooManyRequests,
}


class _Nothing:
    """An invocation that is over already."""

    def cancel(self) -> None:
        """There is nothing to be cancelled."""


NOTHING = _Nothing()


class Way:
    """What an invocation holds from its lease to its outcome."""

    __slots__ = ("_clock", "_done", "began", "exchange", "metrics", "share", "trace")

    def __init__(
        self,
        clock: Callable[[], float],
        done: Done,
        share: Share,
        metrics: EntityMetrics,
        began: float,
    ) -> None:
        self._clock = clock
        self._done = done
        self.share = share
        self.metrics = metrics
        self.began = began
        self.exchange: Exchange | None = None
        self.trace: Trace | None = None

    def tell(self, outcome: Outcome) -> None:
        try:
            self._done(outcome)
        except Exception:  # what comes next, on this connection to a replica, is another caller's
            log.exception("an outcome could not be told")

    def refuse(self, deployment: Deployment, error: ApiError, compute: float = 0.0) -> None:
        error.served_entity = self.share.entity
        self.leave(deployment, error.status, compute)
        self.tell(error)

    def leave(
        self, deployment: Deployment, status: int, compute: float = 0.0, batch: int = 1
    ) -> None:
        """Give back the lease; count what became of it."""
        now = self._clock()
        deployment.release(now)
        self.metrics.observe(status, now - self.began, compute, batch)
        if self.trace is not None:
            self.trace.ended(status, compute)
        exchange = self.exchange
        if exchange is not None:
            self.metrics.prompt_tokens += exchange.prompt_tokens
            self.metrics.completion_tokens += exchange.completion_tokens


class InvocationFlight(Flight):
    """An invocation's flight."""

    __slots__ = ("_deployment", "_way")

    def __init__(self, deployment: Deployment, call: Call, way: Way) -> None:
        super().__init__(deployment, call)
        self._deployment = deployment
        self._way = way

    def boarded(self) -> None:
        if self._way.trace is not None:
            self._way.trace.sent()

    def cancel(self) -> None:
        if not self.over:
            self._deployment.cancel(self)
            self._way.leave(self._deployment, 499)

    def failed(self, error: ApiError) -> None:
        self._way.refuse(self._deployment, error)

    def landed(self, result: Answer | Stream) -> None:
        way = self._way
        if not isinstance(result, Answer):
            way.tell(StreamReply(self._events(result), way.share.entity))
            return
        if result.error is not None:
            way.refuse(self._deployment, _refusal(result), result.seconds)
            return
        body = result.body
        if way.exchange is not None:
            try:
                body = way.exchange.answer(result)
            except ApiError as error:
                self.failed(error)
                return
            except Exception as error:  # noqa: BLE001 - a caller is owed an answer
                self.failed(unforeseen(error))
                return
        way.leave(self._deployment, result.status, result.seconds, result.batch)
        way.tell(
            Reply(result.status, body, result.content_type, way.share.entity, result.retry_after)
        )

    def _events(self, stream: Stream) -> Events:
        deployment, way = self._deployment, self._way
        assert self.slot is not None

        def ended(status: int) -> None:
            way.leave(deployment, status)

        return Events(
            stream, deployment, self.slot, way.exchange, ended, patience=deployment.timeout
        )


def _refusal(answer: Answer) -> ApiError:
    code, message = answer.error or ("INTERNAL_ERROR", "")
    error = _REFUSALS.get(code, Internal)(message)
    if answer.retry_after is not None:
        error.retry_after = answer.retry_after
    return error
