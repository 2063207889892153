"""From the bytes of a scoring request to a parsed document.

The words and meanings are those of MLflow's scoring server (`mlflow.pyfunc.scoring_server`), whose
private names differ from release to release.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from .refusal import Refusal, invalid, too_large, unsupported

JSON: Final = "application/json"
CSV: Final = "text/csv"
PARQUET: Final = "application/vnd.apache.parquet"
MEDIA_TYPES: Final = [CSV, JSON, PARQUET]

#: Members of a gzip body, which may be empty and then cost more than their bytes are worth. Tools
#: that write many make one of 64 KiB or more.
_MAX_MEMBERS: Final = 1024
#: Bytes of a gzip body that are looked at in one step: what a member leaves of them is copied.
_GZIP_STEP: Final = 64 * 1024

FORMS: Final = ("dataframe_records", "dataframe_split", "inputs", "instances")
LLM_KEYS: Final = ("messages", "prompt", "input")

#: In MLflow's words.
ONE_FORM = (
    "The input must be a JSON dictionary with exactly one of the input fields "
    f"{{{', '.join(map(repr, FORMS))}}}"
)
PROTOCOL_CHANGED = (
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
            f"Unrecognized content type parameters: {', '.join(parameters)}. {PROTOCOL_CHANGED}"
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
        raise invalid(f"{ONE_FORM}. Received a list.")
    if not isinstance(value, dict):
        raise invalid(f"{ONE_FORM}. Received unexpected input type '{type(value)}.")
    bare = not value.keys().isdisjoint(LLM_KEYS)
    document = Document(value, bare, stream=value.get("stream") is True)
    if not bare:  # a model that takes messages is given `stream` too, as by MLflow
        value.pop("stream", None)
    value.pop("databricks_options", None)
    if (id := value.pop("client_request_id", None)) is not None:
        if not isinstance(id, str):
            raise wrong("client_request_id must be a string.")
        document.client_request_id = id
    context = value.pop("usage_context", None)
    if context is not None:
        if not isinstance(context, dict) or not all(isinstance(v, str) for v in context.values()):
            raise wrong("usage_context must be a map of strings to strings.")
        document.usage_context = context
    return document


def wrong(message: str) -> Refusal:
    """A refusal of a field whose value is not what it must be."""
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
