"""Traces of requests for an OpenTelemetry collector; off unless asked for.

FastAPI makes the spans, and takes up the trace of a client that sends ``traceparent``. A span holds
the route, the status, the model and where the time went; never what was asked or answered, so
FastAPI's logs of refused bodies stay off.
"""

from collections.abc import Mapping

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from serve.tracing_args import TracingArgs

__all__ = ["describe_headers", "describe_span", "telemetry", "tracer_provider"]


def tracer_provider(args: TracingArgs) -> TracerProvider:
    """Collects spans and sends them in the background; to be shut down, which sends the rest."""
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(args.sample)),
        resource=Resource.create({"service.name": args.service_name}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=args.endpoint)))
    return provider


def telemetry(provider: TracerProvider | None) -> TelemetryConfig:
    """What FastAPI is told: traces for ``provider``, and nothing else."""
    return {
        "tracing": provider is not None,
        "tracer_provider": provider,
        "operation_spans": False,
        "metrics": False,
        "logs": False,
        "auto_configure": False,
    }


def describe_span(attributes: Mapping[str, str]) -> None:
    """Adds to the span of the request that is being answered, where there is one."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes({f"ray_sft.{name}": value for name, value in attributes.items()})


def describe_headers(headers: Mapping[str, str]) -> None:
    """The same for headers that tell the time, such as ``x-queue-time``."""
    if trace.get_current_span().is_recording():
        describe_span({name.removeprefix("x-"): value for name, value in headers.items()})
