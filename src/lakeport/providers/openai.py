"""A link on the OpenAI wire: each call is one POST to an engine or to a server outside."""

import asyncio
import logging
import time
import weakref
from typing import Any

import aiohttp
import orjson

from lakeport.providers import refusals
from lakeport.providers.base import KeyUnavailable
from lakeport.providers.egress import EgressRefused
from lakeport.providers.stream import ServerStream, cut
from lakeport.providers.transport import ServerAnswer, Sessions, Tried
from lakeport.providers.way import Request, Way
from lakeport.runtimes.base import Answer, Call, ReplicaLost, StreamFailed, Taken

log = logging.getLogger(__name__)

#: Requests that one server may hold: it has its own limits, and says so with 429.
CREDIT = 1024
#: Bytes of a whole answer.
MAX_ANSWER = 64 * 1024 * 1024
#: Bytes of an error's body that are looked at.
MAX_ERROR = 64 * 1024
#: Seconds before its deadline at which a call ends here: the front would take a replica that lets
#: a deadline pass for one that hangs.
MARGIN = 0.1

_LOST = "The link to the model's server was closed while it held the request."
#: How a connection shows that the other end had closed it.
_DEAD = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionResetError)


class OpenAILink:
    """A `Link` whose other end is a server on the OpenAI wire.

    Nothing is connected before the first call, and it is lost only when it is closed: whether the
    server lives is found out call by call.
    """

    def __init__(
        self,
        sessions: Sessions,
        way: Way,
        *,
        connect_timeout: float,
        idle_timeout: float,
        who: str = "The model's server",
        fresh_streams: bool = False,
        credit: int = CREDIT,
    ) -> None:
        """`idle_timeout`: seconds that the server may send nothing in the middle of an answer.
        `who` begins every message. `fresh_streams`: each stream has a connection of its own, for
        engines that close it at the end without saying so. The link closes `sessions`."""
        self.who = who
        self._sessions = sessions
        self._way = way
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._fresh_streams = fresh_streams
        self._credit = credit
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._pending: set[_Sending] = set()
        self._streams: weakref.WeakSet[ServerStream] = weakref.WeakSet()
        self._draining: set[asyncio.Task[None]] = set()

    # --- Link -----------------------------------------------------------------------------------

    @property
    def credit(self) -> int:
        return self._credit

    @property
    def outstanding(self) -> int:
        return len(self._pending) + len(self._streams)

    @property
    def lost(self) -> "asyncio.Future[None]":
        return self._lost

    def send(self, call: Call, taken: Taken) -> "_Sending":
        sending = _Sending(self, taken)
        if self._lost.done():
            taken(ReplicaLost(_LOST))
            return sending
        self._pending.add(sending)
        sending.task = self._loop.create_task(self._run(call, sending))
        return sending

    def close(self) -> None:
        if self._lost.done():
            return
        self._lost.set_result(None)
        pending, self._pending = self._pending, set()
        for one in pending:
            one.stop()
            one.taken(ReplicaLost(_LOST))
        for stream in list(self._streams):
            stream.break_off(ReplicaLost(_LOST))
        for task in self._draining:
            task.cancel()
        self._sessions.close()

    async def closed(self) -> None:
        """Close, and wait until every connection is gone."""
        self.close()
        await self._sessions.closed()

    # --- one call -------------------------------------------------------------------------------

    async def _run(self, call: Call, sending: "_Sending") -> None:
        result: Answer | ServerStream | None = None
        problem: Exception | None = None
        try:
            result = await self._answer(call)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            problem = error
        if sending not in self._pending:  # cancelled meanwhile, or the link was closed
            if isinstance(result, ServerStream):
                result.close()
            return
        self._pending.discard(sending)
        if problem is not None or result is None:
            log.error("a call failed in an unforeseen way", exc_info=problem)
            result = refusals.bad_gateway(f"{self.who} could not be asked.")
        sending.taken(result)

    async def _answer(self, call: Call) -> "Answer | ServerStream":
        if call.operation is None:
            raise ValueError("a call on the OpenAI wire names its operation")
        try:
            request = await self._way.request(call.operation)
        except KeyUnavailable as problem:
            log.warning("the key of an external model cannot be had: %s", problem)
            return refusals.bad_gateway(
                f"The key that this endpoint has for {_lower(self.who)} cannot be had."
            )
        deadline = call.deadline - MARGIN
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await self._ask(call, request, deadline)
        except TimeoutError:
            return refusals.too_late(f"{self.who} did not answer within the time limit.")

    async def _ask(self, call: Call, request: Request, deadline: float) -> "Answer | ServerStream":
        try:
            response = await self._head(call, request)
        except aiohttp.ClientError as problem:
            return refusals.failure(self.who, problem, self._connect_timeout)
        except (EgressRefused, OSError) as problem:
            # The call's own time limit comes as a cancellation, never as TimeoutError.
            return refusals.failure(self.who, problem, self._connect_timeout)
        result: Answer | ServerStream | None = None
        try:
            result = await self._body(call, request, response, deadline)
        except (aiohttp.ClientError, OSError) as problem:
            return refusals.failure(self.who, problem, self._connect_timeout)
        finally:
            if not isinstance(result, ServerStream):
                cut(response)
        return result

    async def _head(self, call: Call, request: Request) -> ServerAnswer:
        """The head of the answer; once more over a fresh connection where a used one was dead."""
        tried = Tried()
        fresh = call.stream and self._fresh_streams
        headers = request.headers
        if call.traceparent is not None:
            headers = {**headers, "traceparent": call.traceparent}
        try:
            return await self._sessions.post(request.url, call.body, headers, tried, fresh=fresh)
        except _DEAD as problem:
            began = isinstance(problem, aiohttp.ServerDisconnectedError) and not isinstance(
                problem.message, str
            )
            if not tried.reused or began:
                raise
        return await self._sessions.post(request.url, call.body, headers, Tried(), fresh=True)

    async def _body(
        self,
        call: Call,
        request: Request,
        response: ServerAnswer,
        deadline: float,
    ) -> "Answer | ServerStream":
        status = response.status
        if 300 <= status < 400:
            return refusals.bad_gateway(
                f"{self.who} answered with a redirect ({status}), and redirects are not followed."
            )
        if not 200 <= status < 600:
            return refusals.bad_gateway(f"{self.who} answered with status {status}.")
        if status >= 400:
            try:
                body = await self._read(response, MAX_ERROR)
            except _Idle:
                body = None
            wait = refusals.retry_after(response.headers)
            return refusals.refusal(self.who, status, body, request.cleaner(), wait)
        if call.stream and response.content_type == "text/event-stream":
            return await self._begin(request, response, deadline)
        try:
            body = await self._read(response, MAX_ANSWER)
        except _Idle:
            return refusals.too_late(
                f"{self.who} sent nothing for {self._idle_timeout:g} seconds in the middle of its "
                "answer."
            )
        if body is None:
            return refusals.bad_gateway(
                f"{self.who} answered with more than {MAX_ANSWER // 2**20} MiB."
            )
        return self._whole(call, request, body)

    def _whole(self, call: Call, request: Request, body: bytes) -> Answer:
        try:
            document: Any = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            return refusals.bad_gateway(f"{self.who} answered with something that is not JSON.")
        if (error := refusals.error_of(document)) is not None:
            return refusals.failed_at_once(self.who, error, request.cleaner())
        if call.stream:
            # A whole answer has `message` where clients of a stream read `delta`: passed on, it
            # would be taken for an empty answer.
            return refusals.bad_gateway(
                f"{self.who} answered with a whole answer although a stream was asked for; ask "
                "without `stream`."
            )
        return Answer(200, body)

    async def _read(self, response: ServerAnswer, limit: int) -> bytes | None:
        """The body, or None where it is larger than `limit` bytes. Raises _Idle."""
        if (response.content_length or 0) > limit:
            return None
        content = response.content
        pieces: list[bytes] = []
        size = 0
        while not content.at_eof():
            piece = content.read_nowait()
            if not piece:  # a time limit costs as much as all the rest of this
                try:
                    async with asyncio.timeout(self._idle_timeout):
                        piece = await content.readany()
                except TimeoutError:
                    raise _Idle from None
            size += len(piece)
            if size > limit:
                return None
            pieces.append(piece)
        return b"".join(pieces)

    # --- streams --------------------------------------------------------------------------------

    async def _begin(
        self, request: Request, response: ServerAnswer, deadline: float
    ) -> "Answer | ServerStream":
        """The stream once its first event is there: a failure before it still has a status."""
        stream = ServerStream(
            response,
            who=self.who,
            cleaner=request.cleaner,
            deadline=deadline,
            idle_timeout=self._idle_timeout,
            ended=self._stream_ended,
        )
        self._streams.add(stream)
        began: Answer | None = None
        try:
            began = await stream.begin()
        except StreamFailed as failure:
            return refusals.bad_gateway(failure.message)
        except BaseException:  # a cancellation too: no stream without a taker
            stream.close()
            raise
        if began is not None:
            stream.close()
            return began
        return stream

    def _stream_ended(self, stream: ServerStream, whole: bool) -> None:
        self._streams.discard(stream)
        response = stream.response
        if not whole or self._fresh_streams or self._lost.done():
            cut(response)
        elif response.connection is not None:  # `[DONE]` is there, the end of the body is not yet
            task = self._loop.create_task(_drain(response))
            self._draining.add(task)
            task.add_done_callback(self._draining.discard)


class _Idle(Exception):
    """Nothing came for too long."""


class _Sending:
    """One call under way; cancelling it cuts the connection."""

    __slots__ = ("_link", "taken", "task")

    def __init__(self, link: OpenAILink, taken: Taken) -> None:
        self._link = link
        self.taken = taken
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> bool:
        if self in self._link._pending:
            self._link._pending.discard(self)
            self.stop()
        return False

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()


async def _drain(response: ServerAnswer) -> None:
    """Take the end of a body, so that its connection can be used again; at most a second."""
    try:
        async with asyncio.timeout(1):
            await response.content.readany()
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass
    finally:
        cut(response)


def _lower(who: str) -> str:
    return who[:1].lower() + who[1:]
