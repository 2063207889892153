"""An endpoint's OpenAPI document, from a model's signature."""

from typing import Any

import pytest
from openapi_spec_validator import validate

from lakeport.control import openapi
from lakeport.runtimes.base import ModelInterface


def forms(*inputs: dict[str, Any]) -> list[str]:
    """The request forms that the document of a model with these columns names."""
    document = openapi.document(
        "iris", 3, "http://h", [("a", ModelInterface(list(inputs), None, None, None))]
    )
    validate(document)
    operation = document["paths"]["/served-models/a/invocations"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    return [form["required"][0] for form in schema["oneOf"]]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([{"type": "double", "name": "x"}], ["dataframe_split", "dataframe_records"]),
        # As type hints make it: such a model takes nothing else.
        ([{"type": "string"}], ["inputs"]),
        ([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}],
         ["inputs", "instances"]),
    ],
)  # fmt: skip
def test_the_request_forms_are_those_that_the_model_takes(
    inputs: list[dict[str, Any]], expected: list[str]
) -> None:
    assert forms(*inputs) == expected
