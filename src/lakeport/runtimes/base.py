"""The runtime's port: where replicas run, and how to talk to one.

Two halves. Control uses a `Runtime` to prepare a model once and to start and stop replicas of it.
The front uses a `Connector` to reach a replica by its address alone, so that a front in another
process could do the same.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from lakeport.wire.chat import Operation


class StartFailed(Exception):
    """A model could not be prepared, or a replica did not become ready; the message says why."""


class ReplicaLost(Exception):
    """The replica died, or its connection broke, while it held the request."""


class Kind(StrEnum):
    """Who answers for a served entity."""

    #: An MLflow model in worker processes.
    MODEL = "model"
    #: A chat or embedding model in an engine of ours: llama.cpp, vLLM, the embedder.
    ENGINE = "engine"
    #: An outside server.
    EXTERNAL = "external"
    #: Answers from a file, for tests and demos.
    SCRIPTED = "scripted"
    #: A process that was there before: a test's own, on a socket in the home.
    JOINED = "joined"


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """All that a runtime needs to know to run one served entity."""

    #: Unique for the life of the workspace: names folders of logs and sockets.
    id: str
    endpoint: str
    entity: str
    model_name: str
    model_version: str
    #: ModelVersion.key: which files, see EntityRecord.model_key.
    model_key: str
    #: A folder on this machine instead of the registry.
    path: str | None
    workload_type: str
    #: Requests that one replica takes at a time (Databricks: four).
    concurrency: int
    environment: Mapping[str, str] = field(default_factory=dict)
    kind: Kind = Kind.MODEL
    #: EXTERNAL, JOINED, SCRIPTED: as EntityRecord.external has it.
    external: Mapping[str, Any] | None = None
    #: ENGINE: "llm/v1/chat" or "llm/v1/embeddings"; SCRIPTED likewise.
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    cpu_percent: float
    memory_bytes: int
    memory_limit_bytes: int
    #: Of the process that is measured with all that it started; None: it has none of its own.
    pid: int | None = None
    #: More than the setting `replica_recycle_memory`: a fresh one should take its place.
    recycle: bool = False


class Replica(Protocol):
    """A running replica, ready to be connected to."""

    @property
    def id(self) -> str: ...

    @property
    def address(self) -> str:
        """What a Connector takes."""

    @property
    def exited(self) -> asyncio.Future[str]:
        """Done with the reason, for people, once the replica is gone for whatever cause."""

    def usage(self) -> Usage | None:
        """As last polled."""

    async def stop(self, *, grace: float) -> None:
        """Ask it to end, kill it after `grace` seconds; returns once it is gone."""


class Runtime(Protocol):
    async def open(self) -> None:
        """Make folders, remove what an earlier life left behind."""

    async def close(self) -> None:
        """Every replica is gone when this returns."""

    async def prepare(self, spec: DeploymentSpec) -> None:
        """Fetch the model and build its environment, once; both are cached. Output goes to the
        build log. Raises StartFailed with the reason."""

    async def start(self, spec: DeploymentSpec, replica_id: str) -> Replica:
        """Start a replica and wait until it is ready. Cancelling kills it.

        Raises StartFailed: the model raised, hung beyond the start timeout, exited, or ran out of
        memory.
        """

    def logs(self, deployment_id: str) -> str:
        """What its replicas printed, the newest 1 MiB; "" when there is none."""

    def build_logs(self, deployment_id: str) -> str: ...

    def forget(self, deployment_id: str) -> None:
        """The deployment is gone for good: its logs may be removed in time."""

    def signature(self, spec: DeploymentSpec) -> "ModelInterface | None":
        """The prepared model's interface, from its MLmodel file; None before `prepare`."""


@dataclass(frozen=True, slots=True)
class ModelInterface:
    """An MLmodel file's signature, parsed from its JSON; each part may be missing."""

    inputs: list[dict[str, object]] | None
    outputs: list[dict[str, object]] | None
    params: list[dict[str, object]] | None
    #: An input example in the scoring protocol's form, e.g. {"dataframe_split": {...}}.
    example: object | None = None
    #: What Databricks calls the model's task, e.g. "agent/v2/chat"; None for a classic model.
    task: str | None = None


# --- the front's half ---------------------------------------------------------------------------


@dataclass(slots=True)
class Call:
    """One invocation on its way to a replica."""

    body: bytes
    #: Lower-case media type with parameters, as sent; None when the caller sent none.
    content_type: str | None
    content_encoding: str | None
    #: time.monotonic() by which the answer must be there.
    deadline: float
    #: On the OpenAI wire: what `body`, a JSON object in its final form, asks for.
    operation: Operation | None = None
    #: On the OpenAI wire: whether the answer comes as a Stream.
    stream: bool = False
    #: For a worker: the OpenAI route by which `body`, as its caller sent it, came; None: by none.
    route: Operation | None = None
    #: The trace that it belongs to, as W3C's header says it; None: it is not traced.
    traceparent: str | None = None


@dataclass(slots=True)
class Answer:
    """One whole answer. `error` is set instead of `body` when the model or its codec refused."""

    status: int
    body: bytes
    content_type: str = "application/json"
    #: (error_code, message) for a status of 400 and above. An outside server's own refusal has
    #: none: its status and its `body`, in its dialect, are handed on.
    error: tuple[str, str] | None = None
    #: Seconds that the model computed.
    seconds: float = 0.0
    #: `client_request_id` and `usage_context`, taken out of the body by the worker.
    client_request_id: str | None = None
    usage_context: Mapping[str, str] | None = None
    #: Whole seconds that it asks its caller to wait, with a 429 or 503.
    retry_after: int | None = None
    #: Requests that shared the model's predict, this one among them.
    batch: int = 1


#: Gets the next event of a stream, or why it failed, or None at its end; says whether it takes
#: further events now. After a failure or the end it is not called any more.
Take = Callable[["bytes | Exception | None"], bool]


class Stream(Protocol):
    """An answer in pieces: JSON documents, one an event. Iterate to its end, or push it there, or
    close it."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises ReplicaLost, or StreamFailed when the model raised in mid-stream."""

    def push(self, take: Take) -> bool:
        """Hand events to `take` as they come, without one who waits for each, until it says that it
        takes no more for now: then call this again. False: only iterating will do."""

    def close(self) -> None:
        """The caller hung up: cancels what the replica still does for it. Idempotent."""


class StreamFailed(Exception):
    """The model raised after its stream had begun."""

    def __init__(self, error_code: str, message: str) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.message = message


Taken = Callable[[Answer | Stream | ReplicaLost], None]


class Sending(Protocol):
    """A call that a link holds."""

    def cancel(self) -> bool:
        """The caller has gone: the work ends. Idempotent.

        True: the replica may be at it still. The call is outstanding until it is not, and `taken`
        is told then, with whatever. False: nothing more is said of it.
        """


class Link(Protocol):
    """One front's connection to one replica."""

    @property
    def credit(self) -> int:
        """Requests that the front may have outstanding here, as the worker's welcome said."""

    @property
    def outstanding(self) -> int: ...

    @property
    def lost(self) -> asyncio.Future[None]:
        """Done when the connection is gone, before any outstanding call hears of it."""

    def send(self, call: Call, taken: Taken) -> "Sending":
        """Send at once, without a look at `credit`. `taken` gets what comes of it, once, on the
        loop: ReplicaLost perhaps before this returns, all else later. It must not raise.
        """

    def close(self) -> None: ...


class Connector(Protocol):
    async def connect(self, address: str) -> Link:
        """Raises ReplicaLost."""
