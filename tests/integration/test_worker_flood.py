"""Many requests of mixed shapes, forms and params at once: each caller has its own answer."""

import asyncio
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lakeport.worker import protocol
from lakeport.worker.protocol import Frame, FrameReader
from tests.integration.worker_process import SECRET, WorkerProcess, worker
from tests.models.fixtures import SavedModel

CONNECTIONS = 4
CALLS = 150


@dataclass(slots=True)
class Front:
    """One connection that sends all its calls in pieces, and keeps what comes back."""

    number: int
    bodies: list[bytes]
    answers: dict[int, Frame] = field(default_factory=dict)

    async def run(self, path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(str(path))
        note = json.dumps({"protocol": protocol.VERSION, "secret": SECRET}).encode()
        writer.write(protocol.frame(protocol.HELLO, 0, note=note))
        sent = asyncio.create_task(self._send(writer))
        frames = FrameReader(protocol.MAX_ANSWER)
        while len(self.answers) < len(self.bodies):
            data = await reader.read(65536)
            assert data, "the worker ended the connection"
            for frame in frames.feed(data):
                if frame.kind != protocol.WELCOME:
                    assert frame.kind == protocol.ANSWER
                    assert frame.id not in self.answers
                    self.answers[frame.id] = frame
        await sent
        writer.close()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        draw = random.Random(self.number)
        data = b"".join(
            protocol.frame(protocol.CALL, id, body, time=60_000)
            for id, body in enumerate(self.bodies)
        )
        while data:
            size = draw.choice([7, 300, 4_000, 20_000])
            writer.write(data[:size])
            data = data[size:]
            await writer.drain()


def request(draw: random.Random, number: int) -> tuple[Any, list[str] | None]:
    """A body, and the answer of the model `params` to it; None: it is refused."""
    values = [round(draw.uniform(-9, 9), 2) + 10 * number for _ in range(draw.choice([1, 1, 2, 7]))]
    form = draw.choice(["split", "records", "instances", "inputs"])
    forms: dict[str, Any] = {
        "split": {"dataframe_split": {"columns": ["x"], "data": [[value] for value in values]}},
        "records": {"dataframe_records": [{"x": value} for value in values]},
        "instances": {"instances": [{"x": value} for value in values]},
        "inputs": {"inputs": {"x": values}},
    }
    body = forms[form]
    temperature = 0.5
    if draw.random() < 0.2:
        temperature = draw.choice([0.25, 2.0])
        body["params"] = {"temperature": temperature}
    elif draw.random() < 0.1:
        body["params"] = {}
    if draw.random() < 0.1:
        wrong = draw.choice([{"dataframe_split": {"data": "x"}}, {"inputs": {"y": [1]}}, {"x": 1}])
        return wrong, None
    return body, [f"{value:g} at {temperature:g}" for value in values]


async def flood(found: WorkerProcess) -> list[Frame]:
    """All answers, each checked."""
    fronts, expected = [], []
    for number in range(CONNECTIONS):
        draw = random.Random(number)
        asked = [request(draw, number * CALLS + at) for at in range(CALLS)]
        fronts.append(Front(number, [json.dumps(body).encode() for body, _ in asked]))
        expected.append([answer for _, answer in asked])

    await asyncio.wait_for(asyncio.gather(*(front.run(found.socket) for front in fronts)), 60)

    for front, answers in zip(fronts, expected, strict=True):
        for id, answer in enumerate(answers):
            frame = front.answers[id]
            if answer is None:
                assert frame.status == 400
            else:
                assert frame.status == 200, frame.note
                assert json.loads(frame.body) == {"predictions": answer}
    return [frame for front in fronts for frame in front.answers.values()]


@pytest.mark.parametrize("merge", [True, None])
async def test_a_flood_of_mixed_requests_is_answered_one_by_one(
    saved_model: SavedModel, merge: bool | None
) -> None:
    async with worker(saved_model("params"), merge=merge) as found:
        frames = await flood(found)

    shared = [frame.batch for frame in frames if frame.batch > 1]
    assert bool(shared) is (merge is True)
    assert all(2 <= batch <= 64 for batch in shared)
