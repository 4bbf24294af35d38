"""Whether a bundle is good enough to take the place of another, by what both say of themselves.

Two questions. Has the bundle kept what it was made under: its budgets, and what a compressed model
must keep (`ray_sft.compression.gates`)? Those are asked again of the recorded figures, since a
manifest is also what a failed search, an edited recipe or a bundle of a step between leaves
behind. And are its figures those of the bundle that it replaces, within a budget?
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from ray_sft.bundle import Bundle, Manifest
from ray_sft.bundle.manifest import MANIFEST, hash_file
from ray_sft.compression import budget_misses
from ray_sft.compression.gates import check_identities, check_operators
from ray_sft.core import CompressionError, ConfigError
from serve.release.findings import Finding

__all__ = ["check_budget_figures", "default_budget", "inspect"]

T = TypeVar("T")

_TOLERANCE = 1e-4
"""As in `ray_sft.compression.Compress.parity_tolerance`, where a recipe states none."""
_ALLOWED = 0.01
_MOST_ANCESTORS = 16


def inspect(
    name: str, bundle: Bundle, replaced: Manifest | None, budget: Mapping[str, float]
) -> list[Finding]:
    """What speaks against a bundle under a model name, and what cannot be told.

    Args:
        name: the model's.
        bundle: what is to be served.
        replaced: the manifest of the bundle that serves the name; None where none does.
        budget: allowed changes of figures; where it is empty, `default_budget`.
    """
    found = [*_recorded(bundle), *_kept_its_budget(bundle)]
    if replaced is not None:
        found += _compared(bundle.manifest, replaced, budget or default_budget(bundle.manifest))
    return [Finding(name, text, refuses) for text, refuses in found]


def default_budget(manifest: Manifest) -> dict[str, float]:
    """One hundredth of every task's main figure."""
    budget = {}
    for name, task in manifest.tasks.items():
        figure, direction = task.main_metric
        budget[f"{name}/{figure}"] = -_ALLOWED if direction == "max" else _ALLOWED
    return budget


def check_budget_figures(budget: Mapping[str, float], manifests: Sequence[Manifest]) -> None:
    """Raises ConfigError for a budget on a figure that no bundle to be deployed reports."""
    known = {figure for manifest in manifests for figure in manifest.metrics}
    for name in budget:
        if not any(name in (figure, figure.split("/")[-1]) for figure in known):
            spelled = ", ".join(sorted(figure.split("/")[-1] for figure in known)) or "none"
            raise ConfigError(
                f"--budget names '{name}', a figure that no bundle reports (there are: {spelled})."
            )


def _recorded(bundle: Bundle) -> Iterator[tuple[str, bool]]:
    """The gates of a compressed bundle, asked again of its recorded figures."""
    properties = bundle.manifest.properties
    kind, precision = str(properties.get("made_by", "")), properties.get("precision")
    if not kind:
        return
    tolerance = _compress_setting(bundle.manifest, "parity_tolerance", _TOLERANCE)
    checks: list[Callable[[], None]] = []
    if properties.get("operators"):
        checks.append(
            lambda: check_operators(kind, properties["precision"], properties["operators"])
        )
    if precision == "fp32" and "batching" in properties:
        checks.append(
            lambda: check_identities(
                kind,
                batching=properties["batching"],
                caching=properties.get("caching"),
                tolerance=tolerance,
            )
        )
    for check in checks:
        try:
            check()
        except CompressionError as error:
            yield str(error), True
    speedup = properties.get("speedup_over_source")
    if precision not in (None, "fp32") and speedup is not None and speedup < 1.0:
        yield (
            f"{kind}: the model is slower than what it was made from ({speedup:.2f} times its "
            "throughput). Serve the source.",
            True,
        )


def _kept_its_budget(bundle: Bundle) -> Iterator[tuple[str, bool]]:
    """The budget that a bundle was compressed under, against the trained one beside it."""
    manifest = bundle.manifest
    nothing: dict[str, float] = {}
    budget = manifest.properties.get("budget") or _compress_setting(manifest, "budget", nothing)
    if not budget or manifest.parent is None or not manifest.metrics:
        return
    source = _source(bundle)
    if source is None:
        yield (
            "the bundle that it was made from is not beside it, so its budget is not checked",
            False,
        )
        return
    figures = {name: value for name, value in manifest.metrics.items() if name in source.metrics}
    for metric in budget_misses(source.metrics, figures, budget):
        yield (
            f"{metric} is {figures[metric]:.4f}, and {source.metrics[metric]:.4f} in the model "
            f"that it was made from: more than the budget of its compression ({_spelled(budget)})",
            True,
        )


def _compared(
    new: Manifest, old: Manifest, budget: Mapping[str, float]
) -> Iterator[tuple[str, bool]]:
    """The figures against those of the bundle that is replaced."""
    figures = {name: value for name, value in new.metrics.items() if _is_meant(name, budget)}
    lost = [name for name in old.metrics if _is_meant(name, budget) and name not in figures]
    for name in lost:
        yield (
            f"{name} is {old.metrics[name]:.4f} in the bundle that is served, and unknown here",
            True,
        )
    shared = {name: value for name, value in figures.items() if name in old.metrics}
    if not shared and not lost:
        yield "neither it nor the bundle that is served says how good it is", False
        return
    if moved := _measured_elsewhere(new, old):
        yield f"the evaluation data of {moved} is not that of the bundle that is served", False
    known = {name: old.metrics[name] for name in shared}
    for name in budget_misses(known, shared, budget):
        yield (
            f"{name} is {shared[name]:.4f}, and {known[name]:.4f} in the bundle that is served: "
            f"more than the budget ({_spelled(budget)})",
            True,
        )


def _measured_elsewhere(new: Manifest, old: Manifest) -> str:
    """The tasks whose evaluation data differ, where both are known."""
    moved = [
        name
        for name in new.tasks
        for place in (f"{name}/eval",)
        if place in new.data and place in old.data and new.data[place] != old.data[place]
    ]
    return ", ".join(moved)


def _is_meant(metric: str, budget: Mapping[str, float]) -> bool:
    return metric in budget or metric.split("/")[-1] in budget


def _source(bundle: Bundle) -> Manifest | None:
    """The manifest of the first bundle of a chain whose bundles lie side by side."""
    siblings = _siblings(bundle.path)
    manifest, found = bundle.manifest, None
    for _ in range(_MOST_ANCESTORS):
        if manifest.parent is None or manifest.parent not in siblings:
            break
        manifest = found = siblings[manifest.parent]
    return found if found is not None and found.metrics else None


def _siblings(path: Path) -> dict[str, Manifest]:
    """Manifests beside a bundle by their fingerprints; what is none of ours is passed over."""
    found = {}
    for place in path.parent.glob(f"*/{MANIFEST}"):
        try:
            found[hash_file(place)] = Manifest.model_validate_json(place.read_bytes())
        except (OSError, ValidationError):
            continue
    return found


def _compress_setting(manifest: Manifest, name: str, default: T) -> T:
    settings = manifest.recipe.get("compress") or {}
    found: T = settings.get(name, default)
    return found


def _spelled(budget: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {allowed:+g}" for name, allowed in budget.items())
