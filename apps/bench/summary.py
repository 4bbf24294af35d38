"""The figures of a load: rates, percentiles and counts, as a tree of plain numbers."""

from collections import Counter
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from apps.bench.load import Load
from apps.bench.routes import ROUTES

__all__ = ["Spread", "Summary", "summarize"]

_SATURATED = 0.85
"""Share of a core from which on the figures may be those of this program."""
_LATE_MS = 5.0
"""Waking up later than this, and than a fifth of the median latency, distorts what is measured."""

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spread:
    """How a quantity is distributed."""

    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """What the program that asked needed itself."""

    core_share: float
    """Of one core."""
    late_p99_ms: float
    """How late it woke up."""
    warning: str | None
    """Why the figures may be its own limit rather than the service's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Rates count what ended within the duration, percentiles what was to be sent in it."""

    url: str
    route: str
    model: str | None
    mode: str
    connections: int
    rate: float | None
    arrivals: str | None
    texts_per_request: int
    duration_s: float
    requests: int
    """Answered."""
    failed: int
    unsent: int
    """To be sent by the clock, with no connection free before the end."""
    requests_per_s: float
    texts_per_s: float | None
    tokens_per_s: float
    """Read by an encoder, or written by a model that writes."""
    latency_ms: Spread | None
    """Of the answered ones; None: there is none."""
    queue_ms: Spread | None
    """As the service tells in its headers, for its slowest text of a request."""
    inference_ms: Spread | None
    batch_size: Spread | None
    first_token_ms: Spread | None
    between_tokens_ms: Spread | None
    statuses: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    """What the service said first, by the code of an error."""
    generator: Generator

    def tree(self) -> dict[str, object]:
        """For JSON; numbers have the digits that mean something."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


def summarize(load: Load) -> Summary:
    """The figures of a load that has ended."""
    plan, records = load.plan, load.records
    start, end, code = (records.column(name) for name in ("start", "end", "code"))
    is_good = code == 0
    counted = start >= load.begins_at
    measured = counted & is_good
    in_time = is_good & (end >= load.begins_at) & (end < load.ends_at)
    num_in_time = int(in_time.sum())
    writes = ROUTES[plan.route].writes
    latency_ms = _spread((end - start)[measured] * 1e3)
    errors = _errors(code[counted], records.codes)
    return Summary(
        url=plan.url,
        route=plan.route,
        model=plan.model,
        mode=plan.mode,
        connections=plan.connections,
        rate=plan.rate,
        arrivals=None if plan.rate is None else plan.arrivals,
        texts_per_request=plan.texts_per_request,
        duration_s=plan.duration_s,
        requests=int(measured.sum()),
        failed=int((counted & ~is_good).sum()),
        unsent=load.unsent,
        requests_per_s=num_in_time / plan.duration_s,
        texts_per_s=None if writes else num_in_time * plan.texts_per_request / plan.duration_s,
        tokens_per_s=float(records.column("num_tokens")[in_time].sum()) / plan.duration_s,
        latency_ms=latency_ms,
        queue_ms=_spread(records.column("queue_ms")[measured]),
        inference_ms=_spread(records.column("inference_ms")[measured]),
        batch_size=_spread(records.column("batch_size")[measured]),
        first_token_ms=_spread(records.column("first_token_s")[measured] * 1e3),
        between_tokens_ms=_spread(np.array(records.gaps_s) * 1e3),
        statuses=_statuses(records.column("status")[counted]),
        errors=errors,
        messages={code: text for code, text in load.messages.items() if code in errors and text},
        generator=_generator(load, latency_ms),
    )


def _spread(values: Column) -> Spread | None:
    """The distribution of what was told; None where nothing was."""
    told = values[~np.isnan(values)]
    if not len(told):
        return None
    p50, p90, p95, p99 = (float(one) for one in np.percentile(told, (50, 90, 95, 99)))
    return Spread(p50, p90, p95, p99, float(told.max()), float(told.mean()))


def _statuses(column: Column) -> dict[str, int]:
    counts = Counter("none" if np.isnan(one) else str(int(one)) for one in column)
    return dict(sorted(counts.items()))


def _errors(column: Column, codes: list[str | None]) -> dict[str, int]:
    counts = Counter(codes[int(one)] for one in column)
    return {code: count for code, count in counts.most_common() if code is not None}


def _generator(load: Load, latency_ms: Spread | None) -> Generator:
    late_ms = float(np.percentile(load.late_s, 99)) * 1e3 if load.late_s else 0.0
    warning = None
    if load.core_share > _SATURATED:
        warning = (
            f"this program used {load.core_share:.0%} of a core: the figures may be its own "
            "limit. Use fewer connections, more texts a request, or several of it."
        )
    elif late_ms > max(_LATE_MS, 0.2 * latency_ms.p50 if latency_ms else 0.0):
        warning = (
            f"this program woke up to {late_ms:.0f} ms late (p99): it shares cores with the "
            "service or others, and latencies include its own waits. Run it on another machine."
        )
    return Generator(core_share=load.core_share, late_p99_ms=late_ms, warning=warning)


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return value
