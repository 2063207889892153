"""What a test is given: the calls that an endpoint got, and the faults that it has."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from lakeport.testing.replica import Run

#: Seconds by which a record's clock (milliseconds) and a run's may differ.
_CLOCK = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of an endpoint: what was asked, and what came of it. It holds no token."""

    endpoint: str
    #: Which served entity answered; None where none was reached.
    served_entity: str | None
    #: The name of who asked.
    caller: str
    time: datetime
    #: Until the answer, or the stream's end; None: it is still being answered.
    seconds: float | None
    #: Of the answer; None: there is none yet, or the connection was cut before it.
    status: int | None
    content_type: str | None
    #: The body, where it is JSON.
    request: Any
    #: The body as text, where it is no JSON.
    body: str | None
    #: The id of the fault that it met.
    fault: str | None
    #: The answer was a stream.
    stream: bool
    #: What a served function raised over it.
    error: BaseException | None = field(default=None, compare=False)


def calls_of(
    documents: Iterable[Mapping[str, Any]], runs: Mapping[str, Sequence["Run"]]
) -> list[Call]:
    """The server's records, each with what the function behind its endpoint raised.

    `runs`: the runs of each endpoint with a function, oldest first.
    """
    shown = list(documents)
    errors = _errors(shown, {endpoint: list(those) for endpoint, those in runs.items()})
    return [
        Call(
            endpoint=document["endpoint"],
            served_entity=document["served_entity"],
            caller=document["caller"],
            time=datetime.fromtimestamp(document["time"] / 1000, UTC),
            seconds=document["seconds"],
            status=document["status"],
            content_type=document["content_type"],
            request=document["request"],
            body=document["body"],
            fault=document["fault"],
            stream=document["stream"],
            error=errors.get(position),
        )
        for position, document in enumerate(shown)
    ]


def _errors(
    documents: Sequence[Mapping[str, Any]], left: dict[str, list["Run"]]
) -> dict[int, BaseException | None]:
    """What the run of each record raised, by the record's position.

    A run belongs to the first record of the same body that was under way when it began. What is
    left then, since a test may hold the clock, goes by order: a failure to a failed record.
    """
    found: dict[int, BaseException | None] = {}
    for under_way in (_under_way, _failed):
        for position, document in enumerate(documents):
            runs = left.get(document["endpoint"], [])
            digest = digest_of(document["request"])
            if position in found:
                continue
            for run in runs:
                if run.digest == digest and under_way(document, run):
                    found[position] = run.error
                    runs.remove(run)
                    break
    return found


def _under_way(document: Mapping[str, Any], run: "Run") -> bool:
    began, seconds = document["time"] / 1000, document["seconds"]
    until = float("inf") if seconds is None else began + seconds + _CLOCK
    return bool(began - _CLOCK <= run.began <= until)


def _failed(document: Mapping[str, Any], run: "Run") -> bool:
    failed = document["stream"] or (document["status"] or 0) >= 400
    return bool(run.error is not None and document["fault"] is None and failed)


def digest_of(request: Any) -> int | None:
    """A number by which a record and a run are known to be of one body; None: it is no JSON."""
    return None if request is None else hash(json.dumps(request, sort_keys=True))


class Fault:
    """A fault that an endpoint has, until `clear`, or the end of a `with` block, or of the test."""

    def __init__(
        self,
        document: Mapping[str, Any],
        *,
        look: Callable[[], Iterable[Mapping[str, Any]]],
        clear: Callable[[str], None],
    ) -> None:
        """`document`: as the server showed it. `look`: all faults that there are now."""
        self.id: str = document["id"]
        self.endpoint: str = document["endpoint"]
        self.kind: str = document["kind"]
        self._look = look
        self._clear = clear
        #: As it was when it was cleared.
        self._cleared: Mapping[str, Any] | None = None

    @property
    def left(self) -> int | None:
        """Calls still to come; None: no end; 0 when it is spent or cleared."""
        found = self._now()
        return 0 if found is None else found["left"]

    @property
    def hits(self) -> int:
        """Calls that met it, until it was cleared; 0 where another way than `clear` did so."""
        found = self._now() or self._cleared
        return 0 if found is None else int(found["hits"])

    def clear(self) -> None:
        """The endpoint answers as before. Says nothing when it is gone already."""
        self._cleared = self._now() or self._cleared
        self._clear(self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()

    def __repr__(self) -> str:
        return f"Fault({self.kind!r}, endpoint={self.endpoint!r}, id={self.id!r})"

    def _now(self) -> Mapping[str, Any] | None:
        return next((fault for fault in self._look() if fault["id"] == self.id), None)
