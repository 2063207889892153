"""The lane: invocations answered without ASGI, without a task and without a future.

It takes only what is ordinary: a POST to an invocation's path, by a caller whose token is known,
with a body within the bound. All else, every refusal of a head above all, is the application's
(`api/app.py`), which answers the same routes; so there is one place for each rule that is not about
speed.
"""

import logging
from collections.abc import Callable
from functools import lru_cache

from starlette.types import Receive, Scope, Send

from lakeport.api.bodies import too_large
from lakeport.api.bridge import Cycle
from lakeport.api.context import Answer, RequestIds
from lakeport.api.errors import as_api_error, encode_error
from lakeport.api.exchange import Connection
from lakeport.api.invocations import lower, parse_path, send_outcome, text, wait_of
from lakeport.api.local import LOCAL_ADMIN, refuse_strangers
from lakeport.api.ports import TokensPort
from lakeport.api.reading import Head
from lakeport.auth.callers import Caller
from lakeport.errors import ApiError, EndpointNotFound, Unavailable
from lakeport.serving.ports import (
    Asked,
    CutReply,
    Invocation,
    InvokePort,
    Outcome,
    Reply,
    StreamReply,
)

logger = logging.getLogger("lakeport.api")

#: Longer targets are not worth remembering.
_LONGEST_TARGET = 1024
#: Pieces of a body that are kept as they come. A client may send it by twos of bytes, each of which
#: would weigh thirty times as much as a piece of its own.
_PIECES = 1024


@lru_cache(maxsize=1024)
def _named_in(target: bytes) -> tuple[str, str | None] | None:
    """Endpoint and served entity of an invocation's target; None for one that is no invocation or
    has anything unusual about it."""
    if len(target) > _LONGEST_TARGET or b"?" in target or b"#" in target:
        return None
    try:
        return parse_path(target)
    except EndpointNotFound:
        return None


@lru_cache(maxsize=1024)
def _head_of(content_type: str, served_entity: str, retry_after: int | None, more: bytes) -> bytes:
    """The lines of a reply's head that seldom change. Raises ValueError for a bad value."""
    lines = f"content-type: {content_type}\r\nserved-model-name: {served_entity}\r\n"
    if lines.count("\n") != 2 or lines.count("\r") != 2 or "\0" in lines:
        raise ValueError("a reply's content type or served entity is no header's value")
    if retry_after is not None:
        lines += f"retry-after: {retry_after}\r\n"
    return lines.encode("latin-1", "replace") + more


class InvocationLane:
    """Makes the exchanges of one server's invocations. `max_body` bounds a request's body, in
    bytes."""

    def __init__(
        self,
        *,
        invoke: InvokePort,
        tokens: TokensPort,
        max_body: int,
        loopback_only: bool,
        organisation: tuple[bytes, bytes],
        single_endpoint: Callable[[], str | None],
        request_ids: RequestIds,
    ) -> None:
        self.invoke = invoke
        self.max_body = max_body
        self.organisation = organisation
        self.organisation_line = b"%s: %s\r\n" % organisation
        self.request_ids = request_ids
        self._tokens = tokens
        self._loopback_only = loopback_only
        self._single_endpoint = single_endpoint

    def take(self, connection: Connection, head: Head) -> "InvocationExchange | None":
        """The exchange for a request; None: it is not for the lane."""
        if head.method != b"POST" or head.version != "1.1" or head.expects:
            return None
        named = _named_in(head.url)
        if named is None:
            if head.url != b"/invocations" or (name := self._single_endpoint()) is None:
                return None
            named = name, None
        known = head.known
        length = known.get(b"content-length")
        if length is not None and int(length) > self.max_body:
            return None
        try:
            if self._loopback_only:
                refuse_strangers(known[b"host"], known.get(b"origin"))
                caller = LOCAL_ADMIN
            else:
                caller = self._tokens.authenticate(known.get(b"authorization"))
        except ApiError:
            return None
        return InvocationExchange(self, connection, named, caller, head)


