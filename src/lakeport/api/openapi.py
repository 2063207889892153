"""The OpenAPI document: the control plane's part from its routes, the data plane's by hand."""

import re
from collections.abc import Sequence
from typing import Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from lakeport import __version__
from lakeport.wire.errors import ErrorBody

#: For routes: any of them may end in an error, and all errors have one form.
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "Something in the request is wrong"},
    401: {"model": ErrorBody, "description": "Without a valid token"},
    403: {"model": ErrorBody, "description": "Without the permission"},
    404: {"model": ErrorBody, "description": "There is no such thing"},
    501: {"model": ErrorBody, "description": "Databricks can do this, Lakeport cannot yet"},
    "default": {"model": ErrorBody, "description": "Any other error"},
}

#: For routes that answer with text.
TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Text",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}

_SCALAR = {"type": ["string", "number", "boolean", "null"]}
_ROWS = {"type": "array", "items": {"type": "array", "items": {}}}

_INPUT: dict[str, Any] = {
    "type": "object",
    "description": "One of `dataframe_split`, `dataframe_records`, `instances`, `inputs`, or the "
    "fields of a chat, completion or embedding request",
    "properties": {
        "dataframe_split": {
            "type": "object",
            "properties": {
                "columns": {"type": "array", "items": _SCALAR},
                "index": {"type": "array", "items": _SCALAR},
                "data": _ROWS,
            },
            "required": ["data"],
        },
        "dataframe_records": {"type": "array", "items": {"type": "object"}},
        "instances": {},
        "inputs": {},
        "params": {"type": "object"},
        "stream": {"type": "boolean"},
        "client_request_id": {"type": "string"},
        "usage_context": {"type": "object"},
    },
}

_ERROR_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}


def build_document(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    document = get_openapi(
        title="Lakeport",
        version=__version__,
        description="Serving endpoints on the Databricks wire.",
        routes=routes,
    )
    document["paths"] |= {
        "/serving-endpoints/{name}/invocations": _invocation("query", ["name"]),
        "/serving-endpoints/{name}/served-models/{entity}/invocations": _invocation(
            "query_served_entity", ["name", "entity"]
        ),
    }
    document.setdefault("components", {})["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"}
    }
    for path, operations in document["paths"].items():
        open_to_all = path == "/health" or path.startswith("/.well-known/")
        for operation in operations.values():
            operation["security"] = [] if open_to_all else [{"token": []}]
    return document


def allowed_methods(document: dict[str, Any], path: str) -> set[str]:
    """The methods that `document` has for a request's path."""
    return {
        method.upper()
        for template, operations in document["paths"].items()
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path)
        for method in operations
    }


def _invocation(operation_id: str, names: list[str]) -> dict[str, Any]:
    errors = {
        str(status): {"description": told["description"], "content": _ERROR_CONTENT}
        for status, told in ERRORS.items()
    }
    return {
        "post": {
            "tags": ["Invocations"],
            "summary": "Query an endpoint",
            "operationId": operation_id,
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in names
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": _INPUT},
                    "text/csv": {"schema": {"type": "string"}},
                },
            },
            "responses": {
                "200": {
                    "description": "The model's answer",
                    "headers": {
                        "served-model-name": {
                            "description": "The served entity that answered",
                            "schema": {"type": "string"},
                        }
                    },
                    "content": {
                        "application/json": {"schema": {}},
                        "text/event-stream": {"schema": {"type": "string"}},
                    },
                },
                **errors,
            },
        }
    }
