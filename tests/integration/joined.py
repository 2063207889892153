"""A test's own process that joins as a replica: one end of the worker protocol, in a thread."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from lakeport.worker import protocol
from lakeport.worker.protocol import Frame, FrameReader

SECRET = "0123456789abcdef" * 2

#: Gets a call's note and its body as JSON; answers a JSON value, or a list of events of a stream.
Answers = Callable[[dict[str, Any], Any], Any]


class Stream(list[Any]):
    """An answer in events."""


class JoinedProcess:
    """Listens at `path` until `close`; each call is answered on a thread of its own."""

    def __init__(self, path: Path, answers: Answers) -> None:
        self.path = path
        self.address = f"unix:{path}#{SECRET}"
        self._answers = answers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = self._run(asyncio.start_unix_server(self._front, path))

    def close(self) -> None:
        """Gone, as when its process ends."""

        async def end() -> None:
            self._server.close()
            for writer in self._writers:
                writer.close()

        self._run(end())
        self.path.unlink(missing_ok=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _front(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        frames = FrameReader(1 << 26)
        while data := await reader.read(1 << 16):
            for frame in frames.feed(data):
                if frame.kind == protocol.HELLO:
                    if orjson.loads(frame.note)["secret"] != SECRET:
                        writer.close()
                        return
                    note = orjson.dumps({"protocol": protocol.VERSION, "credit": 8})
                    writer.write(protocol.frame(protocol.WELCOME, 0, note=note))
                elif frame.kind == protocol.CALL:
                    threading.Thread(target=self._answer, args=(frame, writer), daemon=True).start()
        writer.close()

    def _answer(self, frame: Frame, writer: asyncio.StreamWriter) -> None:
        note = orjson.loads(frame.note) if frame.note else {}
        note["seconds_left"] = frame.time / 1000
        value = self._answers(note, orjson.loads(frame.body))
        if isinstance(value, Stream):
            sent = [protocol.frame(protocol.STREAM, frame.id)]
            sent += [protocol.frame(protocol.CHUNK, frame.id, orjson.dumps(e)) for e in value]
            sent.append(protocol.frame(protocol.END, frame.id))
        else:
            body = orjson.dumps(value)
            sent = [protocol.frame(protocol.ANSWER, frame.id, body, status=200)]
        self._loop.call_soon_threadsafe(writer.write, b"".join(sent))


@contextlib.contextmanager
def joined(path: Path, answers: Answers) -> Iterator[JoinedProcess]:
    """Listens, and is gone at the end."""
    process = JoinedProcess(path, answers)
    try:
        yield process
    finally:
        with contextlib.suppress(RuntimeError):  # closed already
            process.close()


def waits(seconds: float) -> Answers:
    """Answers what it got, after so many seconds."""

    def answer(note: dict[str, Any], body: Any) -> Any:
        time.sleep(seconds)
        return {"predictions": body, "note": note}

    return answer
