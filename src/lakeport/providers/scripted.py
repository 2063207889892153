"""Scripted endpoints: a `Runtime` and `Connector` whose replicas answer from a script."""

import asyncio
import base64
import itertools
import logging
import struct
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from lakeport.models.mlmodel import read_bounded
from lakeport.providers import script
from lakeport.providers.base import SCRIPTED_SCHEME
from lakeport.providers.replica import AddressOnly
from lakeport.providers.script import BadScript, Script, Turn
from lakeport.runtimes.base import (
    Answer,
    Call,
    DeploymentSpec,
    ModelInterface,
    ReplicaLost,
    StartFailed,
    Stream,
    Take,
    Taken,
)
from lakeport.wire.chat import Operation

log = logging.getLogger(__name__)

CREDIT = 4096
#: Bytes of a script.
MAX_SCRIPT = 1024 * 1024


def read_script(path: str) -> Script:
    """The script in a file. Raises StartFailed."""
    try:
        return script.parse(read_bounded(Path(path), MAX_SCRIPT))
    except BadScript as problem:
        raise StartFailed(f"The script cannot be used: {problem}.") from problem
    except ValueError as problem:
        raise StartFailed(f"The script cannot be read: {problem}.") from problem
    except OSError as problem:
        raise StartFailed(f"The script cannot be read: {problem.strerror}.") from problem


class ScriptedRuntime:
    """Reads a script when its deployment starts; `connect` gives a link that answers from it."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        self._scripts.clear()

    async def prepare(self, spec: DeploymentSpec) -> None:
        given = (spec.external or {}).get("script")
        if given is None:
            self._scripts[spec.id] = await asyncio.to_thread(read_script, spec.path or "")
            return
        try:
            self._scripts[spec.id] = script.in_document(given)
        except BadScript as problem:
            raise StartFailed(f"The script cannot be used: {problem}.") from problem

    async def start(self, spec: DeploymentSpec, replica_id: str) -> AddressOnly:
        if spec.id not in self._scripts:
            await self.prepare(spec)
        return AddressOnly(replica_id, f"{SCRIPTED_SCHEME}:{spec.id}")

    def logs(self, deployment_id: str) -> str:
        return ""

    def build_logs(self, deployment_id: str) -> str:
        return ""

    def forget(self, deployment_id: str) -> None:
        self._scripts.pop(deployment_id, None)

    def signature(self, spec: DeploymentSpec) -> ModelInterface | None:
        return None

    async def connect(self, address: str) -> "ScriptedLink":
        found = self._scripts.get(address.removeprefix(f"{SCRIPTED_SCHEME}:"))
        if found is None:
            raise ReplicaLost("there is no such script any more")
        return ScriptedLink(found)


class ScriptedLink:
    """Answers each call by itself."""

    credit = CREDIT

    def __init__(self, answers: Script) -> None:
        self._script = answers
        self._loop = asyncio.get_running_loop()
        self.outstanding = 0
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def send(self, call: Call, taken: Taken) -> "_Sending":
        self.outstanding += 1
        sending = _Sending(self)
        sending.task = self._loop.create_task(self._run(call, taken, sending))
        return sending

    async def _run(self, call: Call, taken: Taken, sending: "_Sending") -> None:
        try:
            result = await self._answer(call)
        except Exception:  # whoever waits must hear of it
            log.exception("a call failed in an unforeseen way")
            result = Answer(500, b"", error=("INTERNAL_ERROR", "The script could not be played."))
        sending.over = True
        if isinstance(result, Answer):  # a stream holds its place until it ends
            self.outstanding -= 1
        taken(result)

    def close(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    async def _answer(self, call: Call) -> "Answer | Stream":
        request = orjson.loads(call.body)
        if call.operation is Operation.EMBEDDINGS:
            return Answer(200, _embeddings(self._script, request))
        messages = request.get("messages") or [
            {"role": "user", "content": prompt}
            for prompt in [request.get("prompt")]
            if isinstance(prompt, str)
        ]
        turn = script.answer(self._script, messages)
        if turn.delay:
            await asyncio.sleep(turn.delay)
        if turn.status != 200:
            error = {"message": turn.text, "type": "scripted", "code": turn.status}
            return Answer(turn.status, orjson.dumps({"error": error}), retry_after=turn.retry_after)
        if call.stream:
            return _ScriptedStream(self, chunks(turn, request, call.operation), turn.delay)
        return Answer(200, orjson.dumps(whole(turn, request, call.operation)))


class _Sending:
    """One call under way."""

    __slots__ = ("_link", "over", "task")

    def __init__(self, link: ScriptedLink) -> None:
        self._link = link
        self.over = False
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> bool:
        if not self.over and self.task is not None:
            self.over = True
            self.task.cancel()  # which may not even have begun
            self._link.outstanding -= 1
        return False


class _ScriptedStream:
    """A turn word by word."""

    def __init__(self, link: ScriptedLink, events: Iterator[bytes], delay: float) -> None:
        self._link = link
        self._events = events
        self._delay = delay
        self._open = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._run()

    async def _run(self) -> AsyncIterator[bytes]:
        try:
            for position, event in enumerate(self._events):
                if not self._open:
                    return
                # Also without a delay other requests get their turn between two words.
                await asyncio.sleep(self._delay if position else 0)
                yield event
        finally:
            self.close()

    def push(self, take: Take) -> bool:
        return False

    def close(self) -> None:
        if self._open:
            self._open = False
            self._link.outstanding -= 1


_serial = itertools.count(1)


def _head(request: Mapping[str, Any], operation: Operation | None, kind: str) -> dict[str, Any]:
    prefix = "cmpl" if operation is Operation.COMPLETIONS else "chatcmpl"
    return {
        "id": f"{prefix}-scripted-{next(_serial)}",
        "object": "text_completion" if operation is Operation.COMPLETIONS else kind,
        "created": int(time.time()),
        "model": request.get("model", "scripted"),
    }


def whole(turn: Turn, request: Mapping[str, Any], operation: Operation | None) -> dict[str, Any]:
    """A turn as one answer."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": turn.finish_reason, "logprobs": None}
    if operation is Operation.COMPLETIONS:
        choice["text"] = turn.text
    else:
        message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
        if turn.tool_calls:
            message["tool_calls"] = _calls(turn)
        else:
            message["content"] = turn.text
        choice["message"] = message
    return _head(request, operation, "chat.completion") | {
        "choices": [choice],
        "usage": usage(turn, request),
    }


