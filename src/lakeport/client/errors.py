"""Every error of the toolkit, as one tree.

    LakeportError
    ├── ConfigError             no host, no token, an unknown profile: nothing was sent
    ├── ApiError                the server answered with an error
    │   ├── BadRequest          400 and other 4xx: what was sent is wrong
    │   │   └── InvalidInput    found before sending: the input does not fit the signature
    │   ├── Unauthenticated     401
    │   ├── PermissionDenied    403
    │   ├── NotFound            404
    │   ├── Conflict            409
    │   ├── RateLimited         429; `retry_after` says when to try again
    │   ├── NotReady            503, or an endpoint that does not serve: stopped, failed, starting
    │   └── ServerError         500, 502 and other 5xx
    ├── TimedOut                no answer in time, or 504: the request may have been run
    ├── ConnectionFailed        not reached, or the connection broke
    └── BadAnswer               an answer that the wire does not allow: no JSON, a broken stream

Each carries `endpoint`, `status`, `error_code` and `request_id` where they are known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class LakeportError(Exception):
    """What the toolkit raises. The message is for people and says what to do next; it holds no
    token."""

    def __init__(
        self,
        message: str,
        *,
        endpoint: str | None = None,
        status: int | None = None,
        error_code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        #: The serving endpoint that was asked.
        self.endpoint = endpoint
        #: HTTP status of the answer.
        self.status = status
        #: Databricks' word for the error, e.g. "RESOURCE_DOES_NOT_EXIST".
        self.error_code = error_code
        #: The server's id of the request, for its operator.
        self.request_id = request_id
        #: Requests that were sent in all, tries again included; 0: none was.
        self.attempts = 0


class ConfigError(LakeportError):
    """The client cannot be made: the message names the variable or the profile."""


class ApiError(LakeportError):
    """The server refused."""

    def __init__(
        self,
        message: str,
        *,
        details: Sequence[Any] = (),
        retry_after: float | None = None,
        endpoint: str | None = None,
        status: int | None = None,
        error_code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(
            message, endpoint=endpoint, status=status, error_code=error_code, request_id=request_id
        )
        #: `details` of the answer, as they came.
        self.details = list(details)
        #: Seconds that the server asks to wait (Retry-After); None when it did not say.
        self.retry_after = retry_after


class BadRequest(ApiError):
    """What was sent is wrong; sending it again cannot help."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an input."""

    #: The column or parameter; None: the input as a whole.
    column: str | None
    #: Position of the row in the input, from 0; None: every row, or the column itself.
    row: int | None
    #: What was expected and what is there, for people.
    message: str


class InvalidInput(BadRequest):
    """The input does not fit the endpoint's signature; nothing was sent.

    `problems` has each one, the first twenty at most.
    """

    def __init__(
        self, message: str, *, problems: Sequence[Problem] = (), endpoint: str | None = None
    ) -> None:
        super().__init__(message, endpoint=endpoint, error_code="INVALID_PARAMETER_VALUE")
        self.problems = list(problems)


class Unauthenticated(ApiError):
    """No token, or one that the server does not take."""


class PermissionDenied(ApiError):
    """The token's owner may not do this."""


class NotFound(ApiError):
    """No such endpoint, entity or route."""


class Conflict(ApiError):
    """It exists already, or an update is running."""


class RateLimited(ApiError):
    """Too many requests: try again after `retry_after` seconds."""


class NotReady(ApiError):
    """The endpoint does not serve now: it starts, is stopped, or its config failed."""


class ServerError(ApiError):
    """The server, the model's process, or an outside provider failed."""


class TimedOut(LakeportError):
    """No answer within the time allowed, or a 504.

    `sent` tells whether the request may have been run: then it is sent again only for those who
    ask for that.
    """

    def __init__(
        self,
        message: str,
        *,
        sent: bool = True,
        endpoint: str | None = None,
        status: int | None = None,
        error_code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(
            message, endpoint=endpoint, status=status, error_code=error_code, request_id=request_id
        )
        self.sent = sent


class ConnectionFailed(LakeportError):
    """The server was not reached, or the connection broke.

    `sent` tells whether the request may have been run.
    """

    def __init__(self, message: str, *, sent: bool, endpoint: str | None = None) -> None:
        super().__init__(message, endpoint=endpoint)
        self.sent = sent


class BadAnswer(LakeportError):
    """The answer is not what the wire promises."""


def kind_of(status: int, error_code: str | None) -> type[ApiError]:
    """The class for an answer's status and `error_code`."""
    if error_code == "INVALID_STATE":
        return NotReady
    if status >= 500:
        return NotReady if status == 503 else ServerError
    return _BY_STATUS.get(status, BadRequest)


_BY_STATUS: Mapping[int, type[ApiError]] = {
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    429: RateLimited,
}
