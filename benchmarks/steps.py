"""`python benchmarks/steps.py`: microseconds of CPU that each step of an invocation costs.

Without sockets and without load: each step alone, in one thread, 32 requests at a time, the least
of some rounds. So it is what the code itself costs; the kernel, cold caches and the loop come on
top. docs/internals/request-path.md has the table.
"""

import argparse
import asyncio
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from models import MODELS, SavedModel, save

from lakeport.auth.callers import USERS, AccessList, Caller, Level
from lakeport.runtimes.local.link import WorkerLink
from lakeport.serving.deployment import QueueLimits
from lakeport.serving.invoke import Front
from lakeport.serving.ports import Invocation, Outcome
from lakeport.serving.routes import Condition, EndpointRoute, Share
from lakeport.telemetry.metrics import Metrics
from lakeport.worker import model, protocol, request_body
from lakeport.worker import scorer as scoring
from lakeport.worker.call import Call
from lakeport.worker.connection import Connection

#: Requests at a time: those of 32 connections.
AT_ONCE = 32
ROUNDS, TIMES = 15, 100
#: Seconds of a round, however large the requests.
LONGEST = 0.1
#: Milliseconds: no call is late, however long this takes.
_DAY = 86_400_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=["iris", "xgboost"])
    parser.add_argument("--rows", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with TemporaryDirectory(prefix="lakeport-steps-") as folder:
        for name in args.models:
            saved = save(name, Path(folder))
            body = saved.body(args.rows)
            print(f"\n{name}, {args.rows} row(s), {len(body)} bytes")
            asyncio.run(front(body))
            worker(saved, body)


def cost(step: str, work: Callable[[], object]) -> None:
    """Print what `work`, on AT_ONCE requests, costs each of them."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.thread_time()
        took, done = 0.0, 0
        while done < TIMES and took < LONGEST:
            work()
            done += 1
            took = time.thread_time() - began
        best = min(best, took / done)
    print(f"  {step:58} {best / AT_ONCE * 1e6:7.2f}")


class _Nowhere(asyncio.Transport):
    """Takes what is written."""

    def write(self, data: Any) -> None:
        """Nothing comes of it."""

    def abort(self) -> None:
        """Nor of this."""


class _Connector:
    async def connect(self, address: str) -> WorkerLink:
        self.link = WorkerLink(asyncio.get_running_loop())
        self.link.connection_made(_Nowhere())
        note = b'{"protocol":%d,"credit":64}' % protocol.VERSION
        self.link.data_received(protocol.frame(protocol.WELCOME, 0, note=note))
        await self.link.greet("")
        return self.link


async def front(body: bytes) -> None:
    """The server's side, from the door's call to the door's answer."""
    connector = _Connector()
    limits = QueueLimits(requests=1024, bytes=1 << 26, ready_wait=10, timeout=120)
    front = Front(connector, limits, Metrics())
    caller = Caller("1", "ann", frozenset({USERS}))
    access = AccessList(groups={USERS: Level.CAN_QUERY})
    share = Share("m-1", "d", 100)
    front.publish({"m": EndpointRoute("m", Condition.SERVING, access, (share,))})
    front.set_replicas("d", {"r": "there"})
    await asyncio.sleep(0.01)
    told: list[Outcome] = []
    answered = 0

    def ask() -> None:
        for _ in range(AT_ONCE):
            asked = Invocation("m", None, body, "application/json", None, "request")
            front.begin(caller, asked, told.append)

    def ask_and_answer() -> None:
        nonlocal answered
        ask()
        answers = [
            protocol.answer(answered + number, b'{"predictions":[0]}', time=20, batch=AT_ONCE)
            for number in range(1, AT_ONCE + 1)
        ]
        answered += AT_ONCE
        connector.link.data_received(b"".join(answers))
        assert len(told) == AT_ONCE
        told.clear()

    cost("server: route, permission, lease, frame; answer, metrics", ask_and_answer)
    cost("  of that, the frames that the worker would make", lambda: [
        protocol.answer(1, b'{"predictions":[0]}', time=20, batch=AT_ONCE) for _ in range(AT_ONCE)
    ])  # fmt: skip


def worker(saved: SavedModel, body: bytes) -> None:
    """The worker's side, from its frames to its frames."""
    loaded = model.load(saved.folder, merge=None)
    scorer = scoring.Scorer(loaded, max_body=1 << 24)
    reader = protocol.FrameReader(1 << 24)
    frames = b"".join(
        protocol.frame(protocol.CALL, number, body, time=_DAY) for number in range(AT_ONCE)
    )
    cost("worker: cut frames", lambda: reader.feed(frames))
    now = time.monotonic()
    connection = Connection(
        None,  # type: ignore[arg-type]
        secret="",
        credit=64,
        max_body=1 << 24,
        wake=lambda: None,
    )

    def calls() -> list[Call]:
        made = [connection._call(frame, now) for frame in reader.feed(frames)]
        connection.calls.clear()
        return made

    cost("  cut frames, make calls", calls)
    made = calls()
    cost("  JSON alone", lambda: [request_body.loads(body, exact_integers=False) for _ in made])
    cost("  JSON, checks, typed arrays", lambda: [scorer._plan(call, now) for call in made])
    cost("  all from calls to answers, the model among it", lambda: list(scorer.batch(made)))
    planned = [scorer._plan(call, now) for call in made]
    if loaded.plan is not None and all(planned):
        data = loaded.plan.join([each.asked for each in planned if each is not None])
        cost("  of that, the model", lambda: loaded.predict_planned(data))


if __name__ == "__main__":
    main()
