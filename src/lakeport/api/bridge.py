"""From the door to an ASGI application, with flow control both ways."""

import asyncio
import logging
import re
from collections import deque
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools
from starlette.types import ASGIApp, Message

from lakeport.api.cut import CUT
from lakeport.api.exchange import Connection
from lakeport.api.limits import BROKEN
from lakeport.api.pushed import WRITE
from lakeport.api.reading import Head

logger = logging.getLogger("lakeport.api")

#: Bytes of a body that wait for the application before the client has to.
HIGH_WATER = 64 * 1024

_BAD_NAME = re.compile(rb'[\x00-\x1f\x7f()<>@,;:\[\]={} \t\\"]')
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class BrokenApplication(RuntimeError):
    """The application broke ASGI's rules."""


def scope_of(head: Head, connection: dict[str, Any]) -> dict[str, Any]:
    """A request's ASGI scope. Raises httptools' error for a target that is no URL."""
    url = httptools.parse_url(head.url)
    raw_path: bytes = url.path or b""
    path = raw_path.decode("ascii")
    return {
        **connection,
        "http_version": head.version,
        "method": head.method.decode("ascii"),
        "path": unquote_to_bytes(raw_path).decode("utf-8", "replace") if "%" in path else path,
        "raw_path": raw_path,
        "query_string": url.query or b"",
        "headers": head.headers.copy(),
        "state": {},
    }


class Cycle:
    """One request and its answer, by the application: an `Exchange`, with ASGI's `receive` and
    `send`."""

    full = False

    def __init__(
        self,
        app: ASGIApp,
        door: Connection,
        scope: dict[str, Any],
        *,
        keep_alive: bool,
        expects: bool = False,
        cuttable: bool = False,
    ) -> None:
        self._app = app
        self._door = door
        self._scope = scope
        self.keep_alive = keep_alive
        self.holds_back = expects
        scope["state"][WRITE] = self.write
        if cuttable:
            scope["state"][CUT] = self.cut
        self.begun = self.started = self.answered = False
        self._gone = False
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._news = asyncio.Event()
        self._chunked = False
        #: Bytes of the body that the head promised and that have not come; None: it promised none.
        self._promised: int | None = None
        self._bodiless = scope["method"] == "HEAD"

    # What the door calls

    def begin(self) -> None:
        self.begun = True
        task = self._door.loop.create_task(self._run())
        self._door.tasks.add(task)
        task.add_done_callback(self._door.tasks.discard)

    def body(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        self.full = self._size > HIGH_WATER
        self._news.set()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    def lost(self) -> None:
        self._gone = True
        self._news.set()

    def expire(self) -> None:
        """Its task is cancelled by the server, which makes it answer."""

    def write(self, body: bytes) -> bool:
        """A piece of the body, at once, between the answer's start and its end."""
        if body and self._chunked and not (self._gone or self._bodiless):
            self._door.transport.write_now(b"%x\r\n%b\r\n" % (len(body), body))
        elif not self._gone:
            self._send_body(body, True)
        return not (self._gone or self._door.write_paused)

    def cut(self) -> None:
        """Break the connection: what was written of an answer still goes out, its end never."""
        self.lost()
        self._door.transport.close()

    # The application

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._break_off()
            raise
        except Exception:
            logger.exception("the application failed")
            self._break_off()
        else:
            if not self.answered and not self._gone:
                logger.error("the application ended without the end of its answer")
                self._break_off()
        finally:
            # It knows this cycle: what both hold would wait for the collector of circles.
            self._scope["state"].clear()

    def _break_off(self) -> None:
        """End the connection, in place of the answer's end."""
        if self.answered or self._gone:
            return
        if not self.started:
            self._door.transport.write(self._door.heads.refuse(BROKEN))
        self._door.transport.close()

    async def receive(self) -> Message:
        door = self._door
        if self.holds_back and not self._gone:
            self.holds_back = False
            door.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self._gone and not self.answered:
            await self._news.wait()
            self._news.clear()
        if self._gone or self.answered:
            return {"type": "http.disconnect"}
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size = 0
        if self.full:
            self.full = False
            door.flow()
        return {"type": "http.request", "body": body, "more_body": not self._ended}

    async def send(self, message: Message) -> None:
        if self._door.write_paused and not self._gone:
            await self._door.writable()
        if self._gone:
            return
        if self.answered:
            raise BrokenApplication(f"{message['type']} came after the answer's end.")
        if message["type"] == "http.response.body" and self.started:
            self._send_body(message.get("body", b""), message.get("more_body", False))
        elif message["type"] == "http.response.start" and not self.started:
            self._door.transport.write(self._head(message))
            self.holds_back = False
            self.started = True
        else:
            raise BrokenApplication(f"{message['type']} was not expected.")

    def _head(self, message: Message) -> bytes:
        status: int = message["status"]
        lines = [self._door.heads.begin(status)]
        told_close = False
        for name, value in message.get("headers", ()):
            if _BAD_NAME.search(name) or _BAD_VALUE.search(value):
                raise BrokenApplication("A header of the answer is not valid.")
            lower = name.lower()
            if lower == b"content-length" and not self._chunked:
                self._promised = int(value)
            elif lower == b"transfer-encoding" and value.lower() == b"chunked":
                self._chunked, self._promised = True, None
            elif lower == b"connection" and b"close" in value.lower():
                self.keep_alive, told_close = False, True
            lines += (lower, b": ", value, b"\r\n")
        self._bodiless = self._bodiless or status in (204, 304) or status < 200
        if self._promised is None and not self._chunked and not self._bodiless:
            if self._scope["http_version"] == "1.0":
                self.keep_alive = False
            else:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive and not told_close:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _send_body(self, body: bytes, more: bool) -> None:
        write = self._door.transport.write
        if self._bodiless:
            self._promised = None
        elif self._chunked:
            if body:
                write(b"%x\r\n" % len(body))
                write(body)
            end = b"\r\n" if body else b""
            if not more:
                end += b"0\r\n\r\n"
            if end:
                write(end)
        else:
            if self._promised is not None:
                self._promised -= len(body)
                if self._promised < 0:
                    raise BrokenApplication("The answer is longer than its Content-Length.")
            if body:
                write(body)
        if not more:
            if self._promised:
                raise BrokenApplication("The answer is shorter than its Content-Length.")
            self.answered = True
            self._news.set()
            self._door.answered(self)
