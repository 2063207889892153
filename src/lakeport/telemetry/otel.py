"""Spans of invocations, by OpenTelemetry's SDK: "invocations", in it "queue" and "predict".

Everything but the choice of exporters is the SDK's to read from its variables: the sampler, limits,
the resource, where to export to and how often. A thread of its own sends them.
"""

import threading
import time
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lakeport import __version__

#: Seconds that the last spans get to reach a collector.
LAST_CALL = 3.0

_HEADERS = TraceContextTextMapPropagator()


class _Ids(RandomIdGenerator):
    """Random ids; but a span may be given the one that was promised to it."""

    promised = 0

    def generate_span_id(self) -> int:
        promised, self.promised = self.promised, 0
        return promised or super().generate_span_id()


class SdkTracer:
    """A `Tracer`. Not for several threads."""

    def __init__(self, exporters: Sequence[str]) -> None:
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=_resource(), id_generator=self._ids, shutdown_on_exit=False
        )
        for name in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(_exporter(name)))
        self._tracer = self._provider.get_tracer("lakeport", __version__)

    def begin(self, traceparent: str | None, endpoint: str, request_id: str) -> "SdkTrace":
        parent = Context() if traceparent is None else _extracted(traceparent)
        now = time.time_ns()
        span = self._tracer.start_span(
            "invocations",
            parent,
            SpanKind.SERVER,
            {
                "http.request.method": "POST",
                "lakeport.endpoint": endpoint,
                "lakeport.request_id": request_id,
            },
            start_time=now,
        )
        return SdkTrace(self, span, now)

    def promise(self) -> int:
        """An id for a span that is yet to come."""
        return self._ids.generate_span_id()

    def child(
        self, of: Context, name: str, kind: SpanKind, began: int, *, promised: int = 0
    ) -> Span:
        self._ids.promised = promised
        try:
            return self._tracer.start_span(name, of, kind, start_time=began)
        finally:
            self._ids.promised = 0

    def close(self) -> None:
        # Its own thread: nothing bounds the time that a collector may take.
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(LAST_CALL)


class SdkTrace:
    """A `Trace`."""

    __slots__ = ("_began", "_context", "_predict", "_sent", "_span", "_tracer", "traceparent")

    def __init__(self, tracer: SdkTracer, span: Span, began: int) -> None:
        self._tracer = tracer
        self._span = span
        self._began = began
        self._sent = 0
        self._predict = 0
        context = span.get_span_context()
        if span.is_recording():
            self._context = trace.set_span_in_context(span, Context())
            self._predict = tracer.promise()
        self.traceparent = _traceparent(context, self._predict or context.span_id)

    def sent(self) -> None:
        if self._predict:
            self._sent = time.time_ns()

    def ended(self, status: int, compute: float) -> None:
        span = self._span
        if not span.is_recording():
            return
        now = time.time_ns()
        queue = self._tracer.child(self._context, "queue", SpanKind.INTERNAL, self._began)
        queue.end(self._sent or now)
        failure = Status(StatusCode.ERROR) if status >= 500 else None
        if self._sent:
            predict = self._tracer.child(
                self._context, "predict", SpanKind.CLIENT, self._sent, promised=self._predict
            )
            predict.set_attribute("lakeport.compute_seconds", compute)
            if failure is not None:
                predict.set_status(failure)
            predict.end(now)
        span.set_attribute("http.response.status_code", status)
        if failure is not None:
            span.set_status(failure)
        span.end(now)


def _extracted(traceparent: str) -> Context:
    """The context of a caller's header; an empty one when it is none."""
    return _HEADERS.extract({"traceparent": traceparent}, Context())


def _traceparent(context: SpanContext, span_id: int) -> str:
    return f"00-{context.trace_id:032x}-{span_id:016x}-{context.trace_flags:02x}"


def _resource() -> Resource:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, and a name where they give none."""
    resource = Resource.create()
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "lakeport"}))
    return resource


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - an extra
        OTLPSpanExporter,
    )

    return OTLPSpanExporter()
