"""Errors in every form that servers give them."""

import time
from email.utils import formatdate

import pytest

from lakeport.client import errors
from lakeport.client.errors import ApiError, TimedOut
from lakeport.client.flow import Response
from lakeport.client.refusals import error_in_stream, error_of
from tests.unit.client.flows import reply

#: As Databricks and MLflow word them: the body, its code and its message.
FORMS: list[tuple[bytes, str | None, str]] = [
    (b'{"error_code": "BAD_REQUEST", "message": "no"}', "BAD_REQUEST", "no"),
    (b'{"error": "no"}', None, "no"),
    (b'{"error": {"message": "no", "type": "rate_limit_exceeded", "code": 429}}',
     "rate_limit_exceeded", "no"),
    (b'{"error": {"message": "no", "code": "context_length_exceeded"}}',
     "context_length_exceeded", "no"),
    (b'{"error": "invalid_grant", "error_description": "no"}', "invalid_grant", "no"),
    (b'{"errorCode": "E1", "errorSummary": "no"}', None, "no"),
    (b'{"schemas": [], "detail": "no", "status": "404", "scimType": "invalidValue"}',
     "invalidValue", "no"),
    (b"RESOURCE_CONFLICT: no", "RESOURCE_CONFLICT", "no"),
    (b"no", None, "no"),
    (b"cannot unmarshal request body: x", None, "cannot unmarshal request body: x"),
    (b"<html><body><h2>Error</h2><pre>no\n way</pre></body></html>", None, "no way"),
    (b"<html><title>502 Bad Gateway</title></html>", None, "502 Bad Gateway"),
    (b'{"error_code": "X", "message": {"usage": 1}}', "X", "{'usage': 1}"),
    (b'{"broken": ', None, '{"broken":'),
    (b'["no"]', None, '["no"]'),
    (b"\xff\xfe", None, "\ufffd\ufffd"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code", "message"), FORMS)
def test_every_form_of_body(body: bytes, code: str | None, message: str) -> None:
    error = error_of(Response(400, {}, body), "iris")

    assert type(error) is errors.BadRequest
    assert (error.message, error.error_code) == (message, code)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, None, errors.BadRequest),
        (400, "INVALID_STATE", errors.NotReady),
        (401, None, errors.Unauthenticated),
        (403, None, errors.PermissionDenied),
        (404, None, errors.NotFound),
        (408, None, errors.BadRequest),
        (409, None, errors.Conflict),
        (413, None, errors.BadRequest),
        (422, None, errors.BadRequest),
        (429, None, errors.RateLimited),
        (500, None, errors.ServerError),
        (502, None, errors.ServerError),
        (503, None, errors.NotReady),
        (504, None, errors.TimedOut),
    ],
)
def test_every_status_has_its_class(status: int, code: str | None, kind: type) -> None:
    error = error_of(reply({"error_code": code, "message": "no"}, status), "iris")

    assert type(error) is kind
    assert (error.status, error.endpoint) == (status, "iris")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 418, 429, 500, 503, 504])
def test_an_empty_body_has_a_message_too(status: int) -> None:
    assert len(error_of(Response(status, {}, b"")).message) > 10


def test_the_request_is_found_in_the_details() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RequestInfo", "request_id": "r7"}]

    error = error_of(reply({"message": "no", "details": details}, 400))

    assert isinstance(error, ApiError)
    assert (error.request_id, error.details) == ("r7", details)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("1.5", 1.5),
        ("-2", 0.0),
        ("soon", None),
        ("", None),
        ("inf", None),
        ("nan", None),
    ],
)
def test_retry_after(header: str, seconds: float | None) -> None:
    error = error_of(reply(None, 429, retry_after=header))

    assert isinstance(error, ApiError)
    assert error.retry_after == seconds


def test_retry_after_as_a_date() -> None:
    error = error_of(reply(None, 503, retry_after=formatdate(time.time() + 100, usegmt=True)))

    assert isinstance(error, ApiError)
    assert error.retry_after == pytest.approx(100, abs=5)


def test_limits_of_foundation_models_tell_their_wait_in_the_body() -> None:
    inner = {"message": "no", "type": "rate_limit_exceeded", "code": 429, "retry_after": 12}

    error = error_of(reply({"error": inner}, 429))

    assert isinstance(error, errors.RateLimited)
    assert error.retry_after == 12


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"error": {"message": "no", "code": 429}}, errors.RateLimited),
        ({"error": {"message": "no", "type": "server_error"}}, errors.ServerError),
        ({"error": "no"}, errors.ServerError),
        ({"error_code": "BAD_REQUEST", "message": "no", "status_code": 400}, errors.BadRequest),
        ({"databricks_output": {"error": "no"}}, errors.ServerError),
        ({"error": {"message": "no", "code": 504}}, TimedOut),
    ],
)
def test_an_event_that_is_an_error(document: object, kind: type) -> None:
    error = error_in_stream(document, "bot", "r1")

    assert type(error) is kind
    assert error is not None
    assert (error.message, error.endpoint, error.request_id) == ("no", "bot", "r1")


@pytest.mark.parametrize(
    "document", [{"choices": []}, {"choices": [], "error": None}, [], "x", {"delta": "hi"}]
)
def test_an_event_that_is_none(document: object) -> None:
    assert error_in_stream(document, "bot", None) is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("BAD_REQUEST", errors.BadRequest),
        ("REQUEST_LIMIT_EXCEEDED", errors.RateLimited),
        ("TEMPORARILY_UNAVAILABLE", errors.NotReady),
        ("DEADLINE_EXCEEDED", TimedOut),
        ("SOMETHING_NEW", errors.ServerError),
    ],
)
def test_an_event_without_a_status_has_its_codes(code: str, kind: type[Exception]) -> None:
    error = error_in_stream({"error_code": code, "message": "no"}, "bot", None)

    assert type(error) is kind
