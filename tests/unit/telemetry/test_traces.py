"""Traces: asked for by OpenTelemetry's variables, made by its SDK, and nothing without them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

import pytest

from lakeport.telemetry.traces import Tracer, open_tracer, wanted
from lakeport.worker.tracing import joined
from tests.collector import Collector, collecting

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture
def tracer(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracer]:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    opened = open_tracer()
    assert opened is not None
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("environment", "exporters"),
    [
        ({}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://there:4318"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://there:4318/v1/traces"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://there:4318"}, ()),
        ({"OTEL_TRACES_EXPORTER": "console"}, ("console",)),
        ({"OTEL_TRACES_EXPORTER": "otlp, console"}, ("otlp", "console")),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://there"}, ()),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://there"}, ()),
    ],
)
def test_the_environment_says_what_is_wanted(
    environment: Mapping[str, str], exporters: tuple[str, ...]
) -> None:
    assert wanted(environment) == exporters


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin; expected otlp, console or none"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "grpc; expected http/protobuf",
        ),
    ],
)
def test_what_cannot_be_had_is_said_and_the_server_serves(
    environment: Mapping[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_tracer(environment) is None
    assert said in caplog.text


def test_nothing_is_imported_when_nothing_is_wanted() -> None:
    """But for OpenTelemetry's bare API, which comes with FastAPI."""
    code = (
        "import sys\n"
        "import lakeport.application\n"
        "from lakeport.telemetry.traces import open_tracer\n"
        "assert open_tracer() is None\n"
        "heavy = ('opentelemetry.sdk', 'opentelemetry.exporter', 'opentelemetry.proto')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=clean
    )

    assert done.stdout.strip() == "[]", done.stderr


def test_an_invocation_is_a_part_of_its_callers_trace(tracer: Tracer, collector: Collector) -> None:
    traced = tracer.begin(SAMPLED, "iris", "abc")
    traced.sent()
    traced.ended(200, 0.25)

    spans = collector.wait(TRACE, "invocations", "queue", "predict")

    server, queue, predict = (spans[name] for name in ("invocations", "queue", "predict"))
    assert server.parent == SPAN
    assert queue.parent == predict.parent == server.id
    assert traced.traceparent == f"00-{TRACE}-{predict.id}-01"
    assert server.began == queue.began <= queue.ended == predict.began <= predict.ended
    assert predict.ended == server.ended
    assert server.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "lakeport.endpoint": "iris",
        "lakeport.request_id": "abc",
    }
    assert predict.attributes == {"lakeport.compute_seconds": 0.25}
    assert server.service == "lakeport"
    assert not server.failed


def test_one_that_was_never_sent_has_no_predict_and_failed(
    tracer: Tracer, collector: Collector
) -> None:
    traced = tracer.begin(None, "iris", "abc")
    trace = traced.traceparent.split("-")[1]
    traced.ended(504, 0.0)

    spans = collector.wait(trace, "invocations", "queue")

    assert spans.keys() == {"invocations", "queue"}
    assert spans["invocations"].failed
    assert spans["invocations"].parent == ""


@pytest.mark.parametrize(
    "header", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", "é" * 55]
)
def test_a_header_that_is_none_begins_a_trace_of_its_own(tracer: Tracer, header: str) -> None:
    version, trace, span, flags = tracer.begin(header, "iris", "abc").traceparent.split("-")

    assert (version, int(flags, 16) & 1) == ("00", 1)
    assert trace not in (TRACE, "0" * 32)
    assert len(span) == 16


def test_what_its_caller_does_not_sample_is_handed_on_so(
    tracer: Tracer, collector: Collector
) -> None:
    traced = tracer.begin(f"00-{TRACE}-{SPAN}-00", "iris", "abc")
    traced.sent()
    traced.ended(200, 0.1)
    after = tracer.begin(None, "iris", "abc")
    after.ended(200, 0.1)
    collector.wait(after.traceparent.split("-")[1], "invocations")

    assert traced.traceparent.startswith(f"00-{TRACE}-")
    assert traced.traceparent.endswith("-00")
    assert collector.of(TRACE) == {}


def test_the_standard_sampler_decides(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    opened = open_tracer()
    assert opened is not None

    opened.begin(None, "iris", "abc").ended(200, 0.1)
    opened.close()

    assert collector.spans == []


def test_closing_sends_what_is_left_under_the_name_that_was_asked_for(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=secret")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    opened = open_tracer()
    assert opened is not None

    opened.begin(SAMPLED, "iris", "abc").ended(200, 0.1)
    opened.close()

    assert {span.service for span in collector.spans} == {"mine"}
    assert {headers["x-api-key"] for headers in collector.headers} == {"secret"}


def test_a_collector_that_is_not_there_holds_up_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    opened = open_tracer()
    assert opened is not None
    opened.begin(SAMPLED, "iris", "abc").ended(200, 0.1)
    began = time.monotonic()

    opened.close()

    assert time.monotonic() - began < 6


# --- in a worker --------------------------------------------------------------------------------


def test_a_predict_runs_in_the_trace_of_its_request() -> None:
    from opentelemetry import trace

    with joined(SAMPLED):
        inside = trace.get_current_span().get_span_context()
    outside = trace.get_current_span().get_span_context()

    assert (f"{inside.trace_id:032x}", f"{inside.span_id:016x}") == (TRACE, SPAN)
    assert not outside.is_valid


@pytest.mark.parametrize("header", [None, "", "nonsense"])
def test_a_predict_without_a_trace_has_none(header: str | None) -> None:
    from opentelemetry import trace

    with joined(header):
        assert not trace.get_current_span().get_span_context().is_valid


def test_a_worker_without_opentelemetry_predicts() -> None:
    code = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "from lakeport.worker.tracing import joined\n"
        f"with joined('{SAMPLED}'):\n    print('predicted')"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "predicted", done.stderr
