"""Numbers as requests give them."""

from typing import Annotated

from pydantic import BeforeValidator


def no_boolean(value: object) -> object:
    """For validators of numbers. Raises ValueError for true and false."""
    if isinstance(value, bool):  # pydantic takes true for 1
        raise ValueError("expected a number, not a boolean")
    return value


#: A whole number: 3, 3.0 or "3", as Databricks' own parser takes it; never true or false.
Whole = Annotated[int, BeforeValidator(no_boolean)]
