"""Scoring requests to what a model takes, and what it gives back to bytes.

The words and meanings are those of MLflow's scoring server (`mlflow.pyfunc.scoring_server`). The
small part of it that dispatches is written again here, since its private names differ from release
to release; what converts data is MLflow's own, from the model's environment.
"""

from __future__ import annotations

import csv
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any, Final, NamedTuple, Protocol

import orjson

from .refusal import Refusal, invalid, of_mlflow, too_large, unsupported

JSON: Final = "application/json"
CSV: Final = "text/csv"
PARQUET: Final = "application/vnd.apache.parquet"
MEDIA_TYPES: Final = [CSV, JSON, PARQUET]

#: Values that a request may have once it is a frame: as many as 16 MiB of JSON can hold. Some bytes
#: can ask for billions: Parquet packs equal ones, and pandas fills the gaps of uneven rows.
MAX_CELLS: Final = 8 * 1024 * 1024
#: Columns of a request's frame: pandas and MLflow's checks take long over each.
MAX_COLUMNS: Final = 64 * 1024
#: Columns of a CSV body whose names may repeat: pandas looks through all of them for each.
_MAX_ALIKE: Final = 1024
#: Members of a gzip body, which may be empty and then cost more than their bytes are worth. Tools
#: that write many make one of 64 KiB or more.
_MAX_MEMBERS: Final = 1024
#: Bytes of a gzip body that are looked at in one step: what a member leaves of them is copied.
_GZIP_STEP: Final = 64 * 1024

FORMS: Final = ("dataframe_records", "dataframe_split", "inputs", "instances")
LLM_KEYS: Final = ("messages", "prompt", "input")

_ONE_FORM = (
    "The input must be a JSON dictionary with exactly one of the input fields "
    f"{{{', '.join(map(repr, FORMS))}}}"
)
_PROTOCOL_CHANGED = (
    "IMPORTANT: The MLflow Model scoring protocol has changed in MLflow version 2.0. If you are"
    " seeing this error, you are likely using an outdated scoring request format. To resolve the"
    " error, either update your request format or adjust your MLflow Model's requirements file to"
    " specify an older version of MLflow (for example, change the 'mlflow' requirement specifier"
    " to 'mlflow==1.30.0'). If you are making a request using the MLflow client"
    " (e.g. via `mlflow.pyfunc.spark_udf()`), upgrade your MLflow client to a version >= 2.0 in"
    " order to use the new request format. For more information about the updated MLflow"
    " Model scoring protocol in MLflow 2.0, see"
    " https://mlflow.org/docs/latest/models.html#deploy-mlflow-models."
)

#: orjson has no integers beyond 64 bits: it makes floats of them, silently.
_LONG = b"0" * 19
_DIGITS = bytes(
    ord("0") if byte in b"0123456789" else byte if byte in b"." else 0 for byte in range(256)
)
_NOT_FINITE = re.compile(rb"NaN|Infinity")
_UTF8_BOM: Final = b"\xef\xbb\xbf"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Schema(Protocol):
    """What this module asks of `mlflow.types.Schema`."""

    def input_names(self) -> list[Any]: ...
    def pandas_types(self) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class Interface:
    """What the codec must know of a model."""

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


@dataclass(slots=True)
class Document:
    """A parsed JSON body, without what never reaches the model."""

    fields: dict[str, Any]
    #: A unified LLM request: `messages`, `prompt` or `input` at the top.
    bare: bool
    #: `stream` is true.
    stream: bool
    client_request_id: str | None = None
    usage_context: dict[str, str] | None = None


class NotRowWise(Exception):
    """A model has other than one prediction for each row."""


# --- from bytes ---------------------------------------------------------------------------------


