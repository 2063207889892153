"""Puts a request into the trace that it belongs to, as far as the model's environment knows traces.

What a model then traces with OpenTelemetry, by an exporter of its own, and what its HTTP libraries
send on, is part of the request's "predict".
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

_NOTHING: AbstractContextManager[None] = nullcontext()


def joined(traceparent: str | None) -> AbstractContextManager[None]:
    """Around a predict: OpenTelemetry's current span is that of `traceparent`, W3C's header.

    Does nothing without one, where OpenTelemetry is not installed, and for a header that is none.
    """
    if traceparent is None:
        return _NOTHING
    api = _api()
    return _NOTHING if api is None else _joined(api, traceparent)


@contextmanager
def _joined(api: Any, traceparent: str) -> Iterator[None]:
    context, headers = api
    token = context.attach(headers.extract({"traceparent": traceparent}))
    try:
        yield
    finally:
        context.detach(token)


@cache
def _api() -> Any:
    """OpenTelemetry's contexts, and its reader of W3C's header; None without it."""
    try:
        from opentelemetry import context
        from opentelemetry.trace.propagation import tracecontext
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the model is to answer
        return None
    return context, tracecontext.TraceContextTextMapPropagator()
