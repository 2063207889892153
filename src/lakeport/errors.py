"""Every refusal that a client can see, as one tree.

    ApiError
    ├── MalformedRequest    400 MALFORMED_REQUEST         the body is no JSON object
    ├── InvalidParameter    400 INVALID_PARAMETER_VALUE   a field is wrong; names the field
    ├── BadRequest          400 BAD_REQUEST               a model refused its input
    ├── InvalidState        400 INVALID_STATE             stopped, failed, or the wrong moment
    ├── LimitExceeded       400 RESOURCE_LIMIT_EXCEEDED   as many scopes or secrets as there may be
    ├── Unauthenticated     401 UNAUTHENTICATED
    ├── PermissionDenied    403 PERMISSION_DENIED
    ├── NotFound            404 RESOURCE_DOES_NOT_EXIST   a thing of the control plane
    ├── EndpointNotFound    404 ENDPOINT_NOT_FOUND        an invocation or a route
    ├── MethodNotAllowed    405 METHOD_NOT_ALLOWED
    ├── AlreadyExists       409 RESOURCE_ALREADY_EXISTS
    │   └── ScopeExists     400 RESOURCE_ALREADY_EXISTS   a scope of secrets
    ├── Conflict            409 RESOURCE_CONFLICT
    ├── TooLarge            413 REQUEST_TOO_LARGE
    ├── UnsupportedMedia    415 UNSUPPORTED_MEDIA_TYPE
    ├── TooManyRequests     429 REQUEST_LIMIT_EXCEEDED    with Retry-After
    │   └── QuotaExceeded   429 RESOURCE_EXHAUSTED        the workspace is full
    ├── Internal            500 INTERNAL_ERROR
    ├── NotImplementedYet   501 NOT_IMPLEMENTED           Databricks can, Lakeport cannot yet
    ├── BadGateway          502 BAD_GATEWAY
    ├── Unavailable         503 TEMPORARILY_UNAVAILABLE   with Retry-After
    └── DeadlineExceeded    504 DEADLINE_EXCEEDED

The codes are those of the Databricks REST API; its SDK picks its exception class by `error_code`
first and by status second.
"""

from typing import Any, ClassVar

ENDPOINT_GONE = (
    "The given endpoint does not exist, please retry after checking the specified model and "
    "version deployment exists."
)


class ApiError(Exception):
    """A refusal with its HTTP status, `error_code` and a message that says what to do next."""

    status: ClassVar[int] = 500
    error_code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        #: Whole seconds, at least 1, for the `Retry-After` header.
        self.retry_after = retry_after
        #: Which served entity was asked, where one was, for the header `served-model-name`.
        self.served_entity: str | None = None

    def body(self, request_id: str) -> dict[str, Any]:
        """The JSON body that Databricks' clients parse."""
        return error_body(self.error_code, self.message, request_id)


def error_body(error_code: str, message: str, request_id: str) -> dict[str, Any]:
    """An error in Databricks' form; the SDK shows `details` as the error's request info."""
    return {
        "error_code": error_code,
        "message": message,
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.RequestInfo",
                "request_id": request_id,
                "serving_data": "",
            }
        ],
    }


class MalformedRequest(ApiError):
    status = 400
    error_code = "MALFORMED_REQUEST"


class InvalidParameter(ApiError):
    status = 400
    error_code = "INVALID_PARAMETER_VALUE"


class BadRequest(ApiError):
    status = 400
    error_code = "BAD_REQUEST"


class InvalidState(ApiError):
    status = 400
    error_code = "INVALID_STATE"


class LimitExceeded(ApiError):
    status = 400
    error_code = "RESOURCE_LIMIT_EXCEEDED"


class Unauthenticated(ApiError):
    status = 401
    error_code = "UNAUTHENTICATED"


class PermissionDenied(ApiError):
    status = 403
    error_code = "PERMISSION_DENIED"


class NotFound(ApiError):
    status = 404
    error_code = "RESOURCE_DOES_NOT_EXIST"


class EndpointNotFound(ApiError):
    status = 404
    error_code = "ENDPOINT_NOT_FOUND"


class MethodNotAllowed(ApiError):
    status = 405
    error_code = "METHOD_NOT_ALLOWED"


class AlreadyExists(ApiError):
    status = 409
    error_code = "RESOURCE_ALREADY_EXISTS"


class ScopeExists(AlreadyExists):
    status = 400


class Conflict(ApiError):
    status = 409
    error_code = "RESOURCE_CONFLICT"


class TooLarge(ApiError):
    status = 413
    error_code = "REQUEST_TOO_LARGE"


class UnsupportedMedia(ApiError):
    status = 415
    error_code = "UNSUPPORTED_MEDIA_TYPE"


class TooManyRequests(ApiError):
    status = 429
    error_code = "REQUEST_LIMIT_EXCEEDED"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message, retry_after=retry_after)


class QuotaExceeded(TooManyRequests):
    error_code = "RESOURCE_EXHAUSTED"


class Internal(ApiError):
    status = 500
    error_code = "INTERNAL_ERROR"


class NotImplementedYet(ApiError):
    status = 501
    error_code = "NOT_IMPLEMENTED"


class BadGateway(ApiError):
    status = 502
    error_code = "BAD_GATEWAY"


class Unavailable(ApiError):
    status = 503
    error_code = "TEMPORARILY_UNAVAILABLE"

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message, retry_after=retry_after)


class DeadlineExceeded(ApiError):
    status = 504
    error_code = "DEADLINE_EXCEEDED"
