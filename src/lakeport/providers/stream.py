"""A server's stream of events, as they come: judged, bounded, never read ahead of its taker."""

import asyncio
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, NoReturn

import aiohttp
import orjson

from lakeport.providers import refusals
from lakeport.providers.cleaning import Cleaner
from lakeport.providers.over_socket import SocketAnswer
from lakeport.providers.sse import EventTooLarge, SseReader
from lakeport.providers.transport import ServerAnswer
from lakeport.runtimes.base import Answer, StreamFailed, Take

#: Bytes of one event.
MAX_EVENT = 16 * 1024 * 1024
DONE = b"[DONE]"
_DELTA = b'"delta":'


def cut(response: ServerAnswer) -> None:
    """Close the connection of an answer at once, unless the answer is whole: then the connection
    has been given back already."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        # Without a farewell by TLS, for which the server could make us wait.
        connection.transport.abort()
    response.close()


class ServerStream:
    """A `Stream` of the events of one answer, without `[DONE]`.

    One that is dropped without being closed closes itself.
    """

    def __init__(
        self,
        response: ServerAnswer,
        *,
        who: str,
        cleaner: Callable[[], Cleaner],
        deadline: float,
        idle_timeout: float,
        ended: "Callable[[ServerStream, bool], None]",
    ) -> None:
        """`ended` is called once, with whether the server had said that its answer was whole."""
        self.response = response
        self._who = who
        self._cleaner = cleaner
        self._deadline = deadline
        self._idle_timeout = idle_timeout
        self._ended: Callable[[ServerStream, bool], None] | None = ended
        self._reader = SseReader(MAX_EVENT)
        self._events: deque[bytes] = deque()
        #: The server sends no more.
        self._at_end = False
        #: Since when the server is waited for; None while its events wait for their taker.
        self._since: float | None = None
        #: Why it ended before the server ended it.
        self._why: Exception | None = None
        #: By index: whether the choice has its finish reason.
        self._choices: dict[Any, bool] = {}
        #: How the last event began, up to what the model said, if it was one like most.
        self._like = b""
        self._timer: asyncio.TimerHandle | None = None

    async def begin(self) -> Answer | None:
        """Wait for the first event. An answer instead of None: there will be no stream."""
        await self._fill()
        if not self._events or self._events[0].strip() == DONE:
            return refusals.bad_gateway(f"{self._who} ended its stream before it had begun.")
        document = _document(self._events[0])
        if document is None:
            return refusals.bad_gateway(
                f"{self._who} began its stream with an event that is not JSON."
            )
        if (error := refusals.error_of(document)) is not None:
            return refusals.failed_at_once(self._who, error, self._cleaner())
        self._watch()
        return None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._events:
            broke_off = False
            if self._ended is not None and self._why is None:
                try:
                    await self._fill()
                except (aiohttp.ClientError, OSError):
                    broke_off = True
            if not self._events:
                self._run_out(broke_off)
        return self._next()

    def push(self, take: Take) -> bool:
        """See `Stream.push`; for answers that come over a socket of this machine."""
        content = self.response.content
        if not isinstance(content, SocketAnswer):
            return False
        content.tell(None)
        try:
            while self._more(content):
                while self._events:
                    if not take(self._next()):
                        self._since = None
                        return True
        except StopAsyncIteration:
            take(None)
        except Exception as problem:  # noqa: BLE001 - `take` is to hear of whatever ends it
            take(problem)
        else:
            content.tell(partial(self.push, take))
        return True

    def close(self) -> None:
        self._end(whole=False)

    def break_off(self, why: Exception) -> None:
        """Fail with `why` once the events that are here are taken."""
        if self._ended is not None:
            self._why = self._why or why
            cut(self.response)  # wakes whoever waits for it

    def __del__(self) -> None:
        if self._ended is not None:
            self.close()

    # --- events ---------------------------------------------------------------------------------

    def _next(self) -> bytes:
        """The next of the events that are here. Raises StopAsyncIteration, StreamFailed."""
        event = self._events.popleft()
        if event.strip() == DONE:
            self._end(whole=True)
            raise StopAsyncIteration
        self._judge(event)
        # A line break in JSON is a blank between tokens.
        return event.replace(b"\n", b" ") if b"\n" in event else event

    def _more(self, content: SocketAnswer) -> bool:
        """Read what is here without waiting; False: there is nothing yet. Raises as `_run_out`."""
        broke_off, chunk = False, b""
        if self._ended is not None and self._why is None and not self._at_end:
            try:
                chunk = content.read_nowait()
                self._at_end = not chunk and content.at_eof()
                if chunk or self._at_end:
                    self._read(chunk)
            except (aiohttp.ClientError, OSError):
                broke_off = True
            else:
                if not chunk and not self._at_end:
                    self._since = time.monotonic()
                    return bool(self._events)
        if not (chunk or self._events):
            self._run_out(broke_off)
        return True

    def _run_out(self, broke_off: bool) -> NoReturn:
        """There are no events any more: raises StopAsyncIteration, or why it failed."""
        if self._ended is None:  # it was closed meanwhile
            raise StopAsyncIteration
        if self._why is not None:
            self._end(whole=False)
            raise self._why
        if broke_off or not self._choices or not all(self._choices.values()):
            raise self._failed(refusals.BROKE_OFF)
        self._end(whole=True)  # some servers leave `[DONE]` out
        raise StopAsyncIteration

    async def _fill(self) -> None:
        """Wait until there are events, or the end. Raises what reading raises, StreamFailed."""
        while not self._events and not self._at_end:
            self._since = time.monotonic()
            try:
                chunk = await self.response.content.readany()
            finally:
                self._since = None
            self._read(chunk)
            self._at_end = not chunk

    def _read(self, chunk: bytes) -> None:
        """The events that `chunk` completes; b"" is the end. Raises StreamFailed."""
        try:
            self._events.extend(self._reader.feed(chunk) if chunk else self._reader.end())
        except EventTooLarge:
            raise self._failed(f"sent an event of more than {MAX_EVENT // 2**20} MiB.") from None

    def _judge(self, event: bytes) -> None:
        if self._is_like_the_last(event):
            return
        document = _document(event)
        if document is None:
            raise self._failed("sent an event that is not JSON.")
        if b'"error"' in event and (error := refusals.error_of(document)) is not None:
            message = refusals.message_of(error, self._cleaner())
            raise self._failed(f"failed in mid-stream: {message}")
        choices = document.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict):
                    index = choice.get("index", 0)
                    if isinstance(index, int):
                        finished = bool(choice.get("finish_reason"))
                        self._choices[index] = finished or self._choices.get(index, False)
        self._like = b""
        if isinstance(self.response.content, SocketAnswer):  # an engine of ours speaks proper JSON
            begin, delta, _ = event.partition(_DELTA)
            if begin.count(b'"finish_reason":null') == begin.count(b'"index":') == 1:
                self._like = begin + delta

    def _is_like_the_last(self, event: bytes) -> bool:
        """Whether it has nothing to be judged that the last one had not: a choice that goes on. To
        read each token's event as JSON would cost what several other steps do together."""
        return (
            bool(self._like)
            and event.startswith(self._like)
            and event.count(_DELTA) == 1  # within a string, a quote has a backslash before it
            and b'"error"' not in event
        )

    def _failed(self, what: str) -> StreamFailed:
        self._end(whole=False)
        return StreamFailed(refusals.BAD_GATEWAY, f"{self._who} {what}")

    def _end(self, *, whole: bool) -> None:
        if self._ended is None:
            return
        ended, self._ended = self._ended, None
        self._events.clear()
        if isinstance(self.response.content, SocketAnswer):
            self.response.content.tell(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended(self, whole)

    # --- time limits ----------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look again when a time limit may have passed: one timer, however many events come."""
        now = time.monotonic()
        since = now if self._since is None else self._since
        if now >= self._deadline:
            self._expire("did not end its answer within the time limit.")
        elif now >= since + self._idle_timeout:
            self._expire(f"sent nothing for {self._idle_timeout:g} seconds.")
        else:
            due = min(self._deadline, since + self._idle_timeout)
            self._timer = asyncio.get_running_loop().call_later(
                due - now, _look_again, weakref.ref(self)
            )

    def _expire(self, what: str) -> None:
        self._timer = None
        self.break_off(StreamFailed(refusals.DEADLINE_EXCEEDED, f"{self._who} {what}"))


def _look_again(stream: "weakref.ref[ServerStream]") -> None:
    alive = stream()
    if alive is not None:
        alive._watch()


def _document(event: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(event)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
