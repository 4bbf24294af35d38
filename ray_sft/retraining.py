"""Training students of a run's model: its last stage once more, with a teacher."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_sft.bundle import Bundle
from ray_sft.objectives import Distillation
from ray_sft.recipe import EarlierStage
from ray_sft.run_folder import fingerprint
from ray_sft.training import AnyTracker, Former, train_model

__all__ = ["Retraining"]


@dataclass(frozen=True, slots=True)
class Retraining:
    """Everything that the training of a student reads; see `ray_sft.compression.Retrain`."""

    title: str
    """What trackers call the run."""
    stage: EarlierStage
    teacher: Bundle
    task_dirs: Mapping[str, Path]
    """By task, where the encoded rows of ``stage`` are."""
    out_dir: Path
    """For the checkpoints and records of every student."""
    former: Former | None
    """Earlier rows to replay."""
    trackers: Sequence[AnyTracker] = ()

    def train(
        self,
        student: Bundle,
        distillation: Distillation,
        *,
        epochs: int,
        steps: int,
        learning_rate: float,
        others: Sequence[Bundle],
        on_record: Callable[[Mapping[str, Any]], None],
    ) -> Path:
        """The folder with the trained weights."""
        stage = self.stage
        rate = learning_rate or stage.train.learning_rate
        changes = {"epochs": epochs, "steps": steps, "learning_rate": rate}
        # of a stream, the first window is there; of layers, whole ones are compared
        changes |= {"window": 0, "tensor_parallel": 1, "sequence_parallel": 1}
        # compiled layers would not tell their outputs, which are compared with the teacher's
        train = stage.train.model_copy(update=changes | {"compile": False})
        settings = train.decisive(), distillation.model_dump(mode="json")
        teachers = [self.teacher, *others]
        taught_by = [one.fingerprint for one in teachers]
        inputs = fingerprint(student.weights_fingerprint, taught_by, *settings)
        name = f"{student.manifest.variant}-distilled"
        return train_model(
            stage.tasks,
            train,
            model=str(student.model_dir),
            processor=str(student.processor_dir),
            data_dirs=self.task_dirs,
            out_dir=self.out_dir / name,
            name=f"run-{inputs[:12]}",
            on_record=on_record,
            teachers=[str(one.model_dir) for one in teachers],
            distillation=distillation,
            former=self.former,
            trackers=self.trackers,
            title=f"{self.title}/{name}",
        )
