"""What one connection may take, and the refusals that end it."""

import re
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one connection; times in seconds, sizes in bytes."""

    #: Until a new connection sends its first byte.
    first_byte: float = 10
    #: Between two requests on one connection.
    keep_alive: float = 75
    #: From the first byte of a request's head to its last.
    head: float = 10
    #: Between two pieces of a body.
    body_idle: float = 30
    #: For a whole body, and a second more for every `body_rate` bytes of it that came.
    body_total: float = 300
    body_rate: int = 16 * 1024
    #: During which a client takes nothing of its answer.
    write_idle: float = 120
    #: In which a refused client may read the refusal before the connection is cut.
    linger: float = 2
    #: Of a request's head; also of what a body's framing may hold between two pieces of it.
    head_bytes: int = 64 * 1024
    headers: int = 100
    target_bytes: int = 16 * 1024
    #: Of a body that nobody reads any more, since its request has been answered already.
    unread_bytes: int = 32 * 1024 * 1024
    #: Requests that are read ahead of their turn; a piece of what arrived may hold a few more.
    pipelined: int = 64


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is ended."""

    status: int
    error_code: str
    message: str


def malformed(message: str) -> Refusal:
    return Refusal(400, "MALFORMED_REQUEST", message)


NOT_HTTP = malformed("The request is not valid HTTP/1.1.")
HOST = malformed("The request needs exactly one Host header with a valid host.")
LENGTH = malformed("The length of the request's body is given twice, or in an unknown way.")
FRAMING = malformed("The framing of the request's body is larger than the body.")
AUTHORIZATION = malformed("The request has more than one Authorization header.")
TARGET_TOO_LONG = Refusal(414, "URI_TOO_LONG", "The path of the request is too long.")
HEAD_TOO_LARGE = Refusal(
    431, "REQUEST_HEADER_FIELDS_TOO_LARGE", "The request has too many or too large headers."
)
SLOW_HEAD = Refusal(408, "REQUEST_TIMEOUT", "The request's headers did not arrive in time.")
SLOW_BODY = Refusal(408, "REQUEST_TIMEOUT", "The request's body did not arrive in time.")
BROKEN = Refusal(
    500, "INTERNAL_ERROR", "Something went wrong inside Lakeport; its log has the reason."
)

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


@lru_cache(maxsize=256)
def valid_host(value: bytes) -> bool:
    """Whether a Host header names a host and at most a port."""
    return len(value) <= 255 and _HOST.fullmatch(value) is not None
