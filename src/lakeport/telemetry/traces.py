"""Traces of invocations, where the environment asks for them; `telemetry/otel.py` makes them.

Without one of OpenTelemetry's variables nothing of it is imported, and nothing is paid.
"""

import importlib.util
import logging
import os
from collections.abc import Mapping
from typing import Protocol

log = logging.getLogger(__name__)

#: What `OTEL_TRACES_EXPORTER` may name here.
EXPORTERS = ("otlp", "console")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPEAKS = "http/protobuf"


class Trace(Protocol):
    """One invocation's."""

    @property
    def traceparent(self) -> str:
        """W3C's header for whoever computes it: what they trace becomes part of "predict"."""

    def sent(self) -> None:
        """It has left the queue."""

    def ended(self, status: int, compute: float) -> None:
        """It was answered with an HTTP status; the model computed `compute` seconds. Once."""


class Tracer(Protocol):
    def begin(self, traceparent: str | None, endpoint: str, request_id: str) -> Trace:
        """An invocation has come. `traceparent` is W3C's header as its caller sent it: one that is
        none begins a trace of its own."""

    def close(self) -> None:
        """Send what has not been sent. Blocks for a few seconds at most."""


def open_tracer(environment: Mapping[str, str] = os.environ) -> Tracer | None:
    """A tracer as OpenTelemetry's variables ask for it, or None. What they ask for and cannot be
    had is logged: it is no reason not to serve."""
    exporters = wanted(environment)
    if not exporters:
        return None
    unknown = [name for name in exporters if name not in EXPORTERS]
    if unknown:
        log.warning(
            "OTEL_TRACES_EXPORTER: %s; expected %s or none. Nothing is traced.",
            ", ".join(unknown), ", ".join(EXPORTERS),
        )  # fmt: skip
        return None
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), _SPEAKS)
    if "otlp" in exporters and protocol != _SPEAKS:
        log.warning("%s: %s; expected %s. Nothing is traced.", _PROTOCOLS[1], protocol, _SPEAKS)
        return None
    if not _is_installed("otlp" in exporters):
        log.warning(
            "OTEL_* asks for traces, and OpenTelemetry is not installed: "
            "pip install 'lakeport[tracing]'. Nothing is traced."
        )
        return None
    from lakeport.telemetry.otel import SdkTracer  # noqa: PLC0415 - heavy, not everywhere

    return SdkTracer(exporters)


def wanted(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The exporters that OpenTelemetry's variables ask for; none: nothing is to be traced.

    Unlike OpenTelemetry itself, an environment that says nothing means none.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    named = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if named:
        names = dict.fromkeys(name.strip() for name in named.split(",") if name.strip())
        return tuple(name for name in names if name != "none")
    return ("otlp",) if any(environment.get(name) for name in _ENDPOINTS) else ()


def _is_installed(otlp: bool) -> bool:
    needed = ["opentelemetry.sdk"]
    if otlp:
        needed.append("opentelemetry.exporter.otlp.proto.http")
    try:
        return all(importlib.util.find_spec(name) is not None for name in needed)
    except ModuleNotFoundError:  # a package on the way to it
        return False
