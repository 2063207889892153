"""What a batch takes from a client, and what it gives back."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from lakeport.client.answers import Answer
from lakeport.client.endpoint import Endpoint
from lakeport.client.errors import LakeportError
from lakeport.client.retry import Retry
from lakeport.client.signature import Signature


class Asks(Protocol):
    """The part of AsyncClient that a batch uses."""

    @property
    def host(self) -> str: ...

    @property
    def retry(self) -> Retry: ...

    @property
    def query(self) -> Callable[..., Awaitable[Answer]]: ...

    def get(self, name: str, *, refresh: bool = True) -> Awaitable[Endpoint]: ...

    def signature(self, name: str, *, entity: str | None = None) -> Awaitable[Signature]: ...


class HasAsync(Protocol):
    """The part of Client that a batch uses."""

    def asynchronous(self) -> AbstractAsyncContextManager[Asks]:
        """A new async client with the same settings, closed when it is left."""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """What came of one input."""

    #: Its place among the inputs, from 0.
    index: int
    #: Of a row: what the model predicts for it. Of a whole input: its `predictions`. Of a chat or
    #: completion: the text. Of a text to embed: its vector. None where it failed.
    prediction: Any = None
    error: LakeportError | None = None
    #: The answer of the request that it went in, which other rows may share.
    answer: Answer | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How far a batch is: given to `progress` after each request's rows."""

    #: Inputs that are done, failed ones and those of an earlier run included.
    done: int
    #: Those of them that failed.
    failed: int
    #: Inputs in all, where that is known.
    total: int | None
    #: Since this run began.
    seconds: float
    #: "predicting", or "writing" while the target is put together.
    stage: Literal["predicting", "writing"] = "predicting"


Progress = Callable[[BatchProgress], None]


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What came of a batch from file to file."""

    endpoint: str
    target: Path
    #: Rows of the source, and those of them that have an error in the target.
    rows: int
    failed: int
    #: Rows that an earlier run had done.
    resumed: int
    #: Requests that this run sent.
    requests: int
    seconds: float
    #: The first of the failed rows and their errors, ten at most.
    errors: tuple[tuple[int, str], ...] = ()
