"""Lakeport: a self-hosted model serving workspace that speaks the Databricks Model Serving API.

The names below are the toolkit's, for applications; each is loaded when it is first used, so that
`import lakeport` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lakeport.client.answers import Answer as Answer
    from lakeport.client.answers import Chat as Chat
    from lakeport.client.answers import ChatChunk as ChatChunk
    from lakeport.client.answers import Embeddings as Embeddings
    from lakeport.client.answers import Prediction as Prediction
    from lakeport.client.answers import Usage as Usage
    from lakeport.client.async_client import AsyncClient as AsyncClient
    from lakeport.client.client import Client as Client
    from lakeport.client.endpoint import Endpoint as Endpoint
    from lakeport.client.endpoint import ServedEntity as ServedEntity
    from lakeport.client.errors import ApiError as ApiError
    from lakeport.client.errors import BadAnswer as BadAnswer
    from lakeport.client.errors import BadRequest as BadRequest
    from lakeport.client.errors import ConfigError as ConfigError
    from lakeport.client.errors import Conflict as Conflict
    from lakeport.client.errors import ConnectionFailed as ConnectionFailed
    from lakeport.client.errors import InvalidInput as InvalidInput
    from lakeport.client.errors import LakeportError as LakeportError
    from lakeport.client.errors import NotFound as NotFound
    from lakeport.client.errors import NotReady as NotReady
    from lakeport.client.errors import PermissionDenied as PermissionDenied
    from lakeport.client.errors import RateLimited as RateLimited
    from lakeport.client.errors import ServerError as ServerError
    from lakeport.client.errors import TimedOut as TimedOut
    from lakeport.client.errors import Unauthenticated as Unauthenticated
    from lakeport.client.log import PredictionLog as PredictionLog
    from lakeport.client.retry import Retry as Retry
    from lakeport.client.signature import Signature as Signature
    from lakeport.integrations.databricks import WorkspaceClient as WorkspaceClient
    from lakeport.integrations.databricks import query_endpoint as query_endpoint

#: Where each public name lives.
_PUBLIC = {
    "lakeport.client.answers": (
        "Answer", "Chat", "ChatChunk", "Embeddings", "Prediction", "Usage",
    ),
    "lakeport.client.async_client": ("AsyncClient",),
    "lakeport.client.client": ("Client",),
    "lakeport.client.endpoint": ("Endpoint", "ServedEntity"),
    "lakeport.client.errors": (
        "ApiError", "BadAnswer", "BadRequest", "ConfigError", "Conflict", "ConnectionFailed",
        "InvalidInput", "LakeportError", "NotFound", "NotReady", "PermissionDenied", "RateLimited",
        "ServerError", "TimedOut", "Unauthenticated",
    ),
    "lakeport.client.log": ("PredictionLog",),
    "lakeport.client.retry": ("Retry",),
    "lakeport.client.signature": ("Signature",),
    "lakeport.integrations.databricks": ("WorkspaceClient", "query_endpoint"),
}  # fmt: skip
_HOMES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 -- every key is a name


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lakeport' has no attribute '{name}'")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
