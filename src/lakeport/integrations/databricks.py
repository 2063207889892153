"""A drop-in for `databricks.sdk.WorkspaceClient`, for code that believes more of it than is true.

    from lakeport import WorkspaceClient, query_endpoint

Endpoints answer what people expect of them (`databricks_endpoints.py`), queries that may have been
run are not sent again (`databricks_calls.py`), and a whole request body given as `inputs=` is sent
as one. All else is the SDK's own, 0.59.0 or newer. Needs the extra `databricks`.
"""

import functools
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

try:
    from databricks import sdk
    from databricks.sdk.mixins.open_ai_client import ServingEndpointsExt
    from databricks.sdk.service.serving import QueryEndpointResponse, ServingEndpointsAPI
except ImportError as error:
    raise ImportError(
        "lakeport.WorkspaceClient and lakeport.query_endpoint need databricks-sdk: "
        "pip install 'lakeport[databricks]'"
    ) from error

from lakeport.client import signature as signatures
from lakeport.client.retry import Retry
from lakeport.integrations.databricks_calls import Calls
from lakeport.integrations.databricks_endpoints import Endpoint, ListedEndpoint, endpoint, listed

#: Seconds for which the input names of an endpoint's model are believed.
NAMES_TTL = 60.0
#: Forms of a request body for classic models, and what may stand beside them.
_CLASSIC = ("inputs", "instances", "dataframe_split", "dataframe_records")
_BESIDE = frozenset({"params", "client_request_id", "usage_context", "databricks_options"})
#: Forms for language models: any field may stand beside them.
_LANGUAGE = ("messages", "prompt", "input")


class WorkspaceClient(sdk.WorkspaceClient):
    """The SDK's client, with `serving_endpoints` that answer as one would expect."""

    @functools.cached_property
    def serving_endpoints(self) -> "ServingEndpoints":
        return ServingEndpoints(Calls(self.config))


class ServingEndpoints(ServingEndpointsExt):
    """The SDK's `serving_endpoints`; `get`, `list` and `query` are ours."""

    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)  # type: ignore[no-untyped-call]
        self._calls = calls
        self._host = calls._cfg.host or ""
        self._names: dict[str, tuple[float, frozenset[str]]] = {}

    @property
    def retry(self) -> Retry:
        """The rule by which queries are sent again; another one may be set."""
        return self._calls.retry

    @retry.setter
    def retry(self, rule: Retry) -> None:
        self._calls.retry = rule

    def get(self, name: str) -> Endpoint:
        """One endpoint. Raises NotFound, PermissionDenied and others of `databricks.sdk.errors`."""
        return endpoint(super().get(name), self._host)

    def list(self) -> Iterator[ListedEndpoint]:
        """Every endpoint that the caller may see."""
        # A list under that name, as the SDK's own.
        return [listed(item, self._host, self.get) for item in super().list()]  # type: ignore[return-value]

    def query(self, name: str, **fields: Any) -> QueryEndpointResponse:
        _refuse_stream(fields)
        if fields.get("messages"):
            fields["messages"] = [_Plain.of(message) for message in fields["messages"]]
        if fields.get("dataframe_split"):
            fields["dataframe_split"] = _Plain.of(fields["dataframe_split"])
        if self._is_whole_body(name, fields):
            return self.send(name, fields["inputs"])
        return super().query(name, **fields)

    # Whichever fields this version of the SDK has, and its words about them.
    functools.update_wrapper(query, ServingEndpointsAPI.query)

    def send(self, name: str, body: Mapping[str, Any]) -> QueryEndpointResponse:
        """Query with a whole request body, of any form that the endpoint takes."""
        if not isinstance(body, Mapping):
            raise TypeError(
                f"A request body is a dict, such as {{'inputs': [[1.0, 2.0]]}}; got a "
                f"{type(body).__name__}."
            )
        _refuse_stream(body)
        answer = self._calls.do(
            "POST",
            f"/serving-endpoints/{quote(name, safe='')}/invocations",
            body=dict(body),
            headers={"Accept": "application/json", "Content-Type": "application/json"},
            response_headers=["served-model-name"],
        )
        # Some models answer with a bare list.
        return QueryEndpointResponse.from_dict(
            {"predictions": answer} if isinstance(answer, list) else answer
        )

    def _is_whole_body(self, name: str, fields: Mapping[str, Any]) -> bool:
        """Whether `inputs=` is a whole request body, and not a dict of the model's inputs."""
        inputs = fields.get("inputs")
        form = body_form(inputs)
        others = {key for key, value in fields.items() if key != "inputs" and value is not None}
        if form is None or others:
            return False
        if names := self._input_names(name):
            return form not in names
        # Without a signature, a dict of columns called `prompt` or `input` looks the same.
        return form not in ("prompt", "input") or self.get(name).task is not None

    def _input_names(self, name: str) -> frozenset[str]:
        """Names of the model's inputs; none where it has no signature, or does not say."""
        now = time.monotonic()
        since, names = self._names.get(name, (-NAMES_TTL, frozenset[str]()))
        if now - since >= NAMES_TTL:
            names = self._ask_for_names(name)
            self._names[name] = (now, names)
        return names

    def _ask_for_names(self, name: str) -> frozenset[str]:
        try:
            contents = self.get_open_api(name).contents
            assert contents is not None
            with contents as page:
                signature = signatures.from_openapi(json.loads(page.read()), None)
        except (OSError, ValueError):  # DatabricksError is an OSError
            return frozenset()
        return frozenset(signature.names if signature is not None else ())


def query_endpoint(
    name: str, body: Mapping[str, Any], *, client: WorkspaceClient | None = None
) -> QueryEndpointResponse:
    """Query an endpoint with a whole request body, of any form that it takes:

        query_endpoint("my-model", {"inputs": [[1.0, 2.0]]})
        query_endpoint("my-chat", {"messages": [{"role": "user", "content": "Hello"}]})

    Without `client`, one is made from the environment and kept. Raises as `WorkspaceClient` and its
    `serving_endpoints.query` do.
    """
    if client is None:
        client = _default_client(tuple(sorted(_settings().items())))
    return client.serving_endpoints.send(name, body)


def _settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("DATABRICKS_")}


@functools.lru_cache(maxsize=4)
def _default_client(settings: tuple[tuple[str, str], ...]) -> WorkspaceClient:
    """One for each set of settings, so that a change of the environment is seen."""
    return WorkspaceClient()


def body_form(value: Any) -> str | None:
    """Which form of request body `value` is, as a whole; None where it is none."""
    if not isinstance(value, Mapping):
        return None
    forms = [form for form in (*_CLASSIC, *_LANGUAGE) if form in value]
    if len(forms) != 1:
        return None
    (form,) = forms
    if form in _CLASSIC:
        return form if value.keys() <= {form} | _BESIDE else None
    return None if form == "messages" and not _are_messages(value[form]) else form


def _refuse_stream(fields: Mapping[str, Any]) -> None:
    if fields.get("stream"):
        raise ValueError(
            "stream: databricks-sdk has no form for a streamed answer. Use "
            "lakeport.Client().stream_chat(name, messages)."
        )


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(message, Mapping) and "role" in message for message in value
    )


class _Plain(dict[str, Any]):
    """A chat message or a DataFrame given as a dict: the SDK asks its own for `as_dict`."""

    @classmethod
    def of(cls, given: Any) -> Any:
        return cls(given) if isinstance(given, Mapping) else given

    def as_dict(self) -> dict[str, Any]:
        return dict(self)
