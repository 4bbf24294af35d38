"""Runs the stages of a recipe; the only file that knows their order.

    check -> (initial model) -> for each stage: data -> train -> bundle -> compress

Every stage leaves its product in the run folder and a record of what went into it; a stage whose
inputs have not changed is not run again.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ray_sft.bundle import Bundle, BundleWriter, Manifest
from ray_sft.compression import Compress, StepReport, compress
from ray_sft.core import BundleError, ConfigError, DataError
from ray_sft.data import (
    SampleStore,
    Source,
    iterate_rows,
    prepare,
    resolve_task,
    write_rejected,
)
from ray_sft.evaluation import evaluate, model_card
from ray_sft.inference import Predictor, record_samples
from ray_sft.models import (
    TINY_LLAMA,
    check_model,
    load_processor,
    locate,
    save_tiny_llama,
)
from ray_sft.ray_session import cluster_cpus
from ray_sft.recipe import EarlierStage, Recipe
from ray_sft.run_folder import RunFolder, StageReport, fingerprint
from ray_sft.stage_reports import bundle_report, data_report, train_report
from ray_sft.tasks.causal_language_model import running_text
from ray_sft.training import train_model

__all__ = ["Pipeline", "Watcher", "check_recipe"]

logger = logging.getLogger(__name__)


class Watcher(Protocol):
    """Is told what happens, for progress bars and tables."""

    def started(self, stage: str) -> None:
        """A stage begins."""

    def record(self, stage: str, record: Mapping[str, Any]) -> None:
        """Training has something to tell; called in another thread."""

    def note(self, text: str) -> None:
        """A step within a stage begins."""

    def finished(self, report: StageReport) -> None:
        """A stage is done, or was already."""


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a stage's model begins."""

    model: str
    processor: str
    fingerprint: str


def check_recipe(recipe: Recipe) -> Recipe:
    """The recipe with its tasks resolved against the data; nothing is written or trained.

    Raises:
        RaySFTError: whatever would make the run fail before training.
    """
    if recipe.model != TINY_LLAMA:
        check_model(locate(recipe.model))
    stages = recipe.stages()
    resolved = {}
    for stage in stages:
        for name, task in stage.tasks.items():
            resolved[stage.name] = {name: resolve_task(task, stage.data[name], name=name)}
    before = tuple(
        stage.model_copy(update={"tasks": resolved[stage.name]}) for stage in recipe.before
    )
    return recipe.model_copy(update={"tasks": resolved["trained"], "before": before})


