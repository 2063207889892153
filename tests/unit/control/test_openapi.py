"""An endpoint's OpenAPI document, from a model's signature or what it does on the OpenAI wire."""

from typing import Any

import pytest
from openapi_spec_validator import validate

from lakeport.control import openapi
from lakeport.runtimes.base import ModelInterface
from lakeport.wire.chat import Capabilities, ChatTarget, Task
from tests.unit.gateway.targets import hosted, outside


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


@pytest.mark.parametrize(
    ("target", "subjects", "fields"),
    [
        (hosted(), {"messages", "prompt"}, {"temperature", "stream"}),
        (hosted(can=Capabilities(seed=True)), {"messages", "prompt"}, {"seed"}),
        (hosted(Task.EMBEDDINGS), {"input"}, {"encoding_format"}),
        (outside(), {"messages"}, {"n", "tools", "response_format", "seed", "stop"}),
        (outside(Task.EMBEDDINGS), {"input"}, {"dimensions"}),
    ],
)
def test_a_model_on_the_openai_wire_names_the_bodies_that_it_takes(
    target: ChatTarget, subjects: set[str], fields: set[str]
) -> None:
    document = openapi.document("llm", 3, "http://h", [("a", target)])

    validate(document)
    operation = document["paths"]["/served-models/a/invocations"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    forms = schema.get("oneOf", [schema])
    assert {form["required"][0] for form in forms} == subjects
    assert fields <= {field for form in forms for field in form["properties"]}
    answers = operation["responses"]["200"]["content"]
    assert ("text/event-stream" in answers) is (target.task is not Task.EMBEDDINGS)


def test_what_a_hosted_model_cannot_do_is_not_in_its_form() -> None:
    document = openapi.document("llm", 3, "http://h", [("a", hosted(can=Capabilities()))])

    operation = document["paths"]["/served-models/a/invocations"]["post"]
    forms = operation["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    shown = {field for form in forms for field in form["properties"]}
    assert not shown & {"n", "seed", "stop", "tools", "tool_choice", "response_format", "logprobs"}
