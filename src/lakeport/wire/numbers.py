"""Numbers as requests give them."""

from typing import Annotated

from pydantic import BeforeValidator


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):  # pydantic takes true for 1
        raise ValueError("expected a number, not a boolean")
    return value


#: A whole number: 3, 3.0 or "3", as Databricks' own parser takes it; never true or false.
Whole = Annotated[int, BeforeValidator(_no_boolean)]
