"""Guards connections: what a client may send, and how long it may take.

uvicorn has no deadline for reading and no bound on a request's head. `Door` adds both, and refuses
what two HTTP parsers could understand differently. Deadlines are looked at by one sweep a server
(`api/server.py`), so that they cost a request next to nothing.
"""

import asyncio
import re
import secrets
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Any, NoReturn

import httptools
import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from lakeport.api.cut import CUT
from lakeport.api.joined import JoinedTransport
from lakeport.errors import error_body


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
    head_bytes: int = 64 * 1024
    headers: int = 100
    target_bytes: int = 16 * 1024
    #: Of a body that nobody reads any more, since its request has been answered already.
    unread_bytes: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is ended."""

    status: int
    error_code: str
    message: str


def _malformed(message: str) -> Refusal:
    return Refusal(400, "MALFORMED_REQUEST", message)


NOT_HTTP = _malformed("The request is not valid HTTP/1.1.")
HOST = _malformed("The request needs exactly one Host header with a valid host.")
LENGTH = _malformed("The length of the request's body is given twice, or in an unknown way.")
AUTHORIZATION = _malformed("The request has more than one Authorization header.")
TARGET_TOO_LONG = Refusal(414, "URI_TOO_LONG", "The path of the request is too long.")
HEAD_TOO_LARGE = Refusal(
    431, "REQUEST_HEADER_FIELDS_TOO_LARGE", "The request has too many or too large headers."
)
SLOW_HEAD = Refusal(408, "REQUEST_TIMEOUT", "The request's headers did not arrive in time.")
SLOW_BODY = Refusal(408, "REQUEST_TIMEOUT", "The request's body did not arrive in time.")

_GUARDED = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"authorization", b"expect")
)
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


@lru_cache(maxsize=256)
def valid_host(value: bytes) -> bool:
    """Whether a Host header names a host and at most a port."""
    return len(value) <= 255 and _HOST.fullmatch(value) is not None


class Reading(Enum):
    """What the next byte of a connection belongs to.

    BETWEEN -> HEAD -> BODY -> BETWEEN; from each to REFUSED, which ends the connection.
    """

    BETWEEN = auto()
    HEAD = auto()
    BODY = auto()
    REFUSED = auto()


class DoorConfig(uvicorn.Config):
    """uvicorn's config with our limits, to reach each connection."""

    limits: Limits = Limits()
    #: Whether the application may break connections: `api/cut.py`.
    cuttable: bool = False


class _Refused(Exception):
    """Ends the parser's run; `Door._refusal` says why."""


