"""Drives flows with plain values: no server, no clock but ours."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

from lakeport.client.cache import Cache
from lakeport.client.calls import Context
from lakeport.client.errors import LakeportError
from lakeport.client.flow import Flow, Request, Response, Sleep, Step
from lakeport.client.recording import PredictionEvent
from lakeport.client.retry import Retry

T = TypeVar("T")
HOST = "https://w.example.com"


def reply(body: object = None, status: int = 200, **headers: str) -> Response:
    content = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    named = {"content-type": "application/json"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, named, content)


Answers = Iterable[Response | LakeportError] | Callable[[Request], Response | LakeportError]


@dataclass
class World:
    """Its clock moves when a flow sleeps, and by `takes` with each request."""

    answers: Answers = ()
    time: float = 1000.0
    takes: float = 0.0
    steps: list[Step] = field(default_factory=list)
    _script: Iterator[Response | LakeportError] | None = None

    def context(self, retry: Retry | None = None, *, ttl: float = 60.0, **more: Any) -> Context:
        clock: dict[str, Any] = {
            "clock": lambda: self.time,
            "now": lambda: self.time,
            "draw": lambda: 1.0,
        }
        cache = Cache(ttl, clock=lambda: self.time)
        return Context(HOST, retry or Retry(attempts=1), cache, **{**clock, **more})

    def run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                self.steps.append(step)
                if isinstance(step, Sleep):
                    self.time += step.seconds
                    step = flow.send(None)
                    continue
                if not isinstance(step, Request):
                    step = flow.send(step.function())
                    continue
                self.time += self.takes
                found = self._answer(step)
                step = flow.throw(found) if isinstance(found, Exception) else flow.send(found)
        except StopIteration as end:
            value: T = end.value
            return value

    def _answer(self, request: Request) -> Response | LakeportError:
        if callable(self.answers):
            return self.answers(request)
        self._script = self._script or iter(self.answers)
        return next(self._script)

    @property
    def requests(self) -> list[Request]:
        return [step for step in self.steps if isinstance(step, Request)]

    @property
    def slept(self) -> list[float]:
        return [step.seconds for step in self.steps if isinstance(step, Sleep)]


class Log:
    """A recorder that keeps all."""

    def __init__(self) -> None:
        self.events: list[PredictionEvent] = []

    def record(self, event: PredictionEvent) -> None:
        self.events.append(event)


def by_path(
    known: Mapping[str, Response | LakeportError],
) -> Callable[[Request], Response | LakeportError]:
    """Answers by the end of a request's path; 404 for others."""

    def answer(request: Request) -> Response | LakeportError:
        for path, found in known.items():
            if request.path.endswith(path):
                return found
        return reply({"error_code": "ENDPOINT_NOT_FOUND", "message": "No API found"}, 404)

    return answer