class InvocationExchange:
    """One invocation: an `Exchange`."""

    __slots__ = (
        "_asked",
        "_caller",
        "_connection",
        "_ended",
        "_known",
        "_lane",
        "_named",
        "_pieces",
        "_request_id",
        "_size",
        "answered",
        "begun",
        "keep_alive",
    )

    full = False
    holds_back = False
    #: Its answer is one write.
    started = False

    def __init__(
        self,
        lane: InvocationLane,
        connection: Connection,
        named: tuple[str, str | None],
        caller: Caller,
        head: Head,
    ) -> None:
        self._lane = lane
        self._connection = connection
        self._named = named
        self._caller = caller
        self._known = head.known
        self.keep_alive = head.keep_alive
        self.begun = self.answered = self._ended = False
        self._pieces: list[bytes | bytearray] = []
        self._size = 0
        self._asked: Asked | None = None
        self._request_id = lane.request_ids()

    # What the door calls

    def begin(self) -> None:
        self.begun = True
        if self._size > self._lane.max_body:
            self._done(too_large(self._lane.max_body))
        elif self._ended:
            self._ask()

    def body(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= self._lane.max_body:
            pieces = self._pieces
            if len(pieces) < _PIECES:
                pieces.append(piece)
            elif len(pieces) == _PIECES:
                pieces.append(bytearray(piece))
            else:
                pieces[-1] += piece
            return
        self._pieces = []
        if self.begun:
            self._done(too_large(self._lane.max_body))

    def end(self) -> None:
        self._ended = True
        if self.begun:
            self._ask()

    def lost(self) -> None:
        self.answered = True
        self._give_up()

    def expire(self) -> None:
        self._give_up()
        self.keep_alive = False
        self._done(Unavailable("Lakeport is stopping."))

    # The front

    def _ask(self) -> None:
        known = self._known
        endpoint, entity = self._named
        invocation = Invocation(
            endpoint=endpoint,
            entity=entity,
            body=b"".join(self._pieces),  # uncopied where it is one
            content_type=lower(known.get(b"content-type")),
            content_encoding=lower(known.get(b"content-encoding")),
            request_id=self._request_id,
            traceparent=text(known.get(b"traceparent")),
        )
        self._pieces = []
        asked = self._lane.invoke.begin(self._caller, invocation, self._done)
        if not self.answered:
            self._asked = asked

    def _give_up(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.cancel()

    def _done(self, outcome: Outcome) -> None:
        if self.answered:
            return
        # It knows this exchange, and holds the body: in a circle with it both would live until the
        # collector comes, which is seldom, and on an idle connection until its next request.
        self._asked = None
        if isinstance(outcome, Reply):
            self._reply(outcome)
        elif isinstance(outcome, ApiError):
            self._refuse(outcome)
        else:
            self._hand_over(outcome)

    def _reply(self, reply: Reply) -> None:
        try:
            lines = _head_of(
                reply.content_type,
                reply.served_entity,
                wait_of(reply),
                self._lane.organisation_line,
            )
        except ValueError as error:
            logger.error("request %s: %s", self._request_id, error)
            self._refuse(as_api_error(error))
            return
        self._send(reply.status, lines, reply.body)

    def _refuse(self, error: ApiError) -> None:
        status, headers, body = encode_error(error, self._request_id)
        lines = [b"%s: %s\r\n" % header for header in headers if header[0] != b"content-length"]
        self._send(status, b"".join((*lines, self._lane.organisation_line)), body)

    def _send(self, status: int, lines: bytes, body: bytes) -> None:
        connection = self._connection
        head = b"%s%scontent-length: %d\r\nx-request-id: %s\r\n%s\r\n" % (
            connection.heads.begin(status),
            lines,
            len(body),
            self._request_id.encode(),
            b"" if self.keep_alive else b"connection: close\r\n",
        )
        self.answered = True
        connection.send(head, body)
        connection.answered(self)

    def _hand_over(self, outcome: StreamReply | CutReply) -> None:
        """A stream, or an answer that is to break off, needs a task: the bridge has it."""
        request_id, organisation = self._request_id, self._lane.organisation

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            headers = [(b"x-request-id", request_id.encode()), organisation]
            await send_outcome(scope, receive, Answer(send, headers).send, outcome, request_id)

        scope = {"type": "http", "method": "POST", "http_version": "1.1", "state": {}}
        cycle = Cycle(answer, self._connection, scope, keep_alive=self.keep_alive, cuttable=True)
        cycle.end()
        self.answered = True
        self._connection.replace(self, cycle)
        cycle.begin()
