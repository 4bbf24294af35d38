"""A chain of passes from one bundle to the next, each measured before it may be kept."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from errno import ENOSPC
from pathlib import Path

from pydantic import Field
from safetensors import SafetensorError

from ray_sft.bundle import Bundle, BundleWriter
from ray_sft.compression import gates
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext
from ray_sft.compression.graph import operators
from ray_sft.compression.identities import batching_difference, caching_difference
from ray_sft.compression.measure import Speed, Workload, make_workload, measure
from ray_sft.compression.passes import AnyPass, ExportOnnx, QuantizeInt8
from ray_sft.compression.record import (
    card_row,
    chain_fingerprint,
    complete_manifest,
    draft_manifest,
    finished_bundle,
    recorded_report,
)
from ray_sft.compression.report import StepReport
from ray_sft.compression.rules import check_passes, meets_budget_from, name_variants
from ray_sft.core import CompressionError, Config
from ray_sft.core.whole_files import writing_to
from ray_sft.evaluation import evaluate, model_card
from ray_sft.inference import PagedRunner, Predictor, record_samples
from ray_sft.tasks import Example

__all__ = ["Compress", "compress"]

logger = logging.getLogger(__name__)


class Compress(Config):
    """Which passes, and what they may cost."""

    passes: tuple[AnyPass, ...] = Field(default=(ExportOnnx(), QuantizeInt8()), min_length=1)
    """In order; each makes a bundle from the one before it."""
    budget: dict[str, float] = Field(default_factory=dict)
    """Allowed change of a metric from the source: ``accuracy: -0.01``, ``loss: 0.05``. A bundle
    that the next pass prunes or trains again need not keep it; one that ``distil`` made must."""
    min_speedup: float = Field(default=1.2, ge=0.0)
    """Least throughput of the last bundle, over the source on as many threads."""
    parity_tolerance: float = Field(default=1e-4, gt=0.0)
    """Largest difference of a logit that an exact pass may cause."""

    def variants(self) -> list[str]:
        """The name of each pass's bundle; a kind's second one gets a number."""
        return name_variants(self.passes)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A bundle at work."""

    bundle: Bundle
    predictors: Mapping[str, Predictor]
    workload: Workload
    report: StepReport


def compress(
    config: Compress,
    source: Bundle,
    *,
    examples: Mapping[str, Sequence[Example]],
    out_dir: Path,
    num_threads: int,
    progress: Callable[[str], None],
    context: PassContext = NO_CONTEXT,
    folders: Sequence[str] = (),
    on_step: Callable[[StepReport], bool] = lambda _: True,
) -> list[StepReport]:
    """Writes ``out_dir/<variant>`` for every pass; one report for the source and for each of them.

    Everything is timed on ``num_threads`` threads. A bundle that the same passes have left there
    before is taken as it is, so that an interrupted chain goes on where it stopped.

    Args:
        config: the passes and what they may cost.
        source: what they start from; the teacher, where one of them distils.
        examples: the evaluation data by task, which only judges.
        out_dir: where the bundles go.
        num_threads: of every model that is measured.
        progress: is told what begins.
        context: what passes may use beside the bundle.
        folders: of the bundles below ``out_dir``, where they are not to be called by their variant.
        on_step: is told of each bundle before the next pass, and says whether to go on.

    Raises:
        CompressionError: the chain is not possible (before any work), or a bundle misses parity,
            budget or speed; that bundle is not kept.
    """
    _check_chain(config, source, examples, context)
    progress(f"measuring {source.manifest.variant}")
    run = _Chain(config, source, examples, context, num_threads)
    steps = [run.source]
    paths = [out_dir / name for name in (folders or config.variants())]
    for number, (step, path) in enumerate(zip(config.passes, paths, strict=True)):
        if not on_step(steps[-1].report):
            break
        finished = finished_bundle(path, run.chains[number])
        again = "" if finished is None else ", already done"
        progress(f"{step.kind} ({number + 1} of {len(config.passes)}){again}")
        steps.append(
            run.step(number, steps, path) if finished is None else run.reuse(number, finished)
        )
    return [step.report for step in steps]