def media_type(content_type: str | None) -> str:
    """The media type of a body, one of MEDIA_TYPES. Raises Refusal 415."""
    if not content_type:
        raise unsupported(
            f"The request has no Content-Type. This predictor only supports the following content "
            f"types: Types: {MEDIA_TYPES}."
        )
    kind, *pairs = (part.strip() for part in content_type.split(";"))
    parameters = dict(pair.partition("=")[::2] for pair in pairs if pair)
    charset = parameters.pop("charset", "utf-8").strip("\"'").lower()
    if charset not in {"utf-8", "utf8"}:
        raise unsupported("The scoring server only supports UTF-8")
    if parameters:
        raise unsupported(
            f"Unrecognized content type parameters: {', '.join(parameters)}. {_PROTOCOL_CHANGED}"
        )
    if kind.lower() not in MEDIA_TYPES:
        raise unsupported(
            f"This predictor only supports the following content types: Types: {MEDIA_TYPES}. "
            f"Got '{content_type}'."
        )
    return kind.lower()


def inflate(body: bytes, encoding: str | None, limit: int) -> bytes:
    """The body without its content encoding, at most `limit` bytes.

    Raises Refusal: 413 beyond the limit, 415 for another encoding, 400 for a broken body.
    """
    encoding = (encoding or "identity").strip().lower()
    if encoding == "identity":
        return body
    if encoding not in {"gzip", "x-gzip"}:
        raise unsupported(f"Content-Encoding '{encoding}' is not supported: use gzip or none.")
    try:
        return b"".join(_gunzipped(body, limit))
    except zlib.error as error:
        raise invalid(f"The body is no valid gzip. Error: '{error}'") from error


def _gunzipped(body: bytes, limit: int) -> Iterator[bytes]:
    """The pieces of a gzip body, which may have several members. Raises Refusal and zlib.error."""
    view = memoryview(body)
    at = members = size = 0
    while at < len(body):
        members += 1
        if members > _MAX_MEMBERS:
            raise invalid(f"The body has more than {_MAX_MEMBERS} gzip members.")
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            if at == len(body):
                raise zlib.error("the body ends too early")
            step = view[at : at + _GZIP_STEP]
            piece = member.decompress(step, limit - size + 1)
            size += len(piece)
            if size > limit:
                raise too_large(limit)
            at += len(step) - len(member.unused_data)
            yield piece


def parse_json(body: bytes) -> Document:
    """A JSON body as MLflow reads it, NaN and Infinity included. Raises Refusal 400."""
    return document_of(loads(body))


def document_of(value: Any) -> Document:
    """What a parsed body says, which is taken out of it. Raises Refusal 400."""
    if isinstance(value, list):
        raise invalid(f"{_ONE_FORM}. Received a list.")
    if not isinstance(value, dict):
        raise invalid(f"{_ONE_FORM}. Received unexpected input type '{type(value)}.")
    bare = not value.keys().isdisjoint(LLM_KEYS)
    document = Document(value, bare, stream=value.get("stream") is True)
    if not bare:  # a model that takes messages is given `stream` too, as by MLflow
        value.pop("stream", None)
    value.pop("databricks_options", None)
    if (id := value.pop("client_request_id", None)) is not None:
        if not isinstance(id, str):
            raise _wrong("client_request_id must be a string.")
        document.client_request_id = id
    context = value.pop("usage_context", None)
    if context is not None:
        if not isinstance(context, dict) or not all(isinstance(v, str) for v in context.values()):
            raise _wrong("usage_context must be a map of strings to strings.")
        document.usage_context = context
    return document


def _wrong(message: str) -> Refusal:
    return Refusal(message, error_code="INVALID_PARAMETER_VALUE")


def loads(body: bytes, *, exact_integers: bool = True) -> Any:
    """The value of a JSON text, NaN and Infinity included. Raises Refusal 400.

    `exact_integers`: those beyond 64 bits are integers, as in Python; else they are floats, which
    spares a look through the text.
    """
    try:
        body = body.removeprefix(_UTF8_BOM)
        if exact_integers and _has_long_integer(body):
            return _loads_python(body)
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            # "infinity": 1e400 is one for MLflow, and an error for orjson
            if not _NOT_FINITE.search(body) and "infinity" not in str(error):
                raise
            return _loads_python(body)
    except (ValueError, RecursionError) as error:  # JSON and Unicode errors are ValueErrors
        raise invalid(
            f"Ensure that input is a valid JSON formatted string. Error: '{error}'"
        ) from error


