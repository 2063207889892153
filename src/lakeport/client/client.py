"""The client that blocks. `async_client.py` has the same methods, awaited."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from lakeport.client import calls, calls_chat, calls_inspect, calls_query, calls_signature
from lakeport.client.answers import Answer, Chat, Embeddings, Prediction
from lakeport.client.calls_query import Options, given_and_options
from lakeport.client.encode import Given
from lakeport.client.endpoint import Endpoint
from lakeport.client.flow import Flow
from lakeport.client.retry import Retry
from lakeport.client.setup import Setup
from lakeport.client.signature import Signature
from lakeport.client.streams import ChatStream
from lakeport.client.transport import Transport

if TYPE_CHECKING:
    from lakeport.client.async_client import AsyncClient
    from lakeport.client.batch import BatchItem, BatchReport
    from lakeport.client.features import FeatureSource
    from lakeport.client.recording import Recorder

T = TypeVar("T")


class Client:
    """A serving workspace, Lakeport or Databricks, as seen by an application.

    Safe to share between threads. Connections are pooled and kept; `close` or a `with` ends them.
    """

    def __init__(
        self,
        host: str | None = None,
        token: str | Callable[[], Any] | None = None,
        *,
        profile: str | None = None,
        timeout: float = 600.0,
        connect_timeout: float = 10.0,
        retry: Retry | None = None,
        cache_ttl: float = 60.0,
        validate: bool = True,
        log: "Recorder | None" = None,
        max_connections: int = 100,
    ) -> None:
        """`host` and `token`: where and as whom; without them DATABRICKS_HOST, DATABRICKS_TOKEN and
        `~/.databrickscfg` are read as databricks-sdk reads them, and what needs more than a token
        (OAuth, Azure, browser …) is handed to databricks-sdk's `Config` when that is installed.
        A callable `token` is asked before each request; AsyncClient takes a coroutine function too.

        `timeout`: seconds for one request, from its start to the whole answer. `cache_ttl`: seconds
        that an endpoint's details and signature are kept. `validate`: check inputs of classic
        models against the signature before they are sent. `log`: gets every prediction.

        Raises ConfigError.
        """
        self._start(
            Setup.of(
                host,
                token,
                profile=profile,
                timeout=timeout,
                connect_timeout=connect_timeout,
                retry=retry,
                cache_ttl=cache_ttl,
                validate=validate,
                log=log,
                max_connections=max_connections,
            )
        )

    def _start(self, setup: Setup, transport: Transport | None = None) -> None:
        """`transport`: somebody else's, who closes it."""
        self._setup = setup
        self._context = setup.context
        self._owns = transport is None
        self._transport = transport or Transport(
            setup.config,
            timeout=setup.timeout,
            connect_timeout=setup.connect_timeout,
            connections=setup.max_connections,
        )

    def _run(self, flow: Flow[T]) -> T:
        return self._transport.run(flow)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.host!r})"

    @property
    def host(self) -> str:
        """The workspace's address, without a slash at the end."""
        return self._setup.config.host

    @property
    def retry(self) -> Retry:
        """The rule for requests that are not told another."""
        return self._context.retry

    def with_token(self, token: str | Callable[[], Any]) -> Self:
        """The same client for another caller, over the same connections: those are closed by the
        client that they come from. What was learned of endpoints stays with each."""
        other = object.__new__(type(self))
        setup = self._setup.signed_by(token)
        other._start(setup, self._transport.with_auth(setup.config.auth))
        return other

    def asynchronous(self) -> "AsyncClient":
        """A new AsyncClient with the same settings, and connections of its own."""
        from lakeport.client.async_client import AsyncClient  # noqa: PLC0415 -- imports this

        other = object.__new__(AsyncClient)
        other._start(self._setup)
        return other

    def close(self) -> None:
        """End the connections. The client is of no use afterwards."""
        if self._owns:
            self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- inspect ------------------------------------------------------------------------------

    def list(self) -> "list[Endpoint]":
        """Every endpoint that the caller may see."""
        return self._run(calls_inspect.list_endpoints(self._context))

    def get(self, name: str, *, refresh: bool = True) -> Endpoint:
        """One endpoint; `refresh=False` takes what was kept, up to `cache_ttl` seconds old."""
        return self._run(calls_inspect.get(self._context, name, refresh=refresh))

    def signature(
        self, name: str, *, entity: str | None = None, refresh: bool = False
    ) -> Signature:
        """Inputs, outputs, params and an example request, of the served entity `entity` or the
        first one: from the endpoint's OpenAPI page, or from the model registry where there is
        none. Raises NotFound when the model has no signature."""
        return self._run(
            calls_signature.signature(self._context, name, entity=entity, refresh=refresh)
        )

    def wait_until_ready(self, name: str, *, timeout: float = 1200.0) -> Endpoint:
        """Wait until the endpoint serves and no update runs. Raises NotReady with the reason when
        the config failed or the endpoint is stopped, TimedOut after `timeout` seconds."""
        return self._run(calls_inspect.wait_until_ready(self._context, name, timeout=timeout))

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
        given = Given(
            data=data,
            records=records,
            columns=columns,
            rows=rows,
            inputs=inputs,
            body=body,
            messages=messages,
            prompt=prompt,
            input=input,
            params=params,
            fields=fields,
        )
        options = Options(
            entity=entity,
            timeout=timeout,
            retry=retry,
            validate=validate,
            check_state=check_state,
            client_request_id=client_request_id,
            usage_context=usage_context,
            headers=headers or {},
        )
        return self._run(calls_query.query(self._context, name, given, options))

    def predict(self, name: str, data: Any = None, **options: Any) -> Prediction:
        """`query` for a classic model. Raises BadAnswer when the answer has no predictions."""
        given, own = given_and_options({**options, "data": data})
        flow = calls_query.query(self._context, name, given, own)
        return self._run(calls_query.expect(flow, Prediction, "predictions"))

    def chat(self, name: str, messages: str | Sequence[Any], **options: Any) -> Chat:
        """Ask a chat endpoint. `messages`: dicts, objects with `role` and `content`, or one string.
        Options: `max_tokens`, `temperature`, `tools`, … are fields of the body; `timeout`, `retry`,
        `entity`, `headers`, `client_request_id`, `usage_context` are as in `query`."""
        return self._run(calls_chat.chat(self._context, name, messages, options))

    def stream_chat(self, name: str, messages: str | Sequence[Any], **options: Any) -> ChatStream:
        """The same, in pieces as they come. The result is also a context manager: leaving it early
        hangs up, and so does `close()`. `timeout` is for the first piece, and between two. The
        request is sent when the first piece is asked for, or the `with` begins. Raises when a
        stream breaks off or ends with an error."""
        return ChatStream(
            self._transport, calls_chat.open_chat(self._context, name, messages, options)
        )

    def embed(self, name: str, texts: str | Sequence[str], **options: Any) -> Embeddings:
        """Vectors for one text or several."""
        return self._run(calls_chat.embed(self._context, name, texts, options))

    # --- many ---------------------------------------------------------------------------------

    def batch(self, name: str, items: Iterable[Any], **options: Any) -> "Iterator[BatchItem]":
        """Many inputs, in order: see `lakeport.client.batch`."""
        from lakeport.client.batch import batch  # noqa: PLC0415 -- few need it

        return batch(self, name, items, **options)

    def batch_file(
        self, name: str, source: str | Path, target: str | Path, **options: Any
    ) -> "BatchReport":
        """From a Parquet, CSV or JSONL file to another: see `lakeport.client.batch`."""
        from lakeport.client.batch import batch_file  # noqa: PLC0415 -- few need it

        return batch_file(self, name, source, target, **options)

    def predict_with_features(
        self,
        name: str,
        keys: Mapping[str, Any],
        *,
        source: "FeatureSource",
        missing: str = "error",
        **options: Any,
    ) -> Prediction:
        """Fetch the features of `keys` from `source`, join them in signature order, predict.
        `missing="null"` sends empty features for keys that the source does not know."""
        from lakeport.client import calls_features  # noqa: PLC0415 -- few need it

        return self._run(
            calls_features.predict_with_features(
                self._context, name, keys, source=source, missing=missing, options=options
            )
        )

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
        """Any call of the workspace's REST API: JSON in, JSON out; text where the answer is text,
        None where there is none."""
        return self._run(
            calls.request(self._context, method, path, body, query=query, timeout=timeout)
        )
