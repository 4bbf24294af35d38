"""Where a stage's model begins, and what that model has been through before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ray_sft.bundle import Bundle, Experience
from ray_sft.data import Gate, Quality, Splits
from ray_sft.models import load_processor, locate, opened_bundle, save_grown
from ray_sft.recipe import EarlierStage
from ray_sft.run_folder import fingerprint
from ray_sft.training import Former, save_fisher

__all__ = ["StartingPoint", "relearned"]


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """A model that training can start from."""

    model: str
    processor: str
    fingerprint: str
    bundle: Bundle | None = None
    experiences: tuple[Experience, ...] = ()
    """What the model has been trained on; known before it is, where nothing is trained."""

    @classmethod
    def named(cls, name: str) -> Self:
        """What a recipe's ``model`` stands for, unless that is made from scratch."""
        if bundle := opened_bundle(name):
            return cls.of(bundle)
        source = locate(name)
        return cls(source.model, source.processor, fingerprint(name))

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """A trained bundle."""
        return cls(
            str(bundle.model_dir),
            str(bundle.processor_dir),
            bundle.fingerprint,
            bundle,
            bundle.manifest.experiences,
        )

    def model_with_room(self, stage: EarlierStage, out_dir: Path) -> str:
        """The model for ``stage``: written to ``out_dir`` where it needs room for new labels."""
        if stage.continual is None or self.bundle is None:
            return self.model
        former = self.bundle.manifest.tasks
        if stage.tasks == former:
            return self.model
        save_grown(
            self.model,
            former,
            stage.tasks,
            out_dir,
            processor=load_processor(self.processor),
            seed=stage.train.seed,
        )
        return str(out_dir)

    def former(
        self,
        stage: EarlierStage,
        *,
        model: str,
        data_dirs: Sequence[Mapping[str, Path]],
        out_dir: Path,
    ) -> Former | None:
        """What the training of ``stage`` is told of those before.

        Args:
            stage: to be trained.
            model: what `model_with_room` has returned.
            data_dirs: of each training before, by task, the encoded rows it learned from.
            out_dir: for what has to be found out first.
        """
        settings = stage.continual
        if settings is None or self.bundle is None:
            return None
        fisher = out_dir / "fisher.safetensors"
        if settings.ewc is not None:
            save_fisher(
                settings.ewc,
                fisher,
                former=self.bundle,
                model=model,
                tasks=stage.tasks,
                data_dirs=data_dirs,
                seed=stage.train.seed,
            )
        former = self.bundle.manifest.tasks
        return Former(
            settings,
            {name: tuple(str(dirs[name].resolve()) for dirs in data_dirs) for name in former},
            {name: task.model_options().get("num_labels", 0) for name, task in former.items()},
            str(fisher),
        )


def relearned(
    stage: EarlierStage, experiences: Sequence[Experience]
) -> list[tuple[Experience, EarlierStage]]:
    """The trainings before a stage that goes on from them, as stages on the rows of then."""
    if stage.continual is None:
        return []
    return [
        (experience, _again(stage, f"{stage.name}-{number}", experience))
        for number, experience in enumerate(experiences)
    ]


def _again(stage: EarlierStage, name: str, experience: Experience) -> EarlierStage:
    changes = {
        "name": f"{name}-{experience.name.replace('/', '.')}",
        "data": {task: Splits.model_validate(data) for task, data in experience.data.items()},
        "quality": Quality.model_validate(experience.quality),
        "augment": (),
        "gate": Gate(),
    }
    return stage.model_copy(update=changes)