class Door(HttpToolsProtocol):
    """One connection. `check` must be called every now and then: it holds the deadlines."""

    def __init__(
        self,
        config: DoorConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: Any = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.access_log = False
        self.limits = config.limits
        self._most_bytes = self.limits.head_bytes
        self._most_headers = self.limits.headers
        self._reading = Reading.BETWEEN
        self._refusal = NOT_HTTP
        self._now = self.loop.time()
        #: Of the present state of reading; in BETWEEN only when nothing is being answered.
        self._deadline = self._now + self.limits.first_byte
        self._body_deadline = 0.0
        self._messages = 0
        self._head_bytes = 0
        self._hosts = 0
        self._lengths = 0
        self._authorizations = 0
        #: The request wishes for another protocol; it is read again without the wish.
        self._declining = False
        self._body_bytes = 0
        self._unread_bytes = 0
        self._unsent = 0
        self._unsent_for = 0.0
        if config.cuttable:
            self.app_state = {**app_state, CUT: self.cut}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(JoinedTransport(transport, self.loop))

    # What arrives

    def data_received(self, data: bytes) -> None:
        reading, message = self._reading, self._messages
        if reading is Reading.REFUSED:
            self._throw_away(len(data))
            return
        self._now = self.loop.time()
        if reading is Reading.BODY:
            self._deadline = self._now + self.limits.body_idle
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.refuse(self._refusal)
        else:
            # A head that is not complete yet; one that is was counted header by header.
            if (
                reading is Reading.HEAD
                and self._reading is Reading.HEAD
                and message == self._messages
            ):
                self._head_bytes += len(data)
                if self._head_bytes > self.limits.head_bytes:
                    self.refuse(HEAD_TOO_LARGE)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # To ignore the wish is the way to decline it. The parser has stopped behind the head,
            # so another one reads the same request without the wish. (Java's client asks for
            # HTTP/2 in this way, with a body behind the head.)
            head = self._head_without_upgrade()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            rest: int = upgrade.args[0]
            self.parser.feed_data(head + data[rest:])

    def _head_without_upgrade(self) -> bytes:
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/1.1\r\n"]
        lines += [
            name + b": " + value + b"\r\n"
            for name, value in self.headers
            if name not in {b"upgrade", b"http2-settings", b"connection"}
        ]
        return b"".join((*lines, b"\r\n"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._messages += 1
        self._reading = Reading.HEAD
        self._deadline = self._now + self.limits.head
        self._head_bytes = 0
        self._hosts = self._lengths = self._authorizations = 0
        self._declining = False

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.limits.target_bytes:
            self._stop(TARGET_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self.headers
        size = self._head_bytes = self._head_bytes + len(name) + len(value) + 4
        if size > self._most_bytes or len(headers) >= self._most_headers:
            self._stop(HEAD_TOO_LARGE)
        name = name.lower()
        if name in _GUARDED:
            self._guard(name, value)
        headers.append((name, value))

    def _guard(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
            if self._hosts > 1 or not valid_host(value):
                self._stop(HOST)
        elif name == b"authorization":
            self._authorizations += 1
            if self._authorizations > 1:
                self._stop(AUTHORIZATION)
        elif name == b"expect":
            if value.lower() == b"100-continue" and self.parser.get_http_version() != "1.0":
                self.expect_100_continue = True
        else:
            self._lengths += 1
            if self._lengths > 1 or (name == b"transfer-encoding" and not self._chunked(value)):
                self._stop(LENGTH)

    def _chunked(self, value: bytes) -> bool:
        return value.lower() == b"chunked" and self.parser.get_http_version() != "1.0"

    def on_headers_complete(self) -> None:
        if self._hosts != 1:
            self._stop(HOST)
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._stop(NOT_HTTP)
            self._declining = True
            return
        super().on_headers_complete()
        # What comes from here on are trailers: nobody asked for them, and they must not pass for
        # headers.
        self.headers = []
        self._reading = Reading.BODY
        self._deadline = self._now + self.limits.body_idle
        self._body_deadline = self._now + self.limits.body_total
        self._body_bytes = self._unread_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self.cycle.response_complete:
            self._throw_away(len(body))
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._declining:
            return
        super().on_message_complete()
        self._reading = Reading.BETWEEN
        self._deadline = self._now + self.limits.keep_alive

    def on_response_complete(self) -> None:
        if self._reading is Reading.BETWEEN:
            self._deadline = self.loop.time() + self.limits.keep_alive
        super().on_response_complete()

    # Deadlines

    def check(self, now: float, passed: float) -> None:
        """End the connection if its time is up. `passed` seconds went by since the last check."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == self._unsent:
            self._unsent_for += passed
            if self._unsent_for > self.limits.write_idle:
                self.transport.abort()
                return
        else:
            self._unsent, self._unsent_for = unsent, 0.0
        if self.transport.is_closing():
            return
        reading = self._reading
        if reading is Reading.REFUSED:
            if now > self._deadline and not self._answering():
                self.transport.close()
        elif self.flow.read_paused or self._waits_for_us():
            # It is we who do not read: that is not the client's time.
            self._deadline += passed
            self._body_deadline += passed
        elif reading is Reading.BETWEEN:
            if now > self._deadline and not self._answering():
                self.transport.close()
        elif reading is Reading.HEAD:
            if now > self._deadline:
                self.refuse(SLOW_HEAD)
        elif now > self._deadline or now > self._body_deadline + (
            self._body_bytes / self.limits.body_rate
        ):
            self.refuse(SLOW_BODY)

    def _waits_for_us(self) -> bool:
        """Whether the client holds its body back until we ask for it (`Expect: 100-continue`)."""
        return self._reading is Reading.BODY and self.cycle.waiting_for_100_continue

    def _answering(self) -> bool:
        cycle = self.cycle  # None before the first request, whatever its type says
        return bool(cycle) and not cycle.response_complete and not cycle.disconnected

    # Refusals

    def cut(self) -> None:
        """Break the connection: what was written of an answer still goes out, its end never."""
        self.cycle.disconnected = True
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self.refuse(_malformed(msg))

    def _stop(self, refusal: Refusal) -> NoReturn:
        """Refuse from inside the parser, which reports it to `data_received`."""
        self._refusal = refusal
        raise _Refused

    def refuse(self, refusal: Refusal) -> None:
        """Answer with `refusal` where an answer can still be understood, and end the connection."""
        in_body = self._reading is Reading.BODY
        self._reading = Reading.REFUSED
        self._deadline = self.loop.time() + self.limits.linger
        self._unread_bytes = 0
        if self.transport.is_closing():
            return
        if in_body:
            started = self.cycle.response_started or bool(self.pipeline)
            if not self.cycle.response_complete:
                # For the application it is as if the client had gone.
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            if started:
                self.transport.close()
                return
        elif self._answering():
            # Earlier requests are being answered: the connection ends after the last of them.
            self.cycle.keep_alive = False
            return
        self.transport.write(self._encode(refusal))
        # To close at once could take the answer from a client that is still sending.
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _encode(self, refusal: Refusal) -> bytes:
        request_id = secrets.token_hex(14)
        body = orjson.dumps(error_body(refusal.error_code, refusal.message, request_id))
        lines = [STATUS_LINE[refusal.status]]
        for name, value in self.server_state.default_headers:
            lines += [name, b": ", value, b"\r\n"]
        lines += [
            b"content-type: application/json\r\ncontent-length: ",
            str(len(body)).encode(),
            b"\r\nx-request-id: ",
            request_id.encode(),
            b"\r\nconnection: close\r\n\r\n",
            body,
        ]
        return b"".join(lines)

    def _throw_away(self, size: int) -> None:
        self._unread_bytes += size
        if self._unread_bytes > self.limits.unread_bytes:
            self.transport.abort()
