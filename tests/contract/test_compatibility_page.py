"""docs/compatibility.md says what the tests hold, and no more."""

import inspect

import pytest
from databricks.sdk.service.serving import ServingEndpointsAPI

from tests.contract.compatibility import PAGE, marked, page
from tests.contract.operations import OPERATIONS

BY_NAME = {operation.name: operation for operation in OPERATIONS}
#: What names the object in the path, and what never leaves the client.
NOT_FIELDS = {"self", "name", "served_model_name", "serving_endpoint_id", "timeout", "callback"}

METHODS = {
    name.removesuffix("_and_wait"): method
    for name, method in inspect.getmembers(ServingEndpointsAPI, inspect.isfunction)
    if not name.startswith("_")
}


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run `python -m tests.contract.compatibility`"
    )


def test_no_operation_has_two_lines() -> None:
    assert len(BY_NAME) == len(OPERATIONS)


def test_every_mark_names_an_operation() -> None:
    assert marked().keys() <= BY_NAME.keys()


def test_what_is_served_or_refused_is_tested() -> None:
    claimed = {name for name, operation in BY_NAME.items() if not operation.missing}

    assert claimed == marked().keys()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_and_field_of_the_sdk_has_its_place(name: str) -> None:
    operation = BY_NAME[name]

    asked = set(inspect.signature(METHODS[name]).parameters) - NOT_FIELDS

    assert asked <= {*operation.takes, *operation.refuses}
