"""The synchronous client. `async_client.py` has the same methods, awaited; `calls.py` what both do."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from lakeport.client.answers import Answer, Chat, ChatChunk, Embeddings, Prediction
from lakeport.client.endpoint import Endpoint
from lakeport.client.retry import Retry
from lakeport.client.signature import Signature

if TYPE_CHECKING:
    from lakeport.client.batch import Batch, BatchReport
    from lakeport.client.log import PredictionLog
    from lakeport.features import FeatureSource


class Client:
    """A serving workspace, Lakeport or Databricks, as seen by an application.

    Safe to share between threads. Connections are pooled and kept; `close` or a `with` ends them.
    """

    def __init__(
        self,
        host: str | None = None,
        token: str | Callable[[], str] | None = None,
        *,
        profile: str | None = None,
        timeout: float = 600.0,
        connect_timeout: float = 10.0,
        retry: Retry | None = None,
        cache_ttl: float = 60.0,
        validate: bool = True,
        log: "PredictionLog | None" = None,
        max_connections: int = 100,
    ) -> None:
        """`host` and `token`: where and as whom; without them DATABRICKS_HOST, DATABRICKS_TOKEN and
        `~/.databrickscfg` are read as databricks-sdk reads them, and what needs more than a token
        (OAuth, Azure, browser …) is handed to databricks-sdk's `Config` when that is installed.
        A callable `token` is asked before each request.

        `timeout`: seconds for one request, from its start to the whole answer. `cache_ttl`: seconds
        that an endpoint's details and signature are kept. `validate`: check inputs of classic models
        against the signature before they are sent. `log`: gets every prediction.

        Raises ConfigError.
        """

    @property
    def host(self) -> str:
        """The workspace's address, without a slash at the end."""
        raise NotImplementedError

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    # --- inspect ------------------------------------------------------------------------------

    def list(self) -> "list[Endpoint]":
        """Every endpoint that the caller may see."""
        raise NotImplementedError

    def get(self, name: str, *, refresh: bool = True) -> Endpoint:
        """One endpoint; `refresh=False` takes what was kept, up to `cache_ttl` seconds old."""
        raise NotImplementedError

    def signature(
        self, name: str, *, entity: str | None = None, refresh: bool = False
    ) -> Signature:
        """Inputs, outputs, params and an example request, of the served entity `entity` or the first
        one: from the endpoint's OpenAPI page, or from the model registry where there is none.
        Raises NotFound when the model has no signature."""
        raise NotImplementedError

    def wait_until_ready(self, name: str, *, timeout: float = 1200.0) -> Endpoint:
        """Wait until the endpoint serves and no update runs. Raises NotReady with the reason when
        the config failed or the endpoint is stopped, TimedOut after `timeout` seconds."""
        raise NotImplementedError

    # --- query --------------------------------------------------------------------------------

    def query(
        self,
        name: str,
        data: Any = None,
        *,
        records: Sequence[Mapping[str, Any]] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
        rows: Sequence[Sequence[Any]] | None = None,
        inputs: Any = None,
        body: Mapping[str, Any] | None = None,
        messages: Sequence[Any] | None = None,
        prompt: str | Sequence[str] | None = None,
        input: str | Sequence[str] | None = None,
        params: Mapping[str, Any] | None = None,
        fields: Mapping[str, Any] | None = None,
        entity: str | None = None,
        timeout: float | None = None,
        retry: Retry | None = None,
        validate: bool | None = None,
        check_state: bool = False,
        client_request_id: str | None = None,
        usage_context: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask an endpoint with what you have; `data` is recognised by its type, a keyword says it.

        `data`: a pandas or polars DataFrame, a numpy array, a list of dicts (records, or chat
        messages), a list of rows, a dict of columns or one record, a whole request body, a string
        (a user's message, a prompt or a text to embed, as the endpoint's task has it).

        `params`: the model's params. `fields`: more fields of the body (`temperature`, …).
        `entity`: this served entity, whatever the traffic. `check_state`: refuse with NotReady
        before sending when the endpoint (details up to `cache_ttl` seconds old) does not serve.

        Returns a Prediction, Chat or Embeddings by what the answer is; an Answer of other forms.
        Raises InvalidInput, and the tree of `lakeport.client.errors`.
        """
        raise NotImplementedError

    def predict(self, name: str, data: Any = None, **options: Any) -> Prediction:
        """`query` for a classic model. Raises BadAnswer when the answer has no predictions."""
        raise NotImplementedError

    def chat(self, name: str, messages: str | Sequence[Any], **options: Any) -> Chat:
        """Ask a chat endpoint. `messages`: dicts, objects with `role` and `content`, or one string.
        Options: `max_tokens`, `temperature`, `tools`, … are fields of the body; `timeout`, `retry`,
        `entity`, `headers`, `client_request_id`, `usage_context` are as in `query`."""
        raise NotImplementedError

    def stream_chat(
        self, name: str, messages: str | Sequence[Any], **options: Any
    ) -> Iterator[ChatChunk]:
        """The same, in pieces as they come. The result is also a context manager: leaving it early
        hangs up, and so does `close()`. Raises when a stream breaks off or ends with an error."""
        raise NotImplementedError

    def embed(self, name: str, texts: str | Sequence[str], **options: Any) -> Embeddings:
        """Vectors for one text or several."""
        raise NotImplementedError

    # --- many ---------------------------------------------------------------------------------

    def batch(self, name: str, items: Iterable[Any], **options: Any) -> "Iterator[Batch]":
        """Many inputs, in order: see `lakeport.client.batch`."""
        raise NotImplementedError

    def batch_file(self, name: str, source: str, target: str, **options: Any) -> "BatchReport":
        """From a Parquet, CSV or JSONL file to another: see `lakeport.client.batch`."""
        raise NotImplementedError

    def predict_with_features(
        self,
        name: str,
        keys: Mapping[str, Sequence[Any]],
        *,
        source: "FeatureSource",
        **options: Any,
    ) -> Prediction:
        """Fetch the features of `keys` from `source`, join them in signature order, predict."""
        raise NotImplementedError

    # --- raw ----------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Any call of the workspace's REST API: JSON in, JSON out (text where the answer is text)."""
        raise NotImplementedError
