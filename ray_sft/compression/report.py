"""What a chain reports of each of its bundles."""

from pydantic import Field

from ray_sft.core import Config

__all__ = ["StepReport"]


class StepReport(Config):
    """One bundle of a chain, measured; the first is the source."""

    name: str
    """The kind of the pass, or ``source``."""
    variant: str
    """Such as ``trained`` or ``int8``."""
    path: str
    """The bundle's folder."""
    num_bytes: int
    """Size of the model's files."""
    metrics: dict[str, float]
    """Figures on the evaluation data, by ``task/metric``."""
    p50_ms: float
    """Median milliseconds of one request alone; for a decoder, of one generated token."""
    throughput: float
    """Units a second with requests in batches."""
    throughput_unit: str
    """``rows/s``, or ``tokens/s`` for a decoder."""
    num_threads: int
    """Threads of every model that was timed."""
    speedup_over_source: float = 1.0
    """Throughput over that of the source, timed alternately."""
    latency_speedup_over_source: float = 1.0
    """Median time of one request alone in the source over that in this bundle."""
    speedup_over_parent: float = 1.0
    """Throughput over that of the bundle that the pass was given."""
    parity: float = 0.0
    """Largest difference of a logit from the source's, on the samples."""
    batching: float = 0.0
    """Largest difference of a logit between samples in a batch and each alone."""
    caching: float | None = None
    """Of a decoder in ONNX, that between tokens one by one and a text at once."""
    seconds: float = 0.0
    """What the pass itself took, without the measuring."""
    operators: dict[str, int] = Field(default_factory=dict)
    """Operators of the graph as ONNX Runtime optimises it; none for torch."""
