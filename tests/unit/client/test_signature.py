"""Signatures from MLmodel files and from OpenAPI pages, Lakeport's and Databricks'."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from mlflow.models.utils import _enforce_schema
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array, DataType, Map, Object, Property

from lakeport.client.encode import to_json
from lakeport.client.signature import Column, Param, Signature, from_mlmodel, from_openapi
from lakeport.control import openapi
from lakeport.runtimes.base import ModelInterface
from lakeport.wire.chat import ChatTarget, Operation, Task
from lakeport.worker import model_input, request_body

COLUMNS = Schema(
    [
        *(ColSpec(type, type.name) for type in DataType),
        ColSpec(Array(DataType.double), "array"),
        ColSpec(Array(Map(DataType.string)), "maps", required=False),
        ColSpec(Object([Property("x", DataType.long), Property("y", Array(DataType.string))]), "o"),
        ColSpec(AnyType(), "any", required=False),
    ]
)
FLOATS = Schema([ColSpec(Array(type), type.name) for type in (DataType.float, DataType.integer)])
PLAIN = Schema([ColSpec("double"), ColSpec("string")])
NUMBERED = Schema([ColSpec("double", name) for name in (0, 1)])  # type: ignore[arg-type]
TENSOR = Schema([TensorSpec(np.dtype("float32"), (-1, 2, 3))])
TENSORS = Schema(
    [TensorSpec(np.dtype("int64"), (-1,), "ids"), TensorSpec(np.dtype("str"), (-1, 2), "words")]
)
SCHEMAS = [COLUMNS, FLOATS, PLAIN, NUMBERED, TENSOR, TENSORS]
PARAMS = ParamSchema(
    [ParamSpec("top_k", "long", 3), ParamSpec("stop", "string", ["a"], shape=(-1,))]
)


def from_file(schema: Schema) -> Signature:
    return from_mlmodel({"inputs": schema.to_json()})


def interface(**parts: Any) -> ModelInterface:
    return ModelInterface(parts.get("inputs"), parts.get("outputs"), parts.get("params"))


def from_page(schema: Schema) -> Signature:
    page = openapi.document("e", 1, "http://h", [("m-1", interface(inputs=schema.to_dict()))])
    found = from_openapi(json.loads(json.dumps(page)))
    assert found is not None
    return found


def test_an_mlmodel_file_has_columns_types_and_params() -> None:
    signature = infer_signature(
        pd.DataFrame({"a": [1.5], "b": ["x"]}), np.array([1]), params={"top_k": 3, "stop": ["a"]}
    )

    found = from_mlmodel(signature.to_dict(), entity="m-1")

    assert found.inputs == (Column("a", "double"), Column("b", "string"))
    assert found.names == ("a", "b")
    assert found.outputs == (Column(None, "int64", True, (-1,)),)
    assert found.params == (Param("top_k", "long", 3), Param("stop", "string", ["a"], (-1,)))
    assert found.entity == "m-1"


def test_nested_and_optional_columns_are_as_mlflow_has_them() -> None:
    found = {column.name: column for column in from_file(COLUMNS).inputs}

    assert found["array"].type == {"type": "array", "items": {"type": "double"}}
    assert found["any"] == Column("any", "any", required=False)
    assert found["o"].type["properties"]["x"] == {"type": "long", "required": True}


def test_a_file_that_cannot_be_read_has_no_columns() -> None:
    assert from_mlmodel({"inputs": "no JSON", "params": {}, "outputs": [1]}) == Signature(())


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: str(schema)[:30])
@pytest.mark.parametrize("read", [from_file, from_page])
def test_the_example_is_one_that_the_model_takes(schema: Schema, read: Any) -> None:
    example = read(schema).example
    if example is None:  # a page does not tell the sizes of a tensor
        assert read is from_page
        assert schema in (TENSOR, TENSORS)
        return
    document = request_body.parse_json(to_json(example))

    interface = model_input.Interface(schema=schema, params=frozenset(), type_hinted=False)
    _enforce_schema(model_input.scoring_of(document, interface).data, schema)


def test_a_page_of_lakeport_tells_what_the_file_does() -> None:
    page, file = from_page(COLUMNS), from_file(COLUMNS)

    assert page.names == file.names
    assert [c.required for c in page.inputs] == [c.required for c in file.inputs]
    plain = [(c.name, c.type) for c in file.inputs if isinstance(c.type, str)]
    assert [(c.name, c.type) for c in page.inputs if isinstance(c.type, str)] == plain
    assert page.entity == "m-1"


def test_of_an_object_a_page_does_not_tell_what_may_be_left_out() -> None:
    found = {column.name: column.type for column in from_page(COLUMNS).inputs}

    assert found["o"]["properties"]["x"] == {"type": "long", "required": False}


def test_of_a_tensor_a_page_tells_the_depth() -> None:
    assert from_page(TENSOR).inputs == (Column(None, "float64", True, (-1, -1, -1)),)
    assert from_page(TENSORS).inputs == (
        Column("ids", "int64", True, (-1,)),
        Column("words", "str", True, (-1, -1)),
    )


def test_params_outputs_and_the_models_own_example_are_on_the_page() -> None:
    example = {"dataframe_split": {"columns": ["x"], "data": [[2.5]]}}
    told = ModelInterface(
        [{"name": "x", "type": "double", "required": True}],
        [{"name": "y", "type": "double"}, {"name": "z", "type": "string"}],
        [dict(each.to_dict()) for each in PARAMS.params],
        example,
    )

    found = from_openapi(openapi.document("e", 1, "http://h", [("m", told)]))

    assert found is not None
    assert found.params == (Param("top_k", "long", 3), Param("stop", "string", ["a"], (-1,)))
    assert found.outputs == (Column("y", "double"), Column("z", "string"))
    assert found.example == example


def test_the_entity_that_is_asked_for_is_read() -> None:
    one, two = (interface(inputs=[{"name": name, "type": "long"}]) for name in ("a", "b"))
    page = openapi.document("e", 1, "http://h", [("one", one), ("two", two)])

    assert from_openapi(page, "two") == from_openapi({"paths": dict([*page["paths"].items()][1:])})
    assert from_openapi(page, "three") is None


def test_a_type_hinted_model_has_one_input_without_a_name() -> None:
    found = from_page(Schema([ColSpec(Object([Property("x", DataType.string)]))]))

    assert [column.name for column in found.inputs] == [None]
    assert found.example == {"inputs": [{"x": "text"}]}


#: In the form that Databricks documents: no slash at the start, defaults as text.
DATABRICKS = {
    "openapi": "3.1.0",
    "info": {"title": "e", "version": "0"},
    "paths": {
        "served-models/simple-2/invocations": {
            "post": {
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "oneOf": [
                                    {
                                        "type": "object",
                                        "properties": {
                                            "dataframe_split": {
                                                "type": "object",
                                                "properties": {
                                                    "columns": {
                                                        "required": ["i", "s"],
                                                        "type": "array",
                                                        "items": {"enum": ["i", "f", "s"]},
                                                    },
                                                    "data": {
                                                        "type": "array",
                                                        "items": {
                                                            "type": "array",
                                                            "prefixItems": [
                                                                {
                                                                    "type": "integer",
                                                                    "format": "int64",
                                                                },
                                                                {
                                                                    "type": "number",
                                                                    "format": "double",
                                                                },
                                                                {"type": "string"},
                                                            ],
                                                        },
                                                    },
                                                },
                                            },
                                            "params": {
                                                "type": "object",
                                                "properties": {
                                                    "t": {
                                                        "type": "number",
                                                        "format": "double",
                                                        "default": "0.5",
                                                    }
                                                },
                                            },
                                        },
                                        "examples": [
                                            {"columns": ["i", "f", "s"], "data": [[3, 1.5, "a"]]}
                                        ],
                                    }
                                ]
                            }
                        }
                    }
                }
            }
        }
    },
}


def test_a_page_of_databricks_is_read() -> None:
    assert from_openapi(DATABRICKS, "simple-2") == Signature(
        (Column("i", "long"), Column("f", "double", required=False), Column("s", "string")),
        (),
        (Param("t", "double", 0.5),),
        {"dataframe_split": {"columns": ["i", "f", "s"], "data": [[3, 1.5, "a"]]}},
        "simple-2",
    )


@pytest.mark.parametrize(
    "page",
    [
        None,
        [],
        {},
        {"paths": []},
        {"paths": {"/served-models/m/invocations": None}},
        {"paths": {"/served-models/m/invocations": {"post": {"requestBody": {"content": []}}}}},
        openapi.document("e", 1, "h", [("m", interface())]),
        openapi.document("e", 1, "h", [("m", ChatTarget(Task.CHAT, frozenset(Operation), "m"))]),
    ],
)
def test_a_page_without_columns_is_no_signature(page: Any) -> None:
    assert from_openapi(page) is None
