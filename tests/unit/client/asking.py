"""An endpoint to ask, as plain values: what it shows, and how it answers."""

import json
from collections.abc import Sequence
from typing import Any

from lakeport.client import calls_query
from lakeport.client.answers import Answer
from lakeport.client.calls import Context
from lakeport.client.calls_query import given_and_options
from lakeport.client.flow import Response
from tests.unit.client.flows import World, reply

READY = {"ready": "READY", "config_update": "NOT_UPDATING"}
ENTITY = {"name": "iris-1", "entity_name": "iris", "entity_version": "1"}
CLASSIC = reply({"name": "iris", "state": READY, "config": {"served_entities": [ENTITY]}})
CHAT = reply({"name": "bot", "state": READY, "task": "llm/v1/chat"})
ANSWER = reply({"predictions": [1]}, served_model_name="iris-1", x_request_id="r1")
SCHEMA = reply(
    {"error_code": "INVALID_PARAMETER_VALUE", "message": "Failed to enforce schema of data"}, 400
)


def page(*names: str, **others: Sequence[str]) -> Response:
    """An endpoint's OpenAPI page: columns of doubles. `others`: more served entities."""
    served = {"iris-1": names, **others}
    paths = {f"/served-models/{entity}/invocations": post(each) for entity, each in served.items()}
    return reply({"openapi": "3.1.0", "paths": paths})


def post(names: Sequence[str]) -> dict[str, Any]:
    column = {"type": "number", "format": "double"}
    record = {"type": "object", "properties": dict.fromkeys(names, column), "required": [*names]}
    split = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": {"type": "string", "enum": [*names]}},
            "data": {"type": "array", "items": {"type": "array", "prefixItems": [column] * 2}},
        },
    }
    forms = [
        {"properties": {"dataframe_split": split}, "required": ["dataframe_split"]},
        {
            "properties": {"dataframe_records": {"type": "array", "items": record}},
            "required": ["dataframe_records"],
        },
    ]
    content = {"application/json": {"schema": {"oneOf": forms}}}
    return {"post": {"requestBody": {"content": content}, "responses": {}}}


def ask(world: World, context: Context, name: str = "iris", **options: Any) -> Answer:
    given, own = given_and_options(options)
    return world.run(calls_query.query(context, name, given, own))


def sent(world: World) -> list[Any]:
    """The documents that were sent, in order."""
    return [json.loads(request.body) for request in world.requests if request.body]
