"""From a parsed request, or a table's bytes, to what the model takes.

What dispatches in MLflow's scoring server is written again here; what converts data is MLflow's
own, from the model's environment.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any, Final, NamedTuple, Protocol

from .refusal import Refusal, invalid, of_mlflow
from .request_body import CSV, FORMS, ONE_FORM, PROTOCOL_CHANGED, Document, wrong

#: Values that a request may have once it is a frame: as many as 16 MiB of JSON can hold. Some bytes
#: can ask for billions: Parquet packs equal ones, and pandas fills the gaps of uneven rows.
MAX_CELLS: Final = 8 * 1024 * 1024
#: Columns of a request's frame: pandas and MLflow's checks take long over each.
MAX_COLUMNS: Final = 64 * 1024
#: Columns of a CSV body whose names may repeat: pandas looks through all of them for each.
_MAX_ALIKE: Final = 1024


class Schema(Protocol):
    """What this module asks of `mlflow.types.Schema`."""

    def input_names(self) -> list[Any]: ...
    def pandas_types(self) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class Interface:
    """What must be known of a model to make its input."""

    #: `mlflow.types.Schema` of the inputs, or None.
    schema: Schema | None
    #: Names of the signature's params.
    params: frozenset[str]
    #: The signature was made from a PythonModel's type hints: MLflow leaves the data as it is.
    type_hinted: bool
    #: Names of the inputs that the signature cannot do without.
    required: frozenset[str] = frozenset()


class Scoring(NamedTuple):
    """What the model is called with."""

    data: Any
    params: Any
    #: A unified LLM request: the reply goes back as it is, not under "predictions".
    bare: bool


def scoring_of(document: Document, interface: Interface) -> Scoring:
    """MLflow's way from a parsed body to a model's input. Raises Refusal 400."""
    fields = document.fields
    params: Any = fields.get("params")
    if document.bare:
        params = {key: value for key, value in fields.items() if key in interface.params}
        data = {key: value for key, value in fields.items() if key not in interface.params}
        return Scoring(data, params, bare=True)
    forms = {key: value for key, value in fields.items() if key in FORMS}
    if interface.type_hinted:
        if "inputs" not in forms:
            raise wrong(
                "Request payload must be a dictionary with 'inputs' key when the model contains a "
                f"valid type hint. Found keys in payload: {forms.keys()}."
            )
        return Scoring(forms["inputs"], params, bare=False)
    return Scoring(_data_of(forms, interface.schema), params, bare=False)


def _data_of(forms: dict[str, Any], schema: Schema | None) -> Any:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.proto_json_utils import dataframe_from_parsed_json, parse_tf_serving_input

    if len(forms) != 1:
        received = f"Received dictionary with input fields: {list(forms)}"
        raise Refusal(f"{ONE_FORM}. {received}. {PROTOCOL_CHANGED}")
    form = next(iter(forms))
    _refuse_beyond(*_extent_of(form, forms[form]))
    try:
        if form in {"instances", "inputs"}:
            return parse_tf_serving_input(forms, schema=schema)
        orient = form.removeprefix("dataframe_")
        return dataframe_from_parsed_json(forms[form], pandas_orient=orient, schema=schema)
    except MlflowException as error:
        raise of_mlflow(error) from error
    except MemoryError:
        raise
    except Exception as error:  # whatever pandas makes of hostile input; MLflow's server gives 500
        raise invalid(f"The input could not be converted. Error: '{error}'") from error


def _extent_of(form: str, value: Any) -> tuple[int, int]:
    """Rows and columns of a form's frame, once the gaps of uneven ones are filled."""
    if form != "dataframe_split":
        return _extent(value, lists=form == "dataframe_records")
    if not isinstance(value, dict):
        return 1, 1
    rows, columns = _extent(value.get("data"), lists=True)
    return max(rows, _length(value.get("index"))), max(columns, _length(value.get("columns")))