def _has_long_integer(body: bytes) -> bool:
    """Whether there are 19 digits in a row, other than in a fraction: floats are read alike."""
    digits = body.translate(_DIGITS)
    at = digits.find(_LONG)
    while at >= 0:
        if digits[at - 1 : at] not in {b".", b"0"}:  # "0": further on in the same fraction
            return True
        at = digits.find(_LONG, at + len(_LONG))
    return False


def _loads_python(body: bytes) -> Any:
    value = json.loads(body.decode("utf-8"))
    if _SURROGATE.search(body):
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # a lone one raises, as in orjson
    return value


# --- to what the model takes --------------------------------------------------------------------


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
            raise _wrong(
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
        raise Refusal(f"{_ONE_FORM}. {received}. {_PROTOCOL_CHANGED}")
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


# --- back to bytes ------------------------------------------------------------------------------


def answer_json(predictions: Any, *, bare: bool) -> bytes:
    """The body of an answer, equal to MLflow's but for NaN and Infinity, which become null (MLflow
    writes them as they are, which is no JSON). Raises Refusal 400 for what JSON cannot say."""
    plain = plain_values(predictions)
    return dumps(plain if bare else {"predictions": plain})


def event_json(chunk: Any) -> bytes:
    """One chunk of a stream as one JSON document without anything that a reader of events could
    take for an end of line."""
    document = dumps(plain_values(chunk))
    if document.isascii():
        return document
    for mark, escape in _LINE_ENDS.items():
        document = document.replace(mark, escape)
    return document


_LINE_ENDS = {
    "\u0085".encode(): b"\\u0085",
    "\u2028".encode(): b"\\u2028",
    "\u2029".encode(): b"\\u2029",
}


def dumps(value: Any) -> bytes:
    """JSON of plain values, or of those that MLflow's encoder knows. Raises Refusal 400."""
    try:
        return orjson.dumps(value, default=_default, option=orjson.OPT_PASSTHROUGH_DATETIME)
    except TypeError:
        pass  # long integers, keys that are no strings, lone surrogates, or nothing that JSON knows
    from mlflow.utils.proto_json_utils import NumpyEncoder

    try:
        text = json.dumps(value, cls=NumpyEncoder)
        if "NaN" in text or "Infinity" in text:
            text = json.dumps(json.loads(text, parse_constant=lambda _: None))
    except (TypeError, ValueError, RecursionError) as error:
        raise Refusal(f"The model's output cannot be written as JSON: {error}") from error
    return text.encode("ascii")


def _default(value: Any) -> Any:
    from mlflow.utils.proto_json_utils import NumpyEncoder

    return NumpyEncoder().default(value)


def plain_values(predictions: Any) -> Any:
    """MLflow's `_get_jsonable_obj`: arrays become lists, frames and series lists of records."""
    import numpy as np
    import pandas as pd

    if isinstance(predictions, np.ndarray):
        return predictions.tolist()
    if isinstance(predictions, pd.Series):
        predictions = pd.DataFrame(predictions)
    if isinstance(predictions, pd.DataFrame):
        return predictions.to_dict(orient="records")
    return predictions


def split(predictions: Any, rows: Sequence[int]) -> list[Any]:
    """The predictions for requests of so many rows each, as plain values. Raises NotRowWise where
    they are not one for each row."""
    total = sum(rows)
    if isinstance(predictions, dict):  # outputs by name: arrays
        parts = {name: split(output, rows) for name, output in predictions.items()}
        return [{name: parts[name][at] for name in parts} for at in range(len(rows))]
    values = plain_values(predictions)
    if not isinstance(values, list) or len(values) != total:
        raise NotRowWise
    pieces, start = [], 0
    for count in rows:
        pieces.append(values[start : start + count])
        start += count
    return pieces


def answer_note(document: Document | None) -> Mapping[str, Any]:
    """What of the request goes back to the front, beside the answer."""
    if document is None:
        return {}
    taken = {
        "client_request_id": document.client_request_id,
        "usage_context": document.usage_context,
    }
    return {name: value for name, value in taken.items() if value is not None}
