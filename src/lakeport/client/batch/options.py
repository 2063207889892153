"""What a batch may be told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypedDict

from lakeport.client.batch.plan import Bounds
from lakeport.client.batch.results import Progress
from lakeport.client.errors import InvalidInput
from lakeport.client.retry import Retry

OnError = Literal["keep", "raise"]


class QueryOptions(TypedDict, total=False):
    """Options of `query` that every request of a batch gets."""

    params: Mapping[str, Any] | None
    fields: Mapping[str, Any] | None
    entity: str | None
    timeout: float | None
    validate: bool | None
    usage_context: Mapping[str, str] | None
    headers: Mapping[str, str] | None


class BatchOptions(QueryOptions, total=False):
    """Options of `batch`: those of `query` that every request gets, and these."""

    #: Requests at a time; 8.
    concurrency: int
    #: Rows of one request, at most; 1000.
    chunk_rows: int
    #: Bytes of one request's JSON, about; 8 MiB.
    chunk_bytes: int
    #: When a request is sent again; the client's, where it tells, else `Retry()`.
    retry: Retry | None
    #: "keep": an item that fails has its `error`. "raise": the first one raises it.
    on_error: OnError
    #: Called with a BatchProgress after the rows of each request.
    progress: Progress | None


class FileOptions(BatchOptions, total=False):
    """Options of `batch_file`."""

    #: The column whose values are the inputs. Without it: the columns that the signature names, or
    #: all; for a language endpoint the first of `messages`, `prompt`, `input`, `text`, `content`,
    #: or the only one.
    input_column: str | None
    #: Name of the predictions' column in the target; "prediction".
    output_column: str
    #: Replace a target that is there, and begin anew even where a run could go on.
    overwrite: bool
    #: Going on, try rows again that failed.
    retry_failed: bool


@dataclass(frozen=True, slots=True)
class Options:
    """The same, checked."""

    concurrency: int = 8
    retry: Retry | None = None
    on_error: OnError = "keep"
    progress: Progress | None = None
    bounds: Bounds = field(default_factory=Bounds)
    #: Of `query`.
    query: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise InvalidInput(f"concurrency={self.concurrency}: expected 1 or more.")
        if self.on_error not in ("keep", "raise"):
            raise InvalidInput(f"on_error={self.on_error!r}: expected 'keep' or 'raise'.")

    @classmethod
    def of(
        cls, given: BatchOptions, known: type[BatchOptions] | type[FileOptions] = BatchOptions
    ) -> Self:
        """Raises InvalidInput, TypeError for an option that is not among the `known`."""
        if unknown := given.keys() - known.__annotations__.keys():
            raise TypeError(f"batch: no option {', '.join(sorted(unknown))}")
        query = QueryOptions.__annotations__.keys()
        return cls(
            given.get("concurrency", 8),
            given.get("retry"),
            given.get("on_error", "keep"),
            given.get("progress"),
            Bounds(given.get("chunk_rows", 1000), given.get("chunk_bytes", 8 << 20)),
            {key: each for key, each in given.items() if key in query and each is not None},
        )

    @property
    def ahead(self) -> int:
        """Requests that may be begun, or done and not yet taken."""
        return 2 * self.concurrency
