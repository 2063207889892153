"""What a prediction log is told."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from lakeport.client.answers import Answer
from lakeport.client.errors import LakeportError
from lakeport.client.readings import loads


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionEvent:
    """One prediction, or one that failed: it has an answer or an error."""

    endpoint: str
    #: The request's body as it was sent: what the caller changes later in the input is not seen.
    body: bytes
    answer: Answer | None = None
    error: LakeportError | None = None
    #: Seconds since the epoch when it began.
    time: float
    #: Until its answer or error, waits included.
    seconds: float
    #: Requests that were sent.
    attempts: int = 1
    served_entity: str | None = None
    #: The server's and the caller's ids of it.
    request_id: str | None = None
    client_request_id: str | None = None

    def as_record(self, *, bodies: bool = True) -> dict[str, Any]:
        """Flat, of plain values; `bodies`: with request and response."""
        return {
            "time": datetime.fromtimestamp(self.time, UTC).isoformat(timespec="microseconds"),
            "endpoint": self.endpoint,
            "served_entity": self.served_entity,
            "request_id": self.request_id,
            "client_request_id": self.client_request_id,
            "status": type(self.error).__name__ if self.error else "ok",
            "error": self.error.message if self.error else None,
            "seconds": self.seconds,
            "attempts": self.attempts,
            "request": loads(self.body) if bodies else None,
            "response": self.answer.body if bodies and self.answer else None,
        }


class Recorder(Protocol):
    """Takes predictions; `lakeport.client.log.PredictionLog` is one."""

    def record(self, event: PredictionEvent) -> None:
        """Keep it. Called in the thread of the prediction: returns at once, never raises."""
