"""A collector of traces: OTLP over HTTP, on a port of this machine. Whatever else it is asked, it
answers as a chat model."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.integration.server import wait_for
from tests.provider.provider import completion


@dataclass(frozen=True)
class Received:
    """A span as it came."""

    name: str
    trace: str
    id: str
    #: "" for the first of a trace.
    parent: str
    kind: int
    #: Nanoseconds since the epoch.
    began: int
    ended: int
    failed: bool
    attributes: dict[str, Any]
    #: Of the process that sent it.
    service: str


@dataclass
class Collector:
    port: int
    spans: list[Received] = field(default_factory=list)
    #: Headers of every request, lower-cased.
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of(self, trace: str) -> dict[str, Received]:
        """The spans of a trace by name."""
        return {span.name: span for span in list(self.spans) if span.trace == trace}

    def wait(self, trace: str, *names: str) -> dict[str, Received]:
        """The spans of a trace once all these have come."""

        def come() -> dict[str, Received] | None:
            found = self.of(trace)
            return found if found.keys() >= set(names) else None

        return wait_for(come, within=20, what=f"the spans {names}")


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            answer, kind = b"", "application/x-protobuf"
            if self.path == "/v1/traces":
                collector.spans += _spans(body)
            else:
                answer, kind = json.dumps(completion()).encode(), "application/json"
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(body: bytes) -> Iterator[Received]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _attributes(resource.resource.attributes).get("service.name", "")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Received(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == span.status.STATUS_CODE_ERROR,
                    _attributes(span.attributes),
                    service,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
