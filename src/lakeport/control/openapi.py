"""An endpoint's OpenAPI document, made from its models' signatures, and on the OpenAI wire from
what its served entities can do."""

from collections.abc import Mapping, Sequence
from typing import Any

from lakeport.control import openapi_chat
from lakeport.runtimes.base import ModelInterface
from lakeport.wire.chat import ChatTarget

#: MLflow's data types in JSON Schema.
_TYPES: Mapping[str, dict[str, Any]] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "float": {"type": "number", "format": "float"},
    "double": {"type": "number", "format": "double"},
    "string": {"type": "string"},
    "binary": {"type": "string", "format": "byte"},
    "datetime": {"type": "string", "format": "date-time"},
    "any": {},
}


def document(
    endpoint: str,
    version: int,
    server_url: str,
    entities: Sequence[tuple[str, ModelInterface | ChatTarget]],
) -> dict[str, Any]:
    """OpenAPI 3.1.0 with one path for each served entity that is known to have a form."""
    return {
        "openapi": "3.1.0",
        "info": {"title": endpoint, "version": str(version)},
        "servers": [{"url": f"{server_url}/serving-endpoints/{endpoint}"}],
        "paths": {
            f"/served-models/{name}/invocations": {
                "post": openapi_chat.operation(name, known)
                if isinstance(known, ChatTarget)
                else _operation(name, known)
            }
            for name, known in entities
        },
    }


def _operation(name: str, interface: ModelInterface) -> dict[str, Any]:
    request: dict[str, Any] = {
        "content": {"application/json": {"schema": _request(interface)}},
        "required": True,
    }
    if interface.example is not None:
        request["content"]["application/json"]["example"] = interface.example
    predictions = {"type": "array", "items": _outputs(interface)}
    return {
        "operationId": f"query-{name}",
        "requestBody": request,
        "responses": {
            "200": {
                "description": "Predictions, one for each row",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "properties": {"predictions": predictions},
                        }
                    }
                },
            }
        },
    }


def _request(interface: ModelInterface) -> dict[str, Any]:
    inputs = interface.inputs or []
    params = _params(interface)

    def form(key: str, schema: dict[str, Any]) -> dict[str, Any]:
        properties = {key: schema} | ({"params": params} if params else {})
        return {"type": "object", "properties": properties, "required": [key]}

    if inputs and all(column.get("type") == "tensor" for column in inputs):
        named = [column for column in inputs if "name" in column]
        tensor = (
            {"type": "object", "properties": {str(c["name"]): _tensor(c) for c in named}}
            if named
            else _tensor(inputs[0])
        )
        return {"oneOf": [form("inputs", tensor), form("instances", {"type": "array"})]}
    if len(inputs) == 1 and "name" not in inputs[0]:
        # A frame's columns have names; a model with type hints takes nothing but `inputs`.
        return {"oneOf": [form("inputs", {"type": "array", "items": _column(inputs[0])})]}
    names = [str(column.get("name", position)) for position, column in enumerate(inputs)]
    required = [
        name
        for name, column in zip(names, inputs, strict=True)
        if column.get("required", not column.get("optional", False))
    ]
    record = {
        "type": "object",
        "properties": dict(zip(names, map(_column, inputs), strict=True)),
        "required": required,
    }
    split = {
        "type": "object",
        "properties": {
            "index": {"type": "array", "items": {"type": "integer"}},
            "columns": {"type": "array", "items": {"type": "string", "enum": names}},
            "data": {
                "type": "array",
                "items": {
                    "type": "array",
                    "prefixItems": [_column(column) for column in inputs],
                },
            },
        },
        "required": ["columns", "data"],
    }
    return {
        "oneOf": [
            form("dataframe_split", split),
            form("dataframe_records", {"type": "array", "items": record}),
        ]
    }


def _outputs(interface: ModelInterface) -> dict[str, Any]:
    outputs = interface.outputs or []
    if not outputs:
        return {}
    if len(outputs) == 1:
        only = outputs[0]
        return _tensor(only).get("items", {}) if only.get("type") == "tensor" else _column(only)
    return {
        "type": "object",
        "properties": {
            str(column.get("name", position)): _column(column)
            for position, column in enumerate(outputs)
        },
    }


def _column(column: Mapping[str, Any]) -> dict[str, Any]:
    """An MLflow column, array, object or map type in JSON Schema."""
    kind = column.get("type")
    if kind == "array":
        items = column.get("items")
        return {"type": "array", "items": _column(items if isinstance(items, Mapping) else {})}
    if kind == "object":
        properties = column.get("properties")
        fields = properties if isinstance(properties, Mapping) else {}
        return {
            "type": "object",
            "properties": {str(name): _column(field) for name, field in fields.items()},
        }
    if kind == "map":
        values = column.get("values")
        return {
            "type": "object",
            "additionalProperties": _column(values if isinstance(values, Mapping) else {}),
        }
    if kind == "tensor":
        return _tensor(column)
    return dict(_TYPES.get(str(kind), {}))


def _tensor(column: Mapping[str, Any]) -> dict[str, Any]:
    spec = column.get("tensor-spec")
    spec = spec if isinstance(spec, Mapping) else {}
    kind = str(spec.get("dtype", ""))
    schema: dict[str, Any] = {}
    if kind.startswith(("int", "uint")):
        schema = {"type": "integer"}
    elif kind.startswith("float"):
        schema = {"type": "number"}
    elif kind.startswith("bool"):
        schema = {"type": "boolean"}
    elif kind.startswith(("str", "object")):
        schema = {"type": "string"}
    shape = spec.get("shape")
    for _ in shape if isinstance(shape, Sequence) else (-1,):
        schema = {"type": "array", "items": schema}
    return schema


def _params(interface: ModelInterface) -> dict[str, Any] | None:
    if not interface.params:
        return None
    properties = {}
    for param in interface.params:
        schema = dict(_TYPES.get(str(param.get("type")), {}))
        if param.get("shape"):
            schema = {"type": "array", "items": schema}
        if param.get("default") is not None:
            schema["default"] = param["default"]
        properties[str(param.get("name"))] = schema
    return {"type": "object", "properties": properties}
