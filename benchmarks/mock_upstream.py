"""A server of chats that costs next to nothing: what a gateway adds is all that is left.

    python benchmarks/mock_upstream.py PORT

`POST .../chat/completions` on OpenAI's wire for the model MODEL: always the same answer, at once,
in one piece or as a stream of one event a word. Connections are kept open.
"""

import asyncio
import json
import sys
from typing import Any, cast

import uvloop

MODEL = "m"
WORDS = [f"word{number} " for number in range(20)]
TEXT = "".join(WORDS)
USAGE = {"prompt_tokens": 24, "completion_tokens": len(WORDS), "total_tokens": 24 + len(WORDS)}

_HEAD = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _whole(document: dict[str, Any], status: bytes = b"200 OK") -> bytes:
    body = _json(document)
    return _HEAD % (status, len(body)) + body


def _completion(kind: str, **more: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": MODEL, **more}


def _event(data: bytes) -> bytes:
    """One event of a stream as one chunk of HTTP."""
    line = b"data: " + data + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(line), line)


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _event(_json(_completion("chat.completion.chunk", choices=[choice])))


_MESSAGE = {"role": "assistant", "content": TEXT}
_CHOICE = {"index": 0, "message": _MESSAGE, "finish_reason": "stop"}
_ANSWER = _whole(_completion("chat.completion", choices=[_CHOICE], usage=USAGE))
_EVENTS = [
    _chunk({"role": "assistant", "content": WORDS[0]}),
    *(_chunk({"content": word}) for word in WORDS[1:]),
    _chunk({}, "stop"),
]
_USAGE_EVENT = _event(_json(_completion("chat.completion.chunk", choices=[], usage=USAGE)))
_END = _event(b"[DONE]") + b"0\r\n\r\n"


def _error(status: bytes, message: str) -> bytes:
    return _whole({"error": {"message": message, "type": "invalid_request_error"}}, status)


class Upstream(asyncio.Protocol):
    """One connection. Bodies need a Content-Length."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            _, found, after = head.partition(b"content-length:")
            length = int(after.split(b"\r\n", 1)[0]) if found else 0
            if b"transfer-encoding: chunked" in head:
                self._transport.write(_error(b"411 Length Required", "Content-Length is needed"))
                self._transport.close()
                return
            if len(self._received) < end + 4 + length:
                return
            body = self._received[end + 4 : end + 4 + length]
            self._received = self._received[end + 4 + length :]
            self._answer(head.split(b" ", 2)[1], body)

    def _answer(self, path: bytes, body: bytes) -> None:
        if not path.endswith(b"/chat/completions"):
            self._transport.write(_error(b"404 Not Found", "only chat completions are served"))
            return
        asked = json.loads(body)
        if asked["model"] != MODEL:  # a gateway puts the model's own name in
            self._transport.write(_error(b"404 Not Found", f"there is no model {asked['model']}"))
        elif asked.get("stream"):
            self._stream(usage=bool((asked.get("stream_options") or {}).get("include_usage")))
        else:
            self._transport.write(_ANSWER)

    def _stream(self, *, usage: bool) -> None:
        # Event by event, as a model makes them, and not in one piece.
        write = self._transport.write
        write(_STREAM_HEAD + _EVENTS[0])
        for event in _EVENTS[1:]:
            write(event)
        if usage:
            write(_USAGE_EVENT)
        write(_END)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
