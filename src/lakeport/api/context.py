"""What the front door found out about a request, for those behind it."""

import itertools
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.types import Message, Send

from lakeport.api.errors import Headers, send_error
from lakeport.auth.callers import Caller
from lakeport.errors import ApiError

#: Where `Context` is in the ASGI scope.
KEY = "lakeport"


@dataclass(frozen=True, slots=True)
class Context:
    request_id: str
    #: None only on the paths that are open to all.
    caller: Caller | None


def request_id_of(request: Request) -> str:
    context: Context = request.scope[KEY]
    return context.request_id


def caller_of(request: Request) -> Caller:
    context: Context = request.scope[KEY]
    assert context.caller is not None, "an open path asked for its caller"
    return context.caller


Asking = Annotated[Caller, Depends(caller_of)]


class RequestIds:
    """Makes a new one at each call: unique over restarts, cheap within one."""

    def __init__(self) -> None:
        self._boot = secrets.token_hex(8)
        self._count = itertools.count()

    def __call__(self) -> str:
        return f"{self._boot}{next(self._count):012x}"


class Answer:
    """`send` for one request, with the headers that each reply carries."""

    __slots__ = ("_headers", "_send", "_started")

    def __init__(self, send: Send, headers: Headers) -> None:
        self._send = send
        self._headers = headers
        self._started = False

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self._started = True
            message["headers"] = [*message.get("headers", ()), *self._headers]
        return self._send(message)

    async def fail(self, error: ApiError, request_id: str) -> None:
        """Answer with `error`; an answer that has begun already is cut off by the server."""
        if not self._started:
            await send_error(self.send, error, request_id)
