"""What of a JSON schema llama.cpp's grammar leaves out, as tried with it."""

from typing import Any

import pytest

from lakeport.errors import BadRequest
from lakeport.gateway.chat import begin
from lakeport.gateway.chat_schema import beyond_grammar
from lakeport.wire.chat import Operation
from tests.unit.gateway.targets import ALL, chat, hosted, outside


def form(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, **more}}


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"not": {}}, "not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "integer", "multipleOf": 7}, "multipleOf"),
        ({"type": "number", "minimum": 0}, "minimum"),
        ({"type": ["integer", "null"], "maximum": 0}, "maximum"),
        ({"type": "string", "pattern": "[0-9]"}, "pattern"),
        ({"type": "string", "pattern": r"^\d$"}, "pattern"),
        ({"type": "string", "pattern": "^(?:a)$"}, "pattern"),
        ({"properties": {"a": {"multipleOf": 7}}}, "multipleOf"),
        ({"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"not": True}}}, "not"),
        ({"anyOf": [{"type": "null"}, {"type": "array", "items": {"not": {}}}]}, "not"),
        ({"additionalProperties": {"if": {}}}, "if"),
        ({"prefixItems": [{"propertyNames": {}}]}, "propertyNames"),
    ],
)
def test_what_is_left_out(schema: dict[str, Any], keyword: str) -> None:
    found = beyond_grammar(schema)

    assert found is not None
    assert found[0] == keyword


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "integer", "minimum": 0, "exclusiveMaximum": 9},
        {"type": "string", "pattern": r"^(a|b)[0-9]{2}\.c*$"},
        {"type": "string", "minLength": 1, "maxLength": 9, "format": "date"},
        {"type": "array", "items": {"enum": [1]}, "minItems": 1, "uniqueItems": False},
        {"properties": {"not": {"type": "string"}, "pattern": {"const": {"not": 1}}}},
        {"enum": [{"multipleOf": 3}], "default": {"not": 1}},
        {"properties": 5, "anyOf": "x", "$defs": None, "items": True},
    ],
)
def test_what_is_held_to(schema: dict[str, Any]) -> None:
    assert beyond_grammar(schema) is None


def test_a_schema_may_be_deep() -> None:
    schema: dict[str, Any] = {"not": {}}
    for _ in range(5000):
        schema = {"items": schema}

    assert beyond_grammar(schema) is not None


def test_only_a_strict_schema_is_a_promise() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "number", "minimum": 0}}}

    with pytest.raises(BadRequest, match=r'"response_format.json_schema".*"minimum".*"strict"'):
        begin(hosted(), Operation.CHAT, chat(response_format=form(schema, strict=True)))
    begin(hosted(), Operation.CHAT, chat(response_format=form(schema, strict=False)))
    begin(hosted(), Operation.CHAT, chat(response_format=form(schema)))
    begin(hosted(can=ALL), Operation.CHAT, chat(response_format=form(schema, strict=True)))
    begin(outside(), Operation.CHAT, chat(response_format=form(schema, strict=True)))