def chunks(turn: Turn, request: Mapping[str, Any], operation: Operation | None) -> Iterator[bytes]:
    """A turn as the events of a stream; the last has the usage, where it was asked for."""
    head = _head(request, operation, "chat.completion.chunk")

    def event(choice: dict[str, Any] | None, **more: Any) -> bytes:
        choices = [] if choice is None else [{"index": 0, "finish_reason": None} | choice]
        return orjson.dumps(head | {"choices": choices} | more)

    if operation is Operation.COMPLETIONS:
        for word in script.words(turn.text):
            yield event({"text": word})
        yield event({"text": "", "finish_reason": turn.finish_reason})
    else:
        yield event({"delta": {"role": "assistant", "content": ""}})
        for word in script.words(turn.text):
            yield event({"delta": {"content": word}})
        for index, call in enumerate(_calls(turn)):
            yield event({"delta": {"tool_calls": [{"index": index} | call]}})
        yield event({"delta": {}, "finish_reason": turn.finish_reason})
    if (request.get("stream_options") or {}).get("include_usage"):
        yield event(None, usage=usage(turn, request))


def _calls(turn: Turn) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_scripted_{next(_serial)}",
            "type": "function",
            "function": {"name": call.name, "arguments": script.arguments(call)},
        }
        for call in turn.tool_calls
    ]


def usage(turn: Turn, request: Mapping[str, Any]) -> dict[str, Any]:
    """What the script says; words are counted for what it does not, and that is said."""
    asked = [script.text_of(m.get("content")) for m in request.get("messages") or []]
    asked.append(str(request.get("prompt") or ""))
    counted = {
        "prompt_tokens": sum(len(text.split()) for text in asked),
        "completion_tokens": len(turn.text.split()),
    } | dict(turn.usage)
    total = counted["prompt_tokens"] + counted["completion_tokens"]
    said = {"prompt_tokens", "completion_tokens"} <= turn.usage.keys()
    return counted | {"total_tokens": total} | ({} if said else {"estimated": True})


def _embeddings(answers: Script, request: Mapping[str, Any]) -> bytes:
    given = request.get("input", "")
    texts = [given] if isinstance(given, str) else [str(text) for text in given]
    as_text = request.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(texts):
        vector = script.embedding(answers, text)
        shown: Any = list(vector)
        if as_text:
            shown = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": shown})
    counted = sum(len(text.split()) for text in texts)
    return orjson.dumps(
        {
            "object": "list",
            "data": data,
            "model": request.get("model", "scripted"),
            "usage": {"prompt_tokens": counted, "total_tokens": counted, "estimated": True},
        }
    )
