"""The OpenAI wire's own routes, for clients whose base URL is `{host}/serving-endpoints`.

Raw ASGI as the invocations are, which these are by another name: `model` names the endpoint, or the
path does. An endpoint that is really called "chat" or "models" is reached by `/invocations`.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from starlette.types import Receive, Scope, Send

from lakeport.api.bodies import ClientGone, read_body
from lakeport.api.errors import send_error
from lakeport.api.invocations import Invocations, lower, name_in, text
from lakeport.auth.callers import Caller
from lakeport.control.ports import EndpointsPort
from lakeport.errors import ENDPOINT_GONE, EndpointNotFound, InvalidParameter, MethodNotAllowed
from lakeport.gateway.bodies import read_document
from lakeport.serving.ports import Invocation, InvokePort
from lakeport.wire.chat import Operation


class Route(NamedTuple):
    """What a path asks for."""

    #: None: models are listed, or one of them is asked for.
    operation: Operation | None
    #: None: the body's `model` says; of models: all of them.
    endpoint: str | None


@lru_cache(maxsize=256)
def parse_route(raw_path: bytes) -> Route | None:
    """The OpenAI route that a path is, or None. Raises EndpointNotFound for a name that no endpoint
    can have."""
    match raw_path.split(b"/"):
        case [b"", b"serving-endpoints", b"models"]:
            return Route(None, None)
        case [b"", b"serving-endpoints", b"chat", b"completions"]:
            return Route(Operation.CHAT, None)
        case [b"", b"serving-endpoints", b"completions"]:
            return Route(Operation.COMPLETIONS, None)
        case [b"", b"serving-endpoints", b"embeddings"]:
            return Route(Operation.EMBEDDINGS, None)
        case [b"", b"serving-endpoints", name, b"chat", b"completions"]:
            return Route(Operation.CHAT, name_in(name))
        case [b"", b"serving-endpoints", name, b"completions"]:
            return Route(Operation.COMPLETIONS, name_in(name))
        case [b"", b"serving-endpoints", name, b"embeddings"]:
            return Route(Operation.EMBEDDINGS, name_in(name))
        case [b"", b"serving-endpoints", b"models", name] if name != b"invocations":
            return Route(None, name_in(name))
    return None


class OpenAI:
    """Answers the OpenAI routes. `max_body` bounds a request's body, in bytes, also inflated."""

    def __init__(
        self,
        invocations: Invocations,
        invoke: InvokePort,
        endpoints: EndpointsPort,
        *,
        max_body: int,
    ) -> None:
        self._invocations = invocations
        self._invoke = invoke
        self._endpoints = endpoints
        self._max_body = max_body

    async def answer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        route: Route,
        caller: Caller,
        headers: Mapping[bytes, bytes],
        request_id: str,
    ) -> None:
        """One request from body to answer. Raises ApiError."""
        allowed = "GET" if route.operation is None else "POST"
        if scope["method"] != allowed:
            refusal = MethodNotAllowed(f"This is asked with {allowed}.")
            await send_error(send, refusal, request_id, [(b"allow", allowed.encode())])
        elif route.operation is None:
            await _send_json(send, await self._models(caller, route.endpoint))
        else:
            try:
                body = await read_body(receive, headers, self._max_body)
            except ClientGone:
                return
            content_type = lower(headers.get(b"content-type"))
            content_encoding = lower(headers.get(b"content-encoding"))
            endpoint, document = route.endpoint, None
            if endpoint is None:
                document = read_document(body, content_type, content_encoding, self._max_body)
                endpoint = endpoint_in(document)
            invocation = Invocation(
                endpoint=endpoint,
                entity=None,
                body=body,
                content_type=content_type,
                content_encoding=content_encoding,
                request_id=request_id,
                operation=route.operation,
                document=document,
                traceparent=text(headers.get(b"traceparent")),
            )
            await self._invocations.ask(scope, receive, send, caller, invocation)

    async def _models(self, caller: Caller, name: str | None) -> dict[str, Any]:
        """The endpoints that `caller` may query, as OpenAI shows models: all, or the one called
        `name`. Raises EndpointNotFound."""
        queryable = set(self._invoke.queryable(caller))
        found = (await self._endpoints.list(caller)).endpoints or ()
        models = [
            {
                "id": endpoint.name,
                "object": "model",
                "created": endpoint.creation_timestamp // 1000,
                "owned_by": endpoint.creator,
            }
            for endpoint in found
            if endpoint.name in queryable and name in (None, endpoint.name)
        ]
        if name is None:
            return {"object": "list", "data": models}
        if not models:
            raise EndpointNotFound(ENDPOINT_GONE)
        return models[0]


def endpoint_in(document: Mapping[str, Any]) -> str:
    """The endpoint that a body's `model` names. Raises InvalidParameter without one, and
    EndpointNotFound for what no endpoint can be called."""
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidParameter('"model" is required: the name of a serving endpoint.')
    if len(model) > 255 or not model.isprintable():
        raise EndpointNotFound(ENDPOINT_GONE)
    return model


async def _send_json(send: Send, document: dict[str, Any]) -> None:
    body = orjson.dumps(document)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
