"""What a server's error says, in whatever form it says it, as one of our errors."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from lakeport.client.errors import ApiError, BadAnswer, LakeportError, TimedOut, kind_of
from lakeport.client.flow import Response
from lakeport.client.readings import loads

#: Characters of a body that is no JSON, or of an object, that a message shows.
_SHOWN = 500
_CODE = re.compile(r"^([A-Z][A-Z0-9_]{3,}): (.+)$", re.DOTALL)
_PRE = re.compile(r"<pre[^>]*>(.*?)</pre>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^>]+>")
#: Statuses of the errors that a stream may tell of, which it does without one.
_STATUS = {
    "BAD_REQUEST": 400,
    "INVALID_PARAMETER_VALUE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "REQUEST_LIMIT_EXCEEDED": 429,
    "RESOURCE_EXHAUSTED": 429,
    "TEMPORARILY_UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_REQUEST_ID = ("x-request-id", "x-databricks-request-id", "x-ms-request-id")

_PLAIN = {
    400: "The request is not valid.",
    401: "The server wants a valid token: check DATABRICKS_TOKEN or the profile.",
    403: "The token's owner may not do this.",
    404: "There is no such endpoint or route.",
    413: "The request is too large: send fewer rows.",
    429: "Too many requests.",
    503: "The endpoint does not serve now.",
    504: "The server gave up waiting for the model.",
}


def request_id(headers: Mapping[str, str]) -> str | None:
    return next((headers[name] for name in _REQUEST_ID if headers.get(name)), None)


def error_of(response: Response, endpoint: str | None = None) -> LakeportError:
    """The error for an answer that is none: of any status but 2xx."""
    status = response.status
    if status < 400:
        where = response.headers.get("location", "").partition("?")[0] or "somewhere else"
        return BadAnswer(
            f"The server answered {status} and points to {where}. Redirects are not followed, "
            "since the token would go along: check the host.",
            endpoint=endpoint,
            status=status,
            request_id=request_id(response.headers),
        )
    said = _read(response.body.decode(errors="replace").strip())
    after = _seconds(response.headers.get("retry-after"))
    return _made(
        said,
        status=status,
        endpoint=endpoint,
        request=request_id(response.headers),
        retry_after=said.get("retry_after") if after is None else after,
    )


def error_in_stream(document: Any, endpoint: str, request: str | None) -> LakeportError | None:
    """The error that an event of a stream tells of; None: it is no error."""
    if not isinstance(document, Mapping):
        return None
    own = document.get("databricks_output")
    if isinstance(own, Mapping) and own.get("error"):
        document = own
    code = document.get("error_code")
    if not document.get("error") and not (isinstance(code, str) and "choices" not in document):
        return None
    said = _from_json(document)
    status = said.get("status")
    if not isinstance(status, int) or not 400 <= status < 600:
        status = _STATUS.get(said.get("code") or "", 500)
    return _made(
        said,
        status=status,
        endpoint=endpoint,
        request=request,
        retry_after=said.get("retry_after"),
    )


def _made(
    said: Mapping[str, Any],
    *,
    status: int,
    endpoint: str | None,
    request: str | None,
    retry_after: float | None,
) -> LakeportError:
    code = said.get("code")
    message = said.get("message") or _PLAIN.get(status, f"The server answered {status}.")
    details = said.get("details") or []
    request = request or _request_of(details)
    if status == 504:
        return TimedOut(
            message, endpoint=endpoint, status=status, error_code=code, request_id=request
        )
    made: ApiError = kind_of(status, code)(
        message,
        endpoint=endpoint,
        status=status,
        error_code=code,
        request_id=request,
        details=details,
        retry_after=retry_after,
    )
    return made


def _read(text: str) -> dict[str, Any]:
    """Any of the forms: JSON, `CODE: message`, HTML, text, nothing."""
    if not text:
        return {}
    if text[0] in "{[":
        try:
            document = loads(text)
        except ValueError:
            return {"message": text[:_SHOWN]}
        if isinstance(document, Mapping):
            return _from_json(document)
        return {"message": text[:_SHOWN]}
    if text[0] == "<":
        found = _PRE.search(text)
        plain = " ".join(_TAG.sub(" ", found[1] if found else text).split())
        return {"message": plain[:_SHOWN]}
    if coded := _CODE.match(text):
        return {"code": coded[1], "message": coded[2][:_SHOWN]}
    return {"message": text[:_SHOWN]}


def _from_json(document: Mapping[str, Any]) -> dict[str, Any]:
    inner = document.get("error")
    if isinstance(inner, Mapping):  # OpenAI's form, and the limits' of foundation models
        document = {**document, **inner}
    elif isinstance(inner, str) and not document.get("message"):
        # OAuth's form has the reason in error_description.
        told = document.get("error_description")
        document = {**document, "message": told or inner, "code": inner if told else None}
    code = document.get("error_code") or document.get("code") or document.get("scimType")
    status = document.get("status") or document.get("status_code") or document.get("code")
    message = document.get("message") or document.get("detail") or document.get("errorSummary")
    details = document.get("details")
    word = code if isinstance(code, str) and code else document.get("type")
    return {
        "code": word if isinstance(word, str) and word else None,
        "status": int(str(status)) if str(status).isdigit() else None,
        "message": _text(message),
        "details": list(details) if isinstance(details, list) else [],
        "retry_after": _seconds(document.get("retry_after")),
    }


def _text(message: Any) -> str | None:
    return message if isinstance(message, str) or message is None else str(message)[:_SHOWN]


def _request_of(details: Sequence[Any]) -> str | None:
    for detail in details:
        if isinstance(detail, Mapping) and isinstance(detail.get("request_id"), str):
            return str(detail["request_id"])
    return None


def _seconds(value: Any) -> float | None:
    """A Retry-After: seconds, or a date. None for anything else."""
    if value is None or isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        try:
            date = parsedate_to_datetime(str(value))
        except ValueError:
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (date - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if seconds < float("inf") else None
