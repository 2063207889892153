import orjson
import pytest

from lakeport import errors
from lakeport.api.errors import as_api_error, encode_error
from lakeport.errors import ApiError
from lakeport.stores.base import StoreError


def every_error() -> list[type[ApiError]]:
    return sorted(ApiError.__subclasses__(), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_the_form_that_the_sdk_parses(kind: type[ApiError]) -> None:
    status, headers, body = encode_error(kind("what to do next"), "r1")

    assert status == kind.status
    assert dict(headers)[b"content-length"] == str(len(body)).encode()
    assert orjson.loads(body) == {
        "error_code": kind.error_code,
        "message": "what to do next",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.RequestInfo",
                "request_id": "r1",
                "serving_data": "",
            }
        ],
    }


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.TooManyRequests("x", retry_after=7), b"7"),
        (errors.TooManyRequests("x", retry_after=0), b"1"),
        (errors.Unavailable("x"), b"1"),
        (errors.BadRequest("x"), None),
    ],
)
def test_the_sdk_is_told_whole_seconds_to_wait(error: ApiError, expected: bytes | None) -> None:
    _, headers, _ = encode_error(error, "r1")

    assert dict(headers).get(b"retry-after") == expected


def test_a_message_that_is_no_unicode_is_still_an_answer() -> None:
    _, _, body = encode_error(errors.NotFound("\ud800"), "r1")

    assert b'"\\ud800"' in body


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.Conflict("mine"), 409),
        (StoreError("/home/x/db is locked"), 503),
        (RuntimeError("a secret"), 500),
    ],
)
def test_only_our_own_errors_are_told_to_clients(error: Exception, status: int) -> None:
    known = as_api_error(error)

    assert known.status == status
    assert isinstance(error, ApiError) or str(error) not in known.message
