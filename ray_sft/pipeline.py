"""Runs the stages of a recipe; the only file that knows their order.

    check -> (initial model) -> for each stage: data -> train -> bundle -> compress

Every stage leaves its product in the run folder and a record of what went into it; a stage whose
inputs have not changed is not run again.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ray_sft.bundle import Bundle
from ray_sft.compression import Compress, StepReport, compress
from ray_sft.core import BundleError, DataError
from ray_sft.data import (
    SampleStore,
    Stream,
    UsableTexts,
    prepare,
    write_rejected,
)
from ray_sft.models import FROM_SCRATCH, ModelSource, save_from_scratch, save_with_tokens
from ray_sft.pass_context import pass_context
from ray_sft.ray_session import cluster_cpus
from ray_sft.ready_stage import ReadyStage
from ray_sft.recipe import EarlierStage, Recipe
from ray_sft.retraining import Retraining
from ray_sft.run_folder import RunFolder, StageReport, fingerprint
from ray_sft.stage_reports import bundle_report, data_report, train_report
from ray_sft.starting_point import StartingPoint, relearned
from ray_sft.trained_bundle import experience_of, write_trained_bundle
from ray_sft.training import Continual, Former

__all__ = ["Pipeline", "Watcher"]

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


class Pipeline:
    """One run of a recipe in its folder."""

    def __init__(self, recipe: Recipe, folder: RunFolder, watcher: Watcher) -> None:
        """A run of ``recipe``, as `ray_sft.resolve.check_recipe` made it."""
        self.recipe = recipe
        self.folder = folder
        self.watcher = watcher
        self.reports: list[StageReport] = []
        self._shards: list[tuple[str, Path]] = []
        """The prepared splits by what people call them, for the list of rejected rows."""
        folder.write_recipe(recipe.model_dump(mode="json"))

    def prepare(self) -> list[ReadyStage]:
        """The rows of all stages as training would read them, and nothing more.

        Stages after the first are given the model that the first one starts from.
        """
        start = self._initial()
        ready = []
        for stage in self.recipe.stages():
            self._prepare(stage, start)
            data_dirs = self._task_dirs(stage)
            ready.append(ReadyStage(stage, start.model, start.processor, data_dirs, None))
            former = start.experiences if stage.continual else ()
            learned = (*former, experience_of(self.recipe, stage))
            start = replace(start, experiences=learned)
        write_rejected(self._shards, self.folder.rejected)
        return ready

    def train(self) -> Bundle:
        """All training stages; the last one's bundle."""
        last, start = self._train_earlier()
        bundle = self._train(last, start)
        write_rejected(self._shards, self.folder.rejected)
        return bundle

    def ready(self) -> tuple[ReadyStage, str]:
        """The last stage, ready to be trained, and a fingerprint of its rows and its start."""
        last, start = self._train_earlier()
        write_rejected(self._shards, self.folder.rejected)
        rows = [self._data_inputs(last, name, start) for name in last.tasks]
        return self._ready(last, start), fingerprint(rows)

    def _train_earlier(self) -> tuple[EarlierStage, StartingPoint]:
        """The last stage with its rows prepared, and where it starts, which is trained."""
        start = self._initial()
        *earlier, last = self.recipe.stages()
        for stage in earlier:
            self._prepare(stage, start)
            start = StartingPoint.of(self._train(stage, start))
        self._prepare(last, start)
        return last, start

    def prepare_for(self, bundle: Bundle) -> str:
        """The rows of the last stage as ``bundle`` reads them, which has been through it already.

        Returns a fingerprint of them.
        """
        stage = self.recipe.stages()[-1]
        start = replace(StartingPoint.of(bundle), experiences=bundle.manifest.experiences[:-1])
        self._prepare(stage, start)
        write_rejected(self._shards, self.folder.rejected)
        return fingerprint([self._data_inputs(stage, name, start) for name in stage.tasks])

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
        return compress(
            config,
            bundle,
            examples={n: SampleStore(path).all() for n, path in self.eval_dirs().items()},
            out_dir=self.folder.bundles_dir,
            num_threads=os.cpu_count() or 1,
            progress=self.watcher.note,
            context=pass_context(
                self.retraining(bundle),
                out_dir=self.folder.data_dir("compress"),
                on_record=partial(self.watcher.record, "compress"),
            ),
        )

    def eval_dirs(self) -> dict[str, Path]:
        """By task, where the encoded evaluation rows of the last stage are."""
        return self._dirs(self.recipe.stages()[-1], "eval")

    def retraining(self, bundle: Bundle) -> Retraining:
        """What trains students of ``bundle``, which the last stage has made."""
        stage = self.recipe.stages()[-1]
        return Retraining(
            self.recipe.name,
            stage,
            bundle,
            self._task_dirs(stage),
            self.folder.path / "train",
            self._replay(stage, bundle),
            self.recipe.trackers,
        )

    def _replay(self, stage: EarlierStage, bundle: Bundle) -> Former | None:
        """Earlier rows beside those of ``stage``, for whatever is trained from its ``bundle``."""
        if stage.continual is None:
            return None
        again = relearned(stage, bundle.manifest.experiences[:-1])
        dirs = [self._dirs(one, "train") for _, one in again]
        return Former(
            Continual(replay=stage.continual.replay),
            {name: tuple(str(each[name].resolve()) for each in dirs) for name in stage.tasks},
            num_known={},
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
            self.folder.begin(name)
            began = time.monotonic()
            report = work().model_copy(update={"seconds": time.monotonic() - began})
            self.folder.finish(report, inputs)
        self.watcher.finished(report)
        self.reports.append(report)
        return report

    def _initial(self) -> StartingPoint:
        """Where the first stage starts, with the recipe's extra tokens and prompt."""
        start, tokens = self._found(), self.recipe.extra_tokens
        prompt_length = self.recipe.prompt_length
        if not tokens and not prompt_length:
            return start
        seed = self.recipe.stages()[0].train.seed
        inputs = fingerprint("extended", start.fingerprint, tokens, prompt_length, seed)
        out_dir = self.folder.path / "extended"

        def work() -> StageReport:
            source = ModelSource(start.model, start.processor)
            save_with_tokens(source, tokens, out_dir, prompt_length=prompt_length, seed=seed)
            return StageReport(stage="extended", seconds=0)

        self._stage("extended", inputs, work, outputs=[out_dir / "config.json"])
        return replace(start, model=str(out_dir), processor=str(out_dir), fingerprint=inputs)

    def _found(self) -> StartingPoint:
        """What the recipe names, or what is made from scratch for the run's text."""
        name = self.recipe.model
        if name not in FROM_SCRATCH:
            return StartingPoint.named(name)
        stages = self.recipe.stages()
        rows = {name: stages[0].data[name].train for name in stages[0].tasks}
        max_length = max(
            getattr(task, "max_length", 0) for stage in stages for task in stage.tasks.values()
        )
        seed = stages[0].train.seed
        contents = [source.fingerprint() for source in rows.values()]
        inputs = fingerprint(
            *("initial", name, contents, stages[0].quality.fingerprint()),
            *(self.recipe.vocab_size, seed, max_length),
        )
        out_dir = self.folder.path / "initial"

        def work() -> StageReport:
            save_from_scratch(
                name,
                UsableTexts(stages[0].tasks, rows, stages[0].quality),
                out_dir,
                vocab_size=self.recipe.vocab_size,
                max_length=max_length,
                seed=seed,
            )
            return StageReport(stage="initial", seconds=0)

        self._stage("initial", inputs, work, outputs=[out_dir / "config.json"])
        return StartingPoint(str(out_dir), str(out_dir), inputs)

    def _prepare(self, stage: EarlierStage, start: StartingPoint) -> None:
        for name in stage.tasks:
            self._prepare_task(stage, name, start)
        if stage.continual is None:
            return
        for experience, again in relearned(stage, start.experiences):
            try:
                for name in again.tasks:
                    self._prepare_task(again, name, start)
            except DataError as error:
                raise DataError(
                    f"{error} The rows belong to the earlier training '{experience.name}', which "
                    "continual measures and replays: put them back, or leave continual out."
                ) from None

    def _prepare_task(self, stage: EarlierStage, name: str, start: StartingPoint) -> None:
        out_dir = self._task_dir(stage.name, name)
        inputs = self._data_inputs(stage, name, start)
        report_name = f"{stage.name}-{name}" if len(stage.tasks) > 1 else stage.name

        def work() -> StageReport:
            summary = prepare(
                stage.tasks[name],
                stage.data[name],
                processor_dir=Path(start.processor),
                out_dir=out_dir,
                num_tasks=cluster_cpus(),
                augment=stage.augment,
                quality=stage.quality,
                seed=stage.train.seed,
                gate=stage.gate,
                stream=self._stream(stage, name, start),
            )
            return data_report(report_name, summary)

        self._stage(
            f"data-{report_name}", inputs, work, outputs=[out_dir / "train", out_dir / "eval"]
        )
        self._shards += [
            (f"{stage.name}/{name}/{split}", out_dir / split) for split in ("train", "eval")
        ]

    def _stream(self, stage: EarlierStage, name: str, start: StartingPoint) -> Stream | None:
        """The training rows of a task without end, where the recipe asks for that."""
        if not stage.train.window:
            return None
        source, folder = stage.data[name].train, self._task_dir(stage.name, name)
        return Stream(
            source,
            tuple(source.slices()),
            stage.tasks[name],
            processor_dir=Path(start.processor),
            folder=folder / "train",
            eval_dir=folder / "eval",
            rows=stage.train.window,
            quality=stage.quality,
            augment=stage.augment,
            gate=stage.gate,
            seed=stage.train.seed,
        )

    def _data_inputs(self, stage: EarlierStage, name: str, start: StartingPoint) -> str:
        return fingerprint(
            {split: source.fingerprint() for split, source in stage.data[name].items().items()},
            stage.tasks[name].model_dump(mode="json"),
            [item.fingerprint() for item in (*stage.augment, stage.gate, stage.quality)],
            stage.train.seed if stage.augment else 0,
            stage.train.window,
            start.fingerprint,
        )

    def _task_dir(self, stage: str, task: str) -> Path:
        """Where the encoded shards of a task are."""
        return self.folder.data_dir(stage) / task

    def _ready(self, stage: EarlierStage, start: StartingPoint) -> ReadyStage:
        """A stage whose rows are prepared; finds out what training has to know first."""
        out_dir = self.folder.train_dir(stage.name)
        model = start.model_with_room(stage, out_dir / "start")
        again = relearned(stage, start.experiences)
        former = start.former(
            stage,
            model=model,
            data_dirs=[self._dirs(one, "train") for _, one in again],
            out_dir=out_dir,
        )
        data_dirs = self._task_dirs(stage)
        stream = self._stream(stage, next(iter(stage.tasks)), start)
        return ReadyStage(stage, model, start.processor, data_dirs, former, stream=stream)

    def _train(self, stage: EarlierStage, start: StartingPoint) -> Bundle:
        inputs = fingerprint(
            {name: self._data_inputs(stage, name, start) for name in stage.tasks},
            stage.train.decisive(),
            [item.model_dump(mode="json") for item in stage.objectives],
            stage.adapter.model_dump(mode="json") if stage.adapter else None,
            stage.continual.model_dump(mode="json") if stage.continual else None,
        )
        path = self.folder.bundles_dir / stage.name
        earlier = relearned(stage, start.experiences)

        def work() -> StageReport:
            records: list[dict[str, Any]] = []

            def on_record(record: Mapping[str, Any]) -> None:
                records.append(dict(record))
                self.watcher.record(stage.name, record)

            weights = self._ready(stage, start).train(
                out_dir=self.folder.train_dir(stage.name),
                name=f"run-{inputs[:12]}",
                on_record=on_record,
                trackers=self.recipe.trackers,
                title=f"{self.recipe.name}/{stage.name}",
            )
            bundle, details = write_trained_bundle(
                path,
                self.recipe,
                stage,
                weights=weights,
                processor=start.processor,
                parent=start.bundle,
                eval_dirs=self._dirs(stage, "eval"),
                earlier=[(one, self._dirs(again, "eval")) for one, again in earlier],
            )
            return train_report(stage.name, bundle, records, details)

        self._stage(f"train-{stage.name}", inputs, work, outputs=[path])
        return Bundle.open(path)

    def _task_dirs(self, stage: EarlierStage) -> dict[str, Path]:
        """By task, where the encoded shards of a stage are."""
        return {name: self._task_dir(stage.name, name) for name in stage.tasks}

    def _dirs(self, stage: EarlierStage, split: str) -> dict[str, Path]:
        """By task, where the encoded rows of a split are."""
        return {name: folder / split for name, folder in self._task_dirs(stage).items()}


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
