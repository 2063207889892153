"""Chat, whole and streamed, and embeddings."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from lakeport.client.answers import Chat, ChatChunk, Embeddings
from lakeport.client.calls import Context, Reply, send
from lakeport.client.calls_inspect import check_state
from lakeport.client.calls_query import (
    Options,
    checked,
    expect,
    forget,
    is_for_responses,
    prepared,
    query,
    record,
    request_of,
)
from lakeport.client.encode import Encoded, Given
from lakeport.client.errors import BadAnswer, BadRequest, LakeportError
from lakeport.client.flow import Flow, Request
from lakeport.client.readings import loads, read_chunk
from lakeport.client.refusals import error_in_stream
from lakeport.client.sse import EventParser

#: Options that are the client's; all others are fields of the body.
_OWN = frozenset(field.name for field in fields(Options))


def chat(
    context: Context, name: str, messages: str | Sequence[Any], options: Mapping[str, Any]
) -> Flow[Chat]:
    """See `Client.chat`."""
    own, more = split(options)
    asked = query(context, name, Given(messages=messages, fields=more), own)
    return expect(asked, Chat, "a chat")


def embed(
    context: Context, name: str, texts: str | Sequence[str], options: Mapping[str, Any]
) -> Flow[Embeddings]:
    """See `Client.embed`."""
    own, more = split(options)
    asked = query(context, name, Given(input=texts, fields=more), own)
    return expect(asked, Embeddings, "embeddings")


def split(options: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """The client's options, and fields of the body. Those that are None are left out."""
    own = {key: value for key, value in options.items() if key in _OWN and value is not None}
    more = {key: value for key, value in options.items() if key not in _OWN and value is not None}
    return Options(**own), more


@dataclass(slots=True)
class OpenChat:
    """A stream that has begun."""

    #: The transport's: to be read and closed.
    stream: Any
    reading: "ChatReading"


def open_chat(
    context: Context, name: str, messages: str | Sequence[Any], options: Mapping[str, Any]
) -> Flow[OpenChat]:
    """Begin a streamed chat. It is sent again by the retry rule until its answer begins, and never
    after."""
    own, more = split(options)
    checked(name, own)
    if own.check_state:
        yield from check_state(context, name)
    given = Given(messages=messages, fields={**more, "stream": True})
    try:
        return (yield from _opened(context, name, given, own))
    except BadRequest as error:
        if not (yield from is_for_responses(context, name, given, error)):
            raise
    return (yield from _opened(context, name, given, own))


def _opened(context: Context, name: str, given: Given, own: Options) -> Flow[OpenChat]:
    encoded = yield from prepared(context, name, given, own)
    request = request_of(name, encoded, own, stream=True)
    began, now = context.clock(), context.now()
    try:
        reply = yield from send(context, request, own.retry)
    except LakeportError as error:
        forget(context, name, error)
        record(context, request, encoded, now, context.clock() - began, error=error)
        raise
    reading = ChatReading(context, name, request, encoded, reply, began=began, now=now)
    return OpenChat(reply.response.stream, reading)


class ChatReading:
    """Bytes of a stream in, chunks out; no I/O. Tells the log once, when it is over."""

    def __init__(
        self,
        context: Context,
        name: str,
        request: Request,
        encoded: Encoded,
        reply: Reply,
        *,
        began: float,
        now: float,
    ) -> None:
        self._context = context
        self._name = name
        self._request = request
        self._encoded = encoded
        self._reply = reply
        self._began = began
        self._now = now
        self._parser = EventParser()
        self._ready: deque[ChatChunk | LakeportError] = deque()
        self._whole = Chat(
            endpoint=name,
            body=None,
            served_entity=reply.response.headers.get("served-model-name"),
            request_id=reply.request_id,
            attempts=reply.attempts,
        )
        self._texts: list[str] = []
        self._over = False
        #: `[DONE]` was there.
        self.done = False
        kind = reply.response.headers.get("content-type", "")
        if not kind.startswith("text/event-stream"):
            self._fail(f"The answer is no stream but {kind or 'of no type'}: use chat.")

    def feed(self, piece: bytes | None) -> None:
        """Take what was read; None: that was all."""
        try:
            events = self._parser.end() if piece is None else self._parser.feed(piece)
        except BadAnswer as error:
            self._fail(error.message)
            return
        for event in events:
            if not self.done:
                self._take(event.data)
        if piece is None and not self.done and not self._failed:
            self._fail("The stream ended before the answer did: there was no [DONE].")

    def next(self) -> ChatChunk | None:
        """The next chunk; None: there is none yet. Raises what an event or the end tells of."""
        if not self._ready:
            return None
        found = self._ready.popleft()
        if isinstance(found, LakeportError):
            self.close(found)
            raise found
        self._texts.append(found.text)
        self._whole = replace(
            self._whole,
            finish_reason=found.finish_reason or self._whole.finish_reason,
            usage=found.usage or self._whole.usage,
        )
        return found

    def close(self, error: LakeportError | None = None) -> None:
        """It is over: with an error, at its end, or since nobody wants the rest."""
        if self._over:
            return
        self._over = True
        if error is not None:
            error.attempts = self._reply.attempts
        took = self._context.clock() - self._began
        whole = replace(self._whole, text="".join(self._texts), seconds=took)
        record(
            self._context,
            self._request,
            self._encoded,
            self._now,
            took,
            answer=None if error else replace(whole, body=_as_whole(whole)),
            error=error,
        )

    @property
    def _failed(self) -> bool:
        return bool(self._ready) and isinstance(self._ready[-1], LakeportError)

    def _take(self, data: str) -> None:
        if data.strip() == "[DONE]":
            self.done = True
            return
        try:
            document = loads(data)
        except ValueError:
            self._fail("An event of the stream is no JSON.")
            return
        error = error_in_stream(document, self._name, self._reply.request_id)
        try:
            self._ready.append(error or read_chunk(document, self._name))
        except BadAnswer as bad:
            self._fail(bad.message)
        else:
            self.done = error is not None

    def _fail(self, message: str) -> None:
        self.done = True
        self._ready.append(
            BadAnswer(message, endpoint=self._name, request_id=self._reply.request_id)
        )


def _as_whole(chat: Chat) -> dict[str, Any]:
    """The body that says the same in an answer without a stream, so that a log has one form."""
    message = {"role": chat.role, "content": chat.text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": chat.finish_reason}]}
