"""What a model takes and gives, read from an endpoint's OpenAPI page or from an MLmodel file."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Column:
    """A named column, or a tensor."""

    #: None for a single unnamed tensor.
    name: str | None
    #: MLflow's type: "double", "long", "integer", "float", "string", "boolean", "datetime",
    #: "binary", a numpy dtype for a tensor; arrays, objects and maps as MLflow's JSON has them.
    type: Any
    required: bool = True
    #: Of a tensor; -1 for any size. None: a column.
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Param:
    name: str
    type: str
    default: Any = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """A model's signature."""

    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...] = ()
    params: tuple[Param, ...] = ()
    #: A whole request body that the model takes.
    example: Any = None
    #: Which served entity's it is.
    entity: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The input columns' names, in order; () where they have none."""
        return tuple(column.name for column in self.inputs if column.name is not None)
