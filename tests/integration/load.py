"""A load of invocations: plain threads, each on a connection that it keeps."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.integration.server import ServerProcess, wait_for


@dataclass(frozen=True, slots=True)
class Answered:
    """One request. `status` is 0 when the connection broke."""

    status: int
    #: The header `served-model-name`.
    entity: str | None
    body: bytes
    began: float
    ended: float


@dataclass(slots=True)
class Tally:
    """What a load has come to so far."""

    answers: list[Answered] = field(default_factory=list)

    @property
    def failed(self) -> list[Answered]:
        return [answer for answer in self.answers if answer.status != 200]

    @property
    def by_entity(self) -> Counter[str | None]:
        return Counter(answer.entity for answer in self.answers)

    def grows_by(self, count: int) -> None:
        """Wait for so many further answers."""
        before = len(self.answers)
        wait_for(lambda: len(self.answers) >= before + count, what=f"{count} further answers")

    def __str__(self) -> str:
        statuses = Counter(answer.status for answer in self.answers)
        slowest = max((answer.ended - answer.began for answer in self.answers), default=0.0)
        return f"{len(self.answers)} sent, statuses {dict(statuses)}, slowest {slowest:.2f} s"


@contextmanager
def load(
    server: ServerProcess,
    endpoint: str,
    body: Callable[[], object] | object,
    *,
    threads: int = 4,
    pause: float = 0.0,
) -> Iterator[Tally]:
    """Ask `endpoint` again and again until this exits; every request is in the tally by then.

    `pause` is seconds between two requests of one thread.
    """
    tally = Tally()
    stop = threading.Event()
    host, port = server.address
    path = f"/serving-endpoints/{endpoint}/invocations"
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}

    def ask() -> None:
        connection = http.client.HTTPConnection(host, port, timeout=120)
        while not stop.is_set():
            sent = json.dumps(body() if callable(body) else body)
            began = time.monotonic()
            try:
                connection.request("POST", path, sent, headers)
                answer = connection.getresponse()
                content = answer.read()
                status, entity = answer.status, answer.getheader("served-model-name")
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                status, entity, content = 0, None, repr(error).encode()
            tally.answers.append(Answered(status, entity, content, began, time.monotonic()))
            stop.wait(pause)
        connection.close()

    asking = [threading.Thread(target=ask, daemon=True) for _ in range(threads)]
    for thread in asking:
        thread.start()
    try:
        yield tally
    finally:
        stop.set()
        for thread in asking:
            thread.join()
