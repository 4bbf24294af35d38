"""Settings of `serve.tracing`, apart from it: a command line need not know OpenTelemetry."""

from pydantic import Field

from ray_sft.core import Config

__all__ = ["TracingArgs"]


class TracingArgs(Config):
    """Where traces go, and how many."""

    endpoint: str = Field(default="http://127.0.0.1:4318/v1/traces", pattern="^https?://")
    """OTLP over HTTP; a collector's address."""
    sample: float = Field(default=0.05, ge=0.0, le=1.0)
    """Share of the requests that are traced; one whose client traces it always is."""
    service_name: str = Field(default="ray-sft", min_length=1)
    """What the traces are found under."""
