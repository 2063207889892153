"""How busy served entities are, now and lately: routes of Lakeport's own."""

from typing import Literal

from pydantic import BaseModel

from lakeport.wire.endpoints import Ready


class LiveReplica(BaseModel):
    id: str
    #: All that was measured is null until the first look at it.
    pid: int | None
    #: Of one core.
    cpu_percent: float | None
    memory_bytes: int | None
    #: 0: no limit.
    memory_limit_bytes: int | None


class LiveEntity(BaseModel):
    name: str
    model: str
    #: "" where there is none.
    version: str
    #: Whether it has no replica, and gets one with the next request.
    scaled_to_zero: bool
    replicas: list[LiveReplica]
    #: Over the last ten seconds.
    requests_per_second: float
    #: Answered 4xx or 5xx.
    errors_per_second: float
    #: Null without requests.
    p50_ms: float | None
    p99_ms: float | None
    #: Requests that wait, and that replicas hold.
    queue: int
    in_flight: int
    #: Requests that its replicas take at a time.
    provisioned_concurrency: int
    cold_starts: int


class LiveEndpoint(BaseModel):
    name: str
    state: Ready
    entities: list[LiveEntity]


class Live(BaseModel):
    #: Milliseconds since the epoch.
    at: int
    endpoints: list[LiveEndpoint]


class Series(BaseModel):
    """Columns of one length, oldest first. Null: nothing was measured at that moment."""

    endpoint: str
    served_entity: str
    range: Literal["15m", "24h"]
    #: Milliseconds that a row stands for.
    step: int
    #: The end of each row, in milliseconds since the epoch.
    time: list[int]
    requests: list[float | None]
    errors_4xx: list[float | None]
    errors_5xx: list[float | None]
    #: Null without requests.
    p50_ms: list[float | None]
    p99_ms: list[float | None]
    queue: list[float | None]
    in_flight: list[float | None]
    replicas: list[float | None]
    #: Of all replicas.
    cpu_percent: list[float | None]
    memory_bytes: list[float | None]
    tokens: list[float | None]
