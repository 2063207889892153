"""What a server's refusals and a call's failures become: answers without keys and addresses."""

import math
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson

from lakeport.providers.cleaning import Cleaner
from lakeport.providers.egress import EgressRefused
from lakeport.providers.over_socket import NotConnected, NotHttp
from lakeport.runtimes.base import Answer

BAD_GATEWAY = "BAD_GATEWAY"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
#: A server's own refusal of the key that the endpoint holds, or of a proxy's.
_KEY_REFUSED = (401, 403, 407)
#: The longest that a caller is asked to wait, in seconds.
_LONGEST_WAIT = 86_400


def bad_gateway(message: str) -> Answer:
    return Answer(502, b"", error=(BAD_GATEWAY, message))


def too_late(message: str) -> Answer:
    return Answer(504, b"", error=(DEADLINE_EXCEEDED, message))


def refusal(
    who: str, status: int, body: bytes | None, cleaner: Cleaner, retry_after: int | None
) -> Answer:
    """The answer to a status of 400 and above. `body` is None where it was too large to read.

    Its own status and an OpenAI error object, cleaned; a refused key is no fault of our caller.
    """
    return _refusal(who, status, cleaner.value(_error_in(body)), retry_after)


def failed_at_once(who: str, error: Any, cleaner: Cleaner) -> Answer:
    """The answer to an error that came with status 200, before anything else did."""
    cleaned = cleaner.value(_error_object(error))
    status = _status_in(cleaned)
    if status is None:
        return bad_gateway(f"{who} failed: {cleaned.get('message') or 'it did not say why'}")
    return _refusal(who, status, cleaned, None)


def message_of(error: Any, cleaner: Cleaner) -> str:
    """The words of an error that came in mid-stream."""
    return str(cleaner.value(_error_object(error)).get("message") or "it did not say why")


def error_of(document: Any) -> Any:
    """The error that a document tells of, or None; servers have several ways to say it."""
    if not isinstance(document, dict):
        return None
    if document.get("object") == "error":
        return document
    return document.get("error") or None


def _refusal(who: str, status: int, error: dict[str, Any], retry_after: int | None) -> Answer:
    message = error.get("message")
    if status in _KEY_REFUSED:
        said = f": {message}" if message else "."
        return bad_gateway(f"{who} refused the key that this endpoint has for it ({status}){said}")
    if not isinstance(message, str) or not message:
        error["message"] = f"{who} answered with status {status}."
    error.setdefault("type", "server_error" if status >= 500 else "invalid_request_error")
    error.setdefault("code", None)
    return Answer(status, orjson.dumps({"error": error}), retry_after=retry_after)


def _error_in(body: bytes | None) -> dict[str, Any]:
    try:
        document = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return {}  # a page for people, most of the time
    return _error_object(document.get("error") or document) if isinstance(document, dict) else {}


def _error_object(error: Any) -> dict[str, Any]:
    """An error in any of the forms that servers have, as OpenAI's `error` object."""
    if not isinstance(error, dict):
        return {"message": error if isinstance(error, str) else str(error)}
    if isinstance(error.get("message"), str):
        if "error_code" in error:  # Databricks' form
            return {"message": error["message"], "code": error["error_code"]}
        return dict(error)
    detail = error.get("detail")
    if detail is None:
        return dict(error)
    return {"message": detail if isinstance(detail, str) else orjson.dumps(detail).decode()}


def _status_in(error: Mapping[str, Any]) -> int | None:
    for name in ("status", "status_code", "code"):
        value = error.get(name)
        if isinstance(value, str) and len(value) == 3 and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return None


def retry_after(headers: Mapping[str, str], now: float | None = None) -> int | None:
    """Whole seconds, at least 1, that a server asks to wait: `retry-after-ms`, or `Retry-After`
    as seconds or as a date."""
    seconds = _number(headers.get("retry-after-ms"))
    if seconds is not None:
        seconds /= 1000
    elif (given := headers.get("Retry-After")) is not None:
        seconds = _number(given)
        if seconds is None:
            try:
                seconds = parsedate_to_datetime(given).timestamp() - (now or time.time())
            except (ValueError, OverflowError):
                return None
    if seconds is None:
        return None
    return min(max(1, math.ceil(seconds)), _LONGEST_WAIT)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# --- what went wrong on the way -------------------------------------------------------------------

#: The first class that fits decides; what it says follows "The server ".
_WORDS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (aiohttp.ClientHttpProxyError, "cannot be reached: the proxy refused to connect to it."),
    (aiohttp.ClientProxyConnectionError, "cannot be reached: the proxy does not answer."),
    (
        (aiohttp.ClientConnectorCertificateError, ssl.CertificateError),
        "showed a TLS certificate that is not trusted here.",
    ),
    ((aiohttp.ClientSSLError, ssl.SSLError), "cannot be spoken to by TLS."),
    (aiohttp.ClientConnectorDNSError, "cannot be found: its name does not resolve."),
    ((aiohttp.ClientConnectorError, NotConnected), "cannot be connected to."),
    ((aiohttp.ClientResponseError, NotHttp), "answered with something that is not HTTP."),
    (aiohttp.InvalidURL, "has an address that is not valid."),
)
BROKE_OFF = "broke off before its answer was whole."


def failure(who: str, problem: BaseException, connect_timeout: float) -> Answer:
    """The answer to a call that did not come through."""
    if isinstance(problem, EgressRefused):
        return bad_gateway(f"{who} is at an address that is not allowed: {problem}.")
    if isinstance(problem, TimeoutError):
        return too_late(f"{who} could not be connected to within {connect_timeout:g} seconds.")
    for kind, words in _WORDS:
        if isinstance(problem, kind):
            return bad_gateway(f"{who} {words}")
    return bad_gateway(f"{who} {BROKE_OFF}")