class Pipeline:
    """One run of a recipe in its folder."""

    def __init__(self, recipe: Recipe, folder: RunFolder, watcher: Watcher) -> None:
        """A run of ``recipe``, as `check_recipe` resolved it."""
        self.recipe = recipe
        self.folder = folder
        self.watcher = watcher
        self.reports: list[StageReport] = []
        folder.write_recipe(recipe.model_dump(mode="json"))

    def train(self) -> Bundle:
        """All training stages; the last one's bundle."""
        start = self._initial()
        for stage in self.recipe.stages():
            self._prepare(stage, start)
            bundle = self._train(stage, start)
            start = _Start(str(bundle.path), str(bundle.processor_dir), bundle.fingerprint)
        write_rejected(self._shards(), self.folder.path / "rejected.jsonl")
        return bundle

    def compress(self, bundle: Bundle) -> list[StageReport]:
        """The passes of the recipe; one report per pass."""
        config = self.recipe.compress
        if config is None:
            return []
        inputs = fingerprint("compress", bundle.fingerprint, config.model_dump(mode="json"))

        def work() -> StageReport:
            steps = self._compress(config, bundle)
            details = {"steps": [step.model_dump(mode="json") for step in steps]}
            return StageReport(stage="compress", seconds=0, details=details)

        report = self._stage("compress", inputs, work, outputs=self._variants(inputs))
        steps = [StepReport.model_validate(step) for step in report.details["steps"]]
        rows = [bundle_report(step, cached=report.cached) for step in steps]
        self.reports += rows
        return rows

    def _variants(self, inputs: str) -> list[Path]:
        report = self.folder.finished("compress", inputs)
        steps = report.details["steps"] if report else []
        return [Path(step["path"]) for step in steps]

    def _compress(self, config: Compress, bundle: Bundle) -> list[StepReport]:
        (name,) = self.recipe.tasks
        return compress(
            config,
            bundle,
            examples={name: self._eval_examples()},
            out_dir=self.folder.bundles_dir,
            num_threads=os.cpu_count() or 1,
            progress=self.watcher.note,
        )

    def _stage(
        self,
        name: str,
        inputs: str,
        work: Callable[[], StageReport],
        *,
        outputs: list[Path] | None = None,
    ) -> StageReport:
        """Runs ``work``, unless it is done on these inputs and its outputs are whole."""
        report = self.folder.finished(name, inputs)
        if report is None or not _are_whole(outputs or []):
            self.watcher.started(name)
            began = time.monotonic()
            report = work().model_copy(update={"seconds": time.monotonic() - began})
            self.folder.finish(report, inputs)
        self.watcher.finished(report)
        self.reports.append(report)
        return report

    def _initial(self) -> _Start:
        """Where the first stage starts: found, or for the tiny Llama made from the run's text."""
        if self.recipe.model != TINY_LLAMA:
            source = locate(self.recipe.model)
            return _Start(source.model, source.processor, fingerprint(self.recipe.model))
        stage = self.recipe.stages()[0]
        ((name, task),) = stage.tasks.items()
        rows = stage.data[name].train
        out_dir = self.folder.path / "initial"
        max_length = max(
            getattr(t, "max_length", 0) for s in self.recipe.stages() for t in s.tasks.values()
        )
        inputs = fingerprint(
            "initial", rows.fingerprint(), self.recipe.vocab_size, stage.train.seed, max_length
        )

        def work() -> StageReport:
            if task.head != "causal_lm":
                raise ConfigError(f"model '{TINY_LLAMA}' is a decoder; '{name}' is {task.kind}.")
            save_tiny_llama(
                _texts(rows),
                out_dir,
                vocab_size=self.recipe.vocab_size,
                max_length=max_length,
                seed=stage.train.seed,
            )
            return StageReport(stage="initial", seconds=0)

        self._stage("initial", inputs, work, outputs=[out_dir / "config.json"])
        return _Start(str(out_dir), str(out_dir), inputs)

    def _prepare(self, stage: EarlierStage, start: _Start) -> None:
        ((name, task),) = stage.tasks.items()
        splits = stage.data[name]
        out_dir = self.folder.data_dir(stage.name)
        inputs = self._data_inputs(stage, start)

        def work() -> StageReport:
            summary = prepare(
                task,
                splits,
                processor_dir=Path(start.processor),
                out_dir=out_dir,
                num_actors=max(1, cluster_cpus() // 2),
            )
            return data_report(stage.name, summary)

        self._stage(
            f"data-{stage.name}", inputs, work, outputs=[out_dir / "train", out_dir / "eval"]
        )

    def _data_inputs(self, stage: EarlierStage, start: _Start) -> str:
        ((name, task),) = stage.tasks.items()
        return fingerprint(
            {split: source.fingerprint() for split, source in stage.data[name].items().items()},
            task.model_dump(mode="json"),
            start.fingerprint,
        )

    def _train(self, stage: EarlierStage, start: _Start) -> Bundle:
        inputs = fingerprint(self._data_inputs(stage, start), stage.train.model_dump(mode="json"))
        path = self.folder.bundles_dir / stage.name

        def work() -> StageReport:
            ((_, task),) = stage.tasks.items()
            records: list[dict[str, Any]] = []

            def on_record(record: Mapping[str, Any]) -> None:
                records.append(dict(record))
                self.watcher.record(stage.name, record)

            source = locate(start.model)
            weights = train_model(
                task,
                stage.train,
                model=source.model,
                processor=start.processor,
                data_dir=self.folder.data_dir(stage.name),
                out_dir=self.folder.train_dir(stage.name),
                name=f"run-{inputs[:12]}",
                on_record=on_record,
            )
            bundle = self._write_bundle(stage, start, weights, path)
            return train_report(stage.name, bundle, records)

        self._stage(f"train-{stage.name}", inputs, work, outputs=[path])
        return Bundle.open(path)

    def _write_bundle(
        self, stage: EarlierStage, start: _Start, weights: Path, path: Path
    ) -> Bundle:
        ((name, task),) = stage.tasks.items()
        splits = stage.data[name]
        parent = Path(start.model)
        manifest = Manifest(
            name=self.recipe.name,
            variant=stage.name,
            format="torch",
            tasks=stage.tasks,
            parent=Bundle.open(parent).fingerprint
            if (parent / "manifest.json").is_file()
            else None,
            recipe=self.recipe.model_dump(mode="json"),
            data={f"{name}/{split}": s.fingerprint() for split, s in splits.items().items()},
            properties={"precision": "fp32"},
        )
        with BundleWriter(path) as writer:
            shutil.copytree(weights, writer.model_dir, dirs_exist_ok=True)
            load_processor(start.processor).save_pretrained(writer.processor_dir)
            predictor = Predictor(writer.draft(manifest), num_threads=os.cpu_count() or 1)
            examples = SampleStore(self.folder.data_dir(stage.name) / "eval").all()
            figures = evaluate(task, predictor.runner, predictor.processor, examples)
            manifest = manifest.model_copy(
                update={"metrics": {f"{name}/{key}": value for key, value in figures.items()}}
            )
            writer.write_samples(record_samples(predictor, iterate_rows(splits.eval)))
            writer.write_card(model_card(manifest, {stage.name: figures}))
            return writer.finish(manifest)

    def _eval_examples(self) -> list[Any]:
        return SampleStore(self.folder.data_dir("trained") / "eval").all()

    def _shards(self) -> list[tuple[str, Path]]:
        return [
            (f"{stage.name}/{split}", self.folder.data_dir(stage.name) / split)
            for stage in self.recipe.stages()
            for split in ("train", "eval")
        ]


def _texts(source: Source) -> Iterator[str]:
    """The running text of every row that has some; the data stage reports the others."""
    for row in iterate_rows(source):
        try:
            yield running_text(row)
        except DataError:
            continue


def _are_whole(outputs: list[Path]) -> bool:
    for path in outputs:
        if not path.exists():
            return False
        if path.parent.name == "bundles":
            try:
                Bundle.open(path)
            except BundleError as error:
                logger.warning("%s The stage that makes it is run again.", error)
                return False
    return True
