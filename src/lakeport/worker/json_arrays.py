"""Large bodies of numbers: from JSON's text to one array, without an object for each number.

Where a request's rows are nested lists of nothing but numbers, most of a thousand-row request is
the making of floats and lists that live for a millisecond. simdjson writes such numbers into an
array as it reads them. All it does not know for certain is left to the ordinary way.
"""

from __future__ import annotations

import re
import secrets
import threading
from typing import Any, Final

import numpy as np

from . import request_body
from .refusal import Refusal

simdjson: Any
try:
    import simdjson

    simdjson.Parser().parse(b"[[1, 2.5]]").as_buffer(of_type="d")
except Exception:  # noqa: BLE001  a model's own environment need not have it, or not as it is today
    simdjson = None

#: Bytes of a body from which this way is the quicker one.
WORTH_IT: Final = 2048
#: Bytes of a text up to which its parser is kept for the next.
_KEPT: Final = 1024 * 1024
_own = threading.local()
#: What an array is asked of simdjson as.
FLOATS: Final = "d"
INTEGERS: Final = "i"

_DTYPES: Final = {FLOATS: np.dtype("float64"), INTEGERS: np.dtype("int64")}
#: From here on an integer may not be a float64 any more.
EXACT: Final = 2**53
#: Lists in each other: videos in rows have five. A step is a look through the whole text.
_DEEPEST: Final = 8
_OPENING: Final = re.compile(rb"\[[ \t\r\n]*\[")
#: What numbers are written with, and the space around them.
_IN_NUMBERS: Final = b"0123456789+-.eE \t\r\n"
#: Stands for the array in the rest of the body; nobody outside can guess it.
_PLACE: Final = f"array {secrets.token_hex(16)}"
_PLACE_JSON: Final = b'"%s"' % _PLACE.encode()


def loads(body: bytes, kind: str) -> Any:
    """The body's value, in which its nested list of numbers is one array of dtype float64 or int64,
    by `kind`: FLOATS or INTEGERS. None where there is no such list alone, no certainty that the
    array has the very values of the list, or no JSON. Never raises."""
    if simdjson is None or (start := _OPENING.search(body)) is None:
        return None
    text = _text(body, start.start())
    shape = _shape(text.translate(None, _IN_NUMBERS))
    if shape is None:
        return None
    array = _array(text, kind)
    if array is None or array.size != np.prod(shape):
        return None
    rest = body[: start.start()] + _PLACE_JSON + body[start.start() + len(text) :]
    try:
        fields = request_body.loads(rest)
    except Refusal:  # the list stood where none may: the whole body says it better
        return None
    return fields if _put(fields, array.reshape(shape)) else None


def _text(body: bytes, start: int) -> bytes:
    """What may be the list that starts there: all up to the next string or the end of the object
    that it is in."""
    ends = [at for mark in (b'"', b"}") if (at := body.find(mark, start)) >= 0]
    return body[start : min(ends, default=len(body))].rstrip(b", \t\r\n")


def _shape(brackets: bytes) -> tuple[int, ...] | None:
    """The shape of a nested list of which only brackets and commas are left; None where its lists
    are not all alike, or something else is left as well."""
    depth = len(brackets) - len(brackets.lstrip(b"["))
    inner = brackets.find(b"]") - depth + 1
    if not 2 <= depth <= _DEEPEST or inner < 1:
        return None
    shape, text = [inner], b"[" + b"," * (inner - 1) + b"]"
    for level in range(2, depth + 1):
        # The first list of this level lies between its own brackets.
        start, end = depth - level + 1, brackets.find(b"]" * level) + level - 1
        count = (end - start + 1) // (len(text) + 1)
        if count < 1:
            return None
        shape.append(count)
        text = b"[" + b",".join([text] * count) + b"]"
    return tuple(reversed(shape)) if text == brackets else None


def _array(text: bytes, kind: str) -> Any:
    """All numbers in their order; None where one is not of the kind, or not exactly."""
    try:
        read = _parser(len(text)).parse(text).as_buffer(of_type=kind)
        array = np.frombuffer(read, _DTYPES[kind])
    except (ValueError, TypeError, RuntimeError):  # by what is wrong with it
        return None
    if kind == FLOATS and not np.abs(array).max(initial=0) < EXACT:
        return None  # an integer of this size may have been rounded
    return array


def _parser(size: int) -> Any:
    """A parser for a text of this size: this thread's own, whose memory the kernel has given
    already, or one that takes its memory with it where that would be much (ten times the text)."""
    if size > _KEPT:
        return simdjson.Parser()
    if (kept := getattr(_own, "parser", None)) is None:
        kept = _own.parser = simdjson.Parser()
    return kept


def _put(fields: Any, array: Any) -> bool:
    """Put the array in its place: a form's value, or the `data` of that. Whether it was there."""
    if type(fields) is not dict:
        return False
    for form in fields.keys() & request_body.FORMS:
        value = fields[form]
        if value == _PLACE:
            fields[form] = array
            return True
        if type(value) is dict and value.get("data") == _PLACE:
            value["data"] = array
            return True
    return False