def _extent(data: Any, *, lists: bool) -> tuple[int, int]:
    """Rows and columns of a frame's data. `lists`: rows may be lists, which pandas makes even;
    numpy refuses them, and they count as one value."""
    if isinstance(data, dict):
        index = set[Any]().union(*(column for column in data.values() if isinstance(column, dict)))
        return max(len(index), max(map(_length, data.values()), default=0)), len(data)
    if not isinstance(data, list):
        return 1, 1
    names = set[Any]().union(*(row for row in data if isinstance(row, dict)))
    longest = max(map(_length, data), default=0) if lists else 1
    return len(data), max(len(names), longest)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 1


def _refuse_beyond(rows: int, columns: int) -> None:
    """Raises Refusal 413 for a table that is too large."""
    cells = rows * columns
    if cells > MAX_CELLS:
        said = f"{cells} values as a table, more than the limit of {MAX_CELLS}"
    elif columns > MAX_COLUMNS:
        said = f"{columns} columns, more than the limit of {MAX_COLUMNS}"
    else:
        return
    raise Refusal(f"The request has {said}.", status=413, error_code="REQUEST_TOO_LARGE")


def table_of(media: str, body: bytes, interface: Interface) -> Scoring:
    """A CSV or Parquet body as a model's input. Raises Refusal 400."""
    data = _csv_data(body, interface.schema) if media == CSV else _parquet_data(body)
    return Scoring(data, None, bare=False)


def _csv_data(body: bytes, schema: Schema | None) -> Any:
    import pandas as pd

    try:
        text = StringIO(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise invalid(
            f"Ensure that input is a valid UTF-8 encoded string. Error: '{error}'"
        ) from error
    try:
        _check_csv(body, text)
        if schema is None:
            return pd.read_csv(text)
        types = dict(zip(schema.input_names(), schema.pandas_types(), strict=False))
        return pd.read_csv(text, dtype=types)
    except (MemoryError, Refusal):
        raise
    except Exception as error:  # as MLflow: whatever pandas says of the caller's text
        raise _no_frame("CSV-formatted", "to_csv", error) from error


def _check_csv(body: bytes, text: StringIO) -> None:
    """Raises Refusal for what would cost pandas far more than its bytes, and csv.Error."""
    lines = max(body.count(b"\n"), body.count(b"\r"))
    commas = body.count(b",")
    if commas < _MAX_ALIKE and lines * (commas + 1) <= MAX_CELLS:
        return
    rows = (row for row in csv.reader(text) if row)
    names, first = next(rows, []), next(rows, [])
    text.seek(0)
    # No line may be longer than the first one behind the names; shorter ones are filled up.
    _refuse_beyond(lines, max(len(names), len(first)))
    if len(names) > _MAX_ALIKE and len(set(names)) < len(names):
        raise Refusal(f"A CSV header of more than {_MAX_ALIKE} columns has names that repeat.")


def _parquet_data(body: bytes) -> Any:
    import pandas as pd

    try:
        _refuse_beyond(*_parquet_extent(body))
        return pd.read_parquet(BytesIO(body))
    except (MemoryError, Refusal):
        raise
    except Exception as error:  # as MLflow: whatever pandas says of the caller's bytes
        raise _no_frame("Parquet", "to_parquet", error) from error


def _parquet_extent(body: bytes) -> tuple[int, int]:
    """Rows and columns that a Parquet body says it holds; the items of a list count as rows."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_metadata
    except ImportError:  # pandas says what is missing, or has another reader
        return 0, 0
    try:
        told = read_metadata(BytesIO(body))
    except (ArrowException, OSError):  # no Parquet: pandas says so in the words of MLflow's server
        return 0, 0
    groups = [told.row_group(position) for position in range(told.num_row_groups)]
    cells = sum(
        group.column(position).num_values
        for group in groups
        for position in range(group.num_columns)
    )
    columns = max(1, told.num_columns)
    return -(-cells // columns), columns


def _no_frame(kind: str, method: str, error: Exception) -> Refusal:
    return Refusal(
        f"Failed to parse input as a Pandas DataFrame. Ensure that the input is a valid {kind} "
        f"Pandas DataFrame produced using the `pandas.DataFrame.{method}()` method. "
        f"Error: '{error}'"
    )
