"""Heads of answers, as bytes."""

import secrets
from http import HTTPStatus

import orjson
from uvicorn.server import ServerState

from lakeport.api.limits import Refusal
from lakeport.errors import error_body


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


class Heads:
    """The beginnings of a server's answers: the status line and what every answer carries, the date
    above all, which uvicorn makes anew once a second."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._headers: object = None
        self._made: dict[int, bytes] = {}

    def begin(self, status: int) -> bytes:
        headers = self._state.default_headers
        if headers is not self._headers:
            self._headers = headers
            self._made.clear()
        made = self._made.get(status)
        if made is None:
            lines = (b"%s: %s\r\n" % header for header in headers)
            made = self._made[status] = b"".join((_status_line(status), *lines))
        return made

    def refuse(self, refusal: Refusal) -> bytes:
        """The whole answer to a request whose connection ends."""
        request_id = secrets.token_hex(14)
        body = orjson.dumps(error_body(refusal.error_code, refusal.message, request_id))
        return (
            b"%scontent-type: application/json\r\ncontent-length: %d\r\n"
            b"x-request-id: %s\r\nconnection: close\r\n\r\n%s"
            % (self.begin(refusal.status), len(body), request_id.encode(), body)
        )
