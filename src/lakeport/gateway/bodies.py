"""A request's body as the JSON object that it must be on the OpenAI wire."""

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any, Final

import orjson

from lakeport.errors import InvalidParameter, MalformedRequest, TooLarge, UnsupportedMedia

#: orjson has no integers beyond 64 bits: it makes floats of them, silently.
_LONG = re.compile(rb"[0-9]{19}")
_LEAST, _MOST = -(2**63), 2**64 - 1
_NOT_FINITE = re.compile(rb"\b(?:NaN|Infinity)\b")
#: As a worker bounds them (`worker/request_body.py`): a body of tiny members would keep the loop
#: busy for minutes, since what a member leaves of the bytes that it was given is copied.
_MAX_MEMBERS: Final = 1024
_GZIP_STEP: Final = 64 * 1024


def read_document(
    body: bytes, content_type: str | None, content_encoding: str | None, bound: int
) -> dict[str, Any]:
    """The object in `body`, which may be packed by gzip, at most `bound` bytes once inflated.

    Every value is what was sent, or it is refused: integers beyond 64 bits and numbers that JSON or
    a float cannot hold. Raises MalformedRequest, InvalidParameter, TooLarge, UnsupportedMedia.
    """
    if content_type is not None:
        _refuse_other_media(content_type)
    if content_encoding is not None:
        body = inflate(body, content_encoding, bound)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = " JSON has no NaN or Infinity." if _NOT_FINITE.search(body) else ""
        raise MalformedRequest(f"The body is no valid JSON: {error}.{hint}") from None
    if not isinstance(document, dict):
        raise MalformedRequest("The body must be a JSON object.")
    if _LONG.search(body):
        _refuse_long_integers(body)
    return document


def inflate(body: bytes, encoding: str, bound: int) -> bytes:
    """`body` without its content encoding. Raises UnsupportedMedia, TooLarge, MalformedRequest."""
    encoding = encoding.strip().lower()
    if encoding == "identity":
        return body
    if encoding not in {"gzip", "x-gzip"}:
        raise UnsupportedMedia(
            f"Content-Encoding '{encoding[:50]}' is not supported: use gzip or none."
        )
    try:
        return b"".join(_gunzipped(body, bound))
    except zlib.error as error:
        raise MalformedRequest(f"The body is no valid gzip: {error}.") from None


def _gunzipped(body: bytes, bound: int) -> Iterator[bytes]:
    """The pieces of a gzip body, which may have several members. Raises zlib.error, TooLarge,
    MalformedRequest."""
    view = memoryview(body)
    at = members = size = 0
    while at < len(body):
        members += 1
        if members > _MAX_MEMBERS:
            raise MalformedRequest(f"The body has more than {_MAX_MEMBERS} gzip members.")
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            if at == len(body):
                raise zlib.error("it ends too early")
            step = view[at : at + _GZIP_STEP]
            piece = member.decompress(step, bound - size + 1)
            size += len(piece)
            if size > bound:
                raise TooLarge(f"The request, inflated, is larger than the limit of {bound} bytes.")
            at += len(step) - len(member.unused_data)
            yield piece


def _refuse_other_media(content_type: str) -> None:
    kind, *parameters = (part.strip() for part in content_type.split(";"))
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMedia(f"This endpoint takes application/json, not '{content_type[:100]}'.")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip("\"'").lower() not in {"utf-8", "utf8"}:
            raise UnsupportedMedia("This endpoint takes JSON in UTF-8.")


def _refuse_long_integers(body: bytes) -> None:
    try:
        json.loads(body, parse_int=_within_64_bits)
    except RecursionError:
        raise MalformedRequest("The body is nested too deeply.") from None


def _within_64_bits(digits: str) -> int:
    # The length first: Python refuses to read thousands of digits in a way of its own.
    if len(digits) > 20 or not _LEAST <= int(digits) <= _MOST:
        raise InvalidParameter(
            f"The number {digits[:30]}{'...' if len(digits) > 30 else ''} is out of range: an "
            "integer has at most 64 bits."
        )
    return int(digits)
