"""The bundle of a trained stage: weights, figures, samples, card, and what it was trained on."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ray_sft.bundle import Bundle, BundleWriter, Experience, Manifest
from ray_sft.data import SampleStore, iterate_rows
from ray_sft.evaluation import Detail, evaluate, evaluate_in_detail, model_card
from ray_sft.inference import Predictor, record_samples
from ray_sft.models import load_processor
from ray_sft.recipe import EarlierStage, Recipe
from ray_sft.tasks import Example, Processor, Runner, Task

__all__ = ["experience_of", "write_trained_bundle"]


def experience_of(recipe: Recipe, stage: EarlierStage) -> Experience:
    """What later trainings need to know of this one; it has no figures yet."""
    return Experience(
        name=f"{recipe.name}/{stage.name}" if recipe.before else recipe.name,
        tasks=tuple(stage.tasks),
        data={name: splits.model_dump(mode="json") for name, splits in stage.data.items()},
        quality=stage.quality.model_dump(mode="json"),
        figures=(),
    )


def write_trained_bundle(
    path: Path,
    recipe: Recipe,
    stage: EarlierStage,
    *,
    weights: Path,
    processor: str,
    parent: Bundle | None,
    eval_dirs: Mapping[str, Path],
    earlier: Sequence[tuple[Experience, Mapping[str, Path]]] = (),
) -> tuple[Bundle, dict[str, Detail]]:
    """Writes the model of ``stage``, measured on its own evaluation rows and on ``earlier`` ones.

    Returns it, and what lies behind the figures of each task.

    Args:
        path: of the bundle.
        recipe: of the run, resolved.
        stage: that was trained.
        weights: folder with the model as transformers saves it.
        processor: folder or hub id.
        parent: what the stage started from, where that was a bundle.
        eval_dirs: by task, the encoded evaluation rows.
        earlier: the trainings before, each with its encoded evaluation rows by task.
    """
    manifest = Manifest(
        name=recipe.name,
        variant=stage.name,
        format="torch",
        tasks=stage.tasks,
        parent=parent.fingerprint if parent else None,
        recipe=recipe.model_dump(mode="json"),
        data={
            f"{name}/{split}": source.fingerprint()
            for name, splits in stage.data.items()
            for split, source in splits.items().items()
        },
        properties={"precision": "fp32"},
    )
    with BundleWriter(path) as writer:
        shutil.copytree(weights, writer.model_dir, dirs_exist_ok=True)
        load_processor(processor).save_pretrained(writer.processor_dir)
        draft = writer.draft(manifest)
        predictors = Predictor.each(draft, num_threads=os.cpu_count() or 1)
        found = {
            name: evaluate_in_detail(*_measured(predictor, eval_dirs[name]))
            for name, predictor in predictors.items()
        }
        figures = {name: one for name, (one, _) in found.items()}
        own = experience_of(recipe, stage)
        experiences = [
            *(_went_on(experience, predictors, dirs) for experience, dirs in earlier),
            own.model_copy(update={"figures": (_main_figures(predictors, figures),)}),
        ]
        metrics = {f"{n}/{k}": value for n, found in figures.items() for k, value in found.items()}
        manifest = manifest.model_copy(
            update={"metrics": metrics, "experiences": tuple(experiences)}
        )
        writer.write_samples(
            sample
            for name, predictor in predictors.items()
            for sample in record_samples(
                predictor, iterate_rows(stage.data[name].eval, stage.quality)
            )
        )
        writer.write_card(model_card(manifest, {stage.name: metrics}))
        return writer.finish(manifest), {name: detail for name, (_, detail) in found.items()}


def _went_on(
    experience: Experience, predictors: Mapping[str, Predictor], dirs: Mapping[str, Path]
) -> Experience:
    """An earlier training with what the new model makes of its evaluation rows."""
    figures = {
        name: evaluate(*_measured(predictor, dirs[name])) for name, predictor in predictors.items()
    }
    now = _main_figures(predictors, figures)
    return experience.model_copy(update={"figures": (*experience.figures, now)})


def _measured(
    predictor: Predictor, eval_dir: Path
) -> tuple[Task, Runner, Processor, list[Example]]:
    """What `evaluate` reads."""
    examples = SampleStore(eval_dir).all()
    return predictor.task, predictor.runner, predictor.processor, examples


def _main_figures(
    predictors: Mapping[str, Predictor], figures: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    return {
        name: figures[name][predictor.task.main_metric[0]] for name, predictor in predictors.items()
    }
