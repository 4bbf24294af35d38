"""A recipe made complete: what its tasks learn from the data and from the model they start with."""

from collections.abc import Mapping

from ray_sft.bundle import Bundle
from ray_sft.core import ConfigError
from ray_sft.data import resolve_task
from ray_sft.models import FROM_SCRATCH, check_model, locate, opened_bundle
from ray_sft.recipe import EarlierStage, Recipe
from ray_sft.tasks import AnyTask

__all__ = ["check_recipe"]


def check_recipe(recipe: Recipe) -> Recipe:
    """The recipe with its tasks resolved against the data; nothing is written or trained.

    Raises:
        RaySFTError: whatever would make the run fail before training.
    """
    if recipe.model not in FROM_SCRATCH:
        check_model(locate(recipe.model))
    for tracker in recipe.trackers:
        tracker.check()
    for stage in recipe.stages():
        for part in (*stage.augment, stage.gate, stage.quality):
            part.check()
        if stage.adapter:
            stage.adapter.check()
    former = _tasks_of(opened_bundle(recipe.model))
    resolved: dict[str, dict[str, AnyTask]] = {}
    for stage in recipe.stages():
        known = _continued(stage, former, model=recipe.model) if stage.continual else {}
        former = resolved[stage.name] = {
            name: resolve_task(task, stage.data[name], name=name, former=known.get(name))
            for name, task in stage.tasks.items()
        }
        _check_answers_can_be_held(stage, resolved[stage.name], known)
    before = tuple(
        stage.model_copy(update={"tasks": resolved[stage.name]}) for stage in recipe.before
    )
    return recipe.model_copy(update={"tasks": resolved["trained"], "before": before})


def _tasks_of(bundle: Bundle | None) -> Mapping[str, AnyTask]:
    """What a model was trained for and remembers the rows of."""
    return bundle.manifest.tasks if bundle and bundle.manifest.experiences else {}


def _continued(
    stage: EarlierStage, former: Mapping[str, AnyTask], *, model: str
) -> Mapping[str, AnyTask]:
    """The former model's tasks, which must be those of ``stage``."""
    if not former:
        raise ConfigError(
            f"continual: stage '{stage.name}' starts from '{model}', which does not say what it "
            "was trained on. Start from a bundle that 'ray-sft run' has made, or leave continual "
            "out."
        )
    asked = {name: task.kind for name, task in stage.tasks.items()}
    known = {name: task.kind for name, task in former.items()}
    if asked != known:
        raise ConfigError(
            f"continual: the model of stage '{stage.name}' was trained for {_spelled(known)}, and "
            f"the stage is for {_spelled(asked)}. Give both the same names and kinds, or leave "
            "continual out."
        )
    return former


def _check_answers_can_be_held(
    stage: EarlierStage, tasks: Mapping[str, AnyTask], known: Mapping[str, AnyTask]
) -> None:
    """Raises ConfigError where the former model has no answer to what the new one is asked."""
    if stage.continual is None or stage.continual.learning_without_forgetting is None:
        return
    for name, task in tasks.items():
        if task.kind == "multi_label_classification" and task != known[name]:
            raise ConfigError(
                f"continual.learning_without_forgetting: task '{name}' has new labels, on each of "
                "which the former model would be asked to decide. Use replay or ewc."
            )


def _spelled(kinds: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
