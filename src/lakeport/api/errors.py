"""The one place where an `ApiError` becomes HTTP."""

import json
from collections.abc import Sequence
from typing import Any

import orjson
from starlette.types import Send

from lakeport.errors import ApiError, Internal, Unavailable
from lakeport.stores.base import StoreError

Headers = list[tuple[bytes, bytes]]


def as_api_error(error: Exception) -> ApiError:
    """What a client is told of `error`: nothing of those that are not ours."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, StoreError):
        return Unavailable("The workspace's database cannot be used right now; try again shortly.")
    return Internal("Something went wrong inside Lakeport; its log has the reason.")


def encode_error(error: ApiError, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and JSON body of an error, as Databricks' clients expect them."""
    body = _json(error.body(request_id))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    # The SDK waits for whole seconds and takes 0 for "at once, again and again".
    if error.status in (429, 503):
        headers.append((b"retry-after", str(max(1, error.retry_after or 1)).encode()))
    if error.served_entity is not None:
        headers.append((b"served-model-name", error.served_entity.encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return error.status, headers, body


async def send_error(
    send: Send, error: ApiError, request_id: str, more: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Answer with `error`; `more` are headers of the reply besides the error's own."""
    status, headers, body = encode_error(error, request_id)
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *more]})
    await send({"type": "http.response.body", "body": body})


def _json(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        # A message may quote what is no valid Unicode.
        return json.dumps(body).encode()
