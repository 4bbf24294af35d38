"""What a compressed model must keep: the source's outputs, its quality, and the point of it all."""

from collections.abc import Mapping, Sequence

import numpy as np

from ray_sft.compression.base import Precision
from ray_sft.compression.identities import logits_of
from ray_sft.core import CompressionError
from ray_sft.inference import Predictor
from ray_sft.tasks import Processor, Rejected, Row, Task

__all__ = [
    "budget_misses",
    "check_budget",
    "check_budget_names",
    "check_identities",
    "check_operators",
    "check_parity",
    "check_speedup",
    "figures_meant",
    "logit_difference",
]


def logit_difference(source: Predictor, other: Predictor, requests: Sequence[Row]) -> float:
    """The largest difference of a logit between two models over samples; padding does not count.

    Where ``other`` has fewer tokens, texts that both split alike are compared, and of a language
    model the logits of the tokens that both have.

    Raises:
        CompressionError: there is no such text.
    """
    columns = _common_columns(source.processor, other.processor)
    differences = []
    for one, two in zip(source.encode(requests), other.encode(requests), strict=True):
        if isinstance(one, Rejected) or isinstance(two, Rejected):
            continue
        mine, theirs = logits_of(source, [one])[0], logits_of(other, [two])[0]
        if columns is not None:
            names = [
                predictor.processor.convert_ids_to_tokens(example.arrays["input_ids"].tolist())
                for predictor, example in ((source, one), (other, two))
            ]
            if names[0] != names[1]:
                continue
            if mine.shape != theirs.shape:
                mine = mine[..., columns]
        differences.append(float(np.abs(mine - theirs).max()))
    if not differences:
        raise CompressionError(
            "no sample of the bundle can be compared with those of its source: none is split into "
            "tokens as before. Leave more tokens in the vocabulary."
        )
    return max(differences)


def _common_columns(source: Processor, other: Processor) -> list[int] | None:
    """The ids in ``source`` of the tokens of ``other``; None where both have the same."""
    if source.get_vocab() == other.get_vocab():
        return None
    names = other.convert_ids_to_tokens(list(range(len(other))))
    found: list[int] = source.convert_tokens_to_ids(names)
    return found


def check_parity(kind: str, difference: float, tolerance: float) -> None:
    """Raises CompressionError where an exact pass has changed the outputs."""
    if not difference <= tolerance:
        raise CompressionError(
            f"{kind}: a logit differs from the source's by {difference:.3g}, more than the "
            f"parity_tolerance of {tolerance:g}. The export is wrong for this model, or its logits "
            "are large: raise compress.parity_tolerance only if the quality holds."
        )


def check_identities(
    kind: str, *, batching: float, caching: float | None, tolerance: float
) -> None:
    """Raises CompressionError where neighbours in a batch, or a cache, change the answers."""
    for what, difference in (
        ("in a batch differ from those to each text alone", batching),
        ("with a cache differ from those without", caching),
    ):
        if difference is not None and not difference <= tolerance:
            raise CompressionError(
                f"{kind}: answers {what}: a logit by {difference:.3g}, more than the "
                f"parity_tolerance of {tolerance:g}. The model cannot be served like this; leave "
                f"the pass {kind} out, or start from another architecture."
            )


def check_operators(kind: str, precision: Precision, operators: Mapping[str, int]) -> None:
    """Raises CompressionError where a quantized graph does not compute on what it holds.

    ONNX Runtime unpacks weights for which it has no kernel, and is slower than without.
    """
    if precision in ("int8", "int4") and not any(operators.get(name) for name in _ON_INTEGERS):
        found = ", ".join(f"{count} {name}" for name, count in operators.items())
        raise CompressionError(
            f"{kind}: the optimised graph computes no product on integers (it has: {found}). "
            "ONNX Runtime has no kernel for it here; serve the model without the pass."
        )


_ON_INTEGERS = (
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "QGemm",
    "QLinearMatMul",
)


def check_budget_names(tasks: Mapping[str, Task], budget: Mapping[str, float]) -> None:
    """Raises CompressionError for a budget on a figure that no task reports."""
    known = [
        f"{name}/{metric}" for name, task in tasks.items() for metric in task.metrics().compute()
    ]
    for name in budget:
        if not figures_meant(known, name):
            raise CompressionError(
                f"compress.budget names '{name}', which no task reports "
                f"(there are: {', '.join(sorted(metric.split('/')[-1] for metric in known))})."
            )


def check_budget(
    kind: str, source: Mapping[str, float], found: Mapping[str, float], budget: Mapping[str, float]
) -> None:
    """Raises CompressionError where a figure has changed by more than its budget allows."""
    for metric in budget_misses(source, found, budget):
        change = found[metric] - source[metric]
        name = next(name for name in budget if figures_meant([metric], name))
        raise CompressionError(
            f"{kind}: {metric} went from {source[metric]:.4f} to {found[metric]:.4f}, a change of "
            f"{change:+.4f}; the budget is {budget[name]:+g}. Widen compress.budget.{name}, or "
            f"leave the pass {kind} out."
        )


def budget_misses(
    source: Mapping[str, float], found: Mapping[str, float], budget: Mapping[str, float]
) -> dict[str, float]:
    """By how much each figure has changed beyond what its budget allows; those alone that have.

    A negative budget bounds a fall, a positive one a rise; 0 allows no change at all.
    """
    misses = {}
    for name, allowed in budget.items():
        for metric in figures_meant(found, name):
            change = found[metric] - source[metric]
            if not np.isfinite(change):
                misses[metric] = np.inf
            elif (beyond := allowed - change if allowed < 0 else change - allowed) > 0:
                misses[metric] = beyond
            elif allowed == 0 and change != 0:
                misses[metric] = abs(change)
    return misses


def check_speedup(kind: str, speedup: float, least: float) -> None:
    """Raises CompressionError where the last model of a chain is not worth its loss."""
    if not speedup >= least:
        raise CompressionError(
            f"{kind}: the model has {speedup:.2f} times the throughput of the source; "
            f"compress.min_speedup is {least:g}. Lower it, or serve the source."
        )


def figures_meant(metrics: Mapping[str, float] | Sequence[str], name: str) -> list[str]:
    """Metrics that a budget's name stands for: ``task/metric``, or the metric of every task."""
    return [metric for metric in metrics if name in (metric, metric.split("/")[-1])]
