"""What a caller is told when its request, or the model, fails."""

from __future__ import annotations

import os
import sys

#: MLflow puts the repr of the input into some messages; callers know what they sent.
_MAX_MESSAGE = 4096

#: MLflow's codes that a model's failure may carry to the caller. Others (TEMPORARILY_UNAVAILABLE,
#: ENDPOINT_NOT_FOUND, ...) are words of the platform: clients act on them, and a model that uses
#: one would make them try again or look elsewhere.
_CALLERS_CODES = frozenset(("BAD_REQUEST", "INVALID_PARAMETER_VALUE"))

EVALUATION_FAILED = (
    "Encountered an unexpected error while evaluating the model. Verify that the serialized input "
    "Dataframe is compatible with the model for inference."
)


class Refusal(Exception):
    """An answer with an error in it: an HTTP status, Databricks' `error_code` and a message."""

    def __init__(self, message: str, *, status: int = 400, error_code: str = "BAD_REQUEST") -> None:
        message = without_paths(_printable(message))
        if len(message) > _MAX_MESSAGE:
            message = message[: _MAX_MESSAGE - 1] + "…"
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.message = message


def invalid(message: str) -> Refusal:
    """In the words of MLflow's `MlflowInvalidInputException`."""
    return Refusal(f"Invalid input. {message}")


def unsupported(message: str) -> Refusal:
    return Refusal(message, status=415, error_code="UNSUPPORTED_MEDIA_TYPE")


def too_large(limit: int) -> Refusal:
    return Refusal(
        f"The request is larger than {limit} bytes once inflated.",
        status=413,
        error_code="REQUEST_TOO_LARGE",
    )


def late() -> Refusal:
    return Refusal(
        "The request's deadline passed before the model could begin with it.",
        status=504,
        error_code="DEADLINE_EXCEEDED",
    )


def no_stream() -> Refusal:
    return Refusal(
        "This model does not stream: it has no `predict_stream`. Send the request without `stream`."
    )


def out_of_memory() -> Refusal:
    return Refusal("The model ran out of memory", status=500, error_code="INTERNAL_ERROR")


def of_mlflow(error: Exception, prefix: str = "") -> Refusal:
    """An `MlflowException`, known by its attributes: whichever MLflow the model brought."""
    code = getattr(error, "error_code", "")
    message = getattr(error, "message", "") or str(error)
    return Refusal(prefix + message, error_code=code if code in _CALLERS_CODES else "BAD_REQUEST")


def without_paths(message: str) -> str:
    """The message without this machine's folders: they are nobody's business."""
    for path in _own_paths:
        message = message.replace(path, "...")
    return message


def hide_path(path: str) -> None:
    """Have `path` taken out of all messages."""
    if len(path) > 1 and path not in _own_paths:
        _own_paths.append(path)
        _own_paths.sort(key=len, reverse=True)


def _printable(message: str) -> str:
    """Lone surrogates, which a model's message may hold, cannot be sent."""
    return message.encode("utf-8", "replace").decode("utf-8")


_own_paths: list[str] = []
for _path in (sys.prefix, sys.base_prefix, os.path.expanduser("~")):
    hide_path(_path)