def _check_chain(
    config: Compress,
    source: Bundle,
    examples: Mapping[str, Sequence[Example]],
    context: PassContext,
) -> None:
    check_passes(config.passes, source, context)
    gates.check_budget_names(source.manifest.tasks, config.budget)
    if config.budget and not all(examples.get(task) for task in source.manifest.tasks):
        raise CompressionError("compress.budget needs evaluation data, but there is none.")


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """See `writing_to`; weights are written by a library with an error of its own."""
    with writing_to(folder):
        try:
            yield
        except SafetensorError as error:
            if "No space left" not in str(error):
                raise
            raise OSError(ENOSPC, os.strerror(ENOSPC)) from error


class _Chain:
    """What all steps of a chain share."""

    def __init__(
        self,
        config: Compress,
        source: Bundle,
        examples: Mapping[str, Sequence[Example]],
        context: PassContext,
        num_threads: int,
    ) -> None:
        self.config = config
        self.context = context
        self.meets_budget = meets_budget_from(config.passes)
        self.chains = [
            chain_fingerprint(
                source,
                config.passes[: number + 1],
                num_threads=num_threads,
                parity_tolerance=config.parity_tolerance,
            )
            for number in range(len(config.passes))
        ]
        """What each pass's bundle is known by."""
        self.examples = examples
        self.num_threads = num_threads
        predictors = Predictor.each(source, num_threads=num_threads, spinning=False)
        self.requests = {n: [s["request"] for s in source.samples(n)] for n in predictors}
        for name, one in predictors.items():
            if not self._samples(one, name):
                raise CompressionError(f"bundle '{source.path}' has no usable sample of '{name}'.")
        workload = self._workload(predictors)
        (speed,) = measure([workload])
        report = self._report("source", source, source.path, self._evaluate(predictors), speed)
        self.source = _Measured(source, predictors, workload, report)

    def reuse(self, number: int, bundle: Bundle) -> _Measured:
        """What a pass has made before; its figures must keep what is asked now."""
        step, report = self.config.passes[number], recorded_report(bundle)
        if step.changes_tokens:
            self._encode_anew(bundle)
        self._check_worth(number, report)
        predictors = Predictor.each(bundle, num_threads=self.num_threads, spinning=False)
        return _Measured(bundle, predictors, self._workload(predictors), report)

    def _check_worth(self, number: int, report: StepReport) -> None:
        """Raises CompressionError where a bundle costs too much or brings too little."""
        step, before = self.config.passes[number], self.source.report.metrics
        if self.meets_budget[number]:
            gates.check_budget(step.kind, before, report.metrics, self.config.budget)
        if number == len(self.config.passes) - 1:
            gates.check_speedup(step.kind, report.speedup_over_source, self.config.min_speedup)

    def step(self, number: int, former: Sequence[_Measured], path: Path) -> _Measured:
        """Applies a pass to the last of ``former``, measures the result, and keeps it or not."""
        step, parent = self.config.passes[number], former[-1].bundle
        with _writing_to(path.parent), BundleWriter(path) as out:
            out.copy_processor(parent)
            began = time.monotonic()
            result = step.apply(parent, out, self.context)
            seconds = time.monotonic() - began
            draft = out.draft(draft_manifest(parent, step, variant=path.name))
            predictors = Predictor.each(draft, num_threads=self.num_threads, spinning=False)
            if step.changes_tokens:
                self._encode_anew(draft)
            batching, caching = self._identities(predictors, draft)
            if step.made_precision == "fp32":
                gates.check_identities(
                    step.kind,
                    batching=batching,
                    caching=caching,
                    tolerance=self.config.parity_tolerance,
                )
            if step.keeps_outputs:
                drift = self._drift(former[-1], predictors)
                gates.check_parity(step.kind, drift, self.config.parity_tolerance)
            metrics = self._evaluate(predictors)
            workload = self._workload(predictors)
            report = self._compare(step, path, draft, metrics, workload, former).model_copy(
                update={
                    "parity": self._drift(self.source, predictors),
                    "batching": batching,
                    "caching": caching,
                    "seconds": seconds,
                }
            )
            if step.produces == "onnx":
                gates.check_operators(step.kind, step.made_precision, report.operators)
            self._check_worth(number, report)
            reports = [item.report for item in former] + [report]
            manifest = complete_manifest(
                draft.manifest, step, report, result.properties, chain=self.chains[number]
            )
            out.write_samples(
                sample
                for name, one in predictors.items()
                for sample in record_samples(one, self.requests[name])
            )
            out.write_card(model_card(manifest, {item.variant: card_row(item) for item in reports}))
            bundle = out.finish(manifest)
        logger.info(
            "%s: %.1f MB, %.2f times the throughput of %s",
            path.name,
            report.num_bytes / 1e6,
            report.speedup_over_source,
            self.source.report.variant,
        )
        return _Measured(bundle, predictors, workload, report)

    def _drift(self, other: _Measured, predictors: Mapping[str, Predictor]) -> float:
        """The largest difference of a logit from another bundle's, over the samples."""
        return max(
            gates.logit_difference(other.predictors[name], one, self.requests[name])
            for name, one in predictors.items()
        )

    def _identities(
        self, predictors: Mapping[str, Predictor], bundle: Bundle
    ) -> tuple[float, float | None]:
        """What a batch, and a cache where there is one, change."""
        samples = {name: self._samples(one, name) for name, one in predictors.items()}
        batching = max(batching_difference(one, samples[n]) for n, one in predictors.items())
        writes = bundle.is_decoder or bundle.is_encoder_decoder
        on_device = any(isinstance(one.model, PagedRunner) for one in predictors.values())
        if not writes or bundle.manifest.format != "onnx" or on_device:
            return batching, None
        return batching, max(caching_difference(o, samples[n]) for n, o in predictors.items())

    def _compare(
        self,
        step: Pass,
        path: Path,
        draft: Bundle,
        metrics: dict[str, float],
        workload: Workload,
        former: Sequence[_Measured],
    ) -> StepReport:
        """Times the new model in turns with the source and with its parent."""
        rivals = [self.source.workload]
        if former[-1] is not self.source:
            rivals.append(former[-1].workload)
        *others, speed = measure([*rivals, workload])
        report = self._report(step.kind, draft, path, metrics, speed)
        changes = {
            "speedup_over_source": speed.throughput / others[0].throughput,
            "speedup_over_parent": speed.throughput / others[-1].throughput,
            "latency_speedup_over_source": others[0].p50_ms / speed.p50_ms,
            "operators": operators(draft.model_dir) if step.produces == "onnx" else {},
        }
        return report.model_copy(update=changes)

    def _report(
        self, name: str, bundle: Bundle, path: Path, metrics: dict[str, float], speed: Speed
    ) -> StepReport:
        return StepReport(
            name=name,
            variant=bundle.manifest.variant,
            path=str(path),
            num_bytes=sum(file.stat().st_size for file in bundle.model_dir.iterdir()),
            metrics=metrics,
            p50_ms=speed.p50_ms,
            throughput=speed.throughput,
            throughput_unit=speed.unit,
            num_threads=self.num_threads,
        )

    def _workload(self, predictors: Mapping[str, Predictor]) -> Workload:
        """Evaluation examples of the first task, since the samples are few; else the samples.

        A forward pass computes every head, so one task's examples time the whole model.
        """
        name, predictor = next(iter(predictors.items()))
        chosen = self.examples.get(name) or self._samples(predictor, name)
        return make_workload(predictor, chosen, num_threads=self.num_threads)

    def _samples(self, predictor: Predictor, name: str) -> list[Example]:
        encoded = predictor.encode(self.requests[name])
        return [item for item in encoded if isinstance(item, Example)]

    def _encode_anew(self, bundle: Bundle) -> None:
        """Rows as the tokenizer of ``bundle`` splits them, for it and for what is made of it."""
        assert self.context.encode_anew is not None, "check_passes has seen to it"
        rows = self.context.encode_anew(bundle.processor_dir)
        self.examples = rows.evaluation
        self.context = replace(self.context, examples=rows.training)

    def _evaluate(self, predictors: Mapping[str, Predictor]) -> dict[str, float]:
        return {
            f"{name}/{metric}": value
            for name, one in predictors.items()
            if self.examples.get(name)
            for metric, value in evaluate(
                one.task, one.runner, one.processor, self.examples[name]
            ).items()
        }
