"""What of a file's row is sent to the endpoint, and how."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from lakeport.client.errors import InvalidInput, Problem
from lakeport.client.signature import Signature

#: Where a language endpoint's input is looked for, when the file has more than one column.
_USUAL = ("messages", "prompt", "input", "text", "content")


@dataclass(frozen=True, slots=True)
class Sends:
    """For the columns of one source."""

    task: str | None
    signature: Signature | None
    #: The columns that are sent, in this order.
    names: tuple[str, ...]
    #: The values of this one are sent, and not rows: texts, messages, plain values.
    single: str | None = None

    @classmethod
    def of(
        cls,
        available: Sequence[str],
        *,
        task: str | None,
        signature: Signature | None,
        column: str | None,
    ) -> Self:
        """`available`: the source's columns. `column`: the one that the caller names.

        Raises InvalidInput, which names what is missing.
        """
        if column is not None and available and column not in available:
            raise InvalidInput(_missing([column], available))
        if column is None and task is not None and available:
            column = _language_column(available)
        if column is not None:
            return cls(task, signature, (column,), column)
        if signature is None or not signature.names or not available:
            return cls(task, signature, tuple(available))
        needed = [c.name for c in signature.inputs if c.name is not None and c.required]
        if absent := [name for name in needed if name not in available]:
            raise InvalidInput(
                _missing(absent, available),
                problems=[Problem(name, None, "missing from the file") for name in absent],
            )
        return cls(task, signature, tuple(n for n in signature.names if n in available))

    def type_of(self, name: str) -> Any:
        """The signature's type of a column; None where it has none."""
        columns = self.signature.inputs if self.signature else ()
        return next((c.type for c in columns if c.name == name and c.shape is None), None)

    def document(self, rows: Any) -> dict[str, Any]:
        """The body for some rows, whose values are in the order of `names`."""
        if self.signature and self.signature.inputs and not self.signature.names:
            return {"inputs": rows}
        return {"dataframe_split": {"columns": self.names, "data": rows}}


def _language_column(available: Sequence[str]) -> str:
    if len(available) == 1:
        return available[0]
    for name in _USUAL:
        if name in available:
            return name
    raise InvalidInput(
        f"Which column has the input? The file has {', '.join(available)}; name it with "
        "input_column= (--input-column)."
    )


def _missing(absent: Sequence[str], available: Sequence[str]) -> str:
    hints = []
    for name in absent:
        close = difflib.get_close_matches(name, available, 1)
        hints.append(f"{name} (did you mean {close[0]}?)" if close else name)
    return f"The file has no column {', '.join(hints)}. Its columns are {', '.join(available)}."
