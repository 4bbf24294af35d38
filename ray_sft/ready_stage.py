"""A stage that is ready to be trained: its model is there, and its rows are encoded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_sft.data import Stream
from ray_sft.recipe import EarlierStage
from ray_sft.training import AnyTracker, Former, train_model

__all__ = ["ReadyStage"]


@dataclass(frozen=True, slots=True)
class ReadyStage:
    """Everything that a training of a stage reads."""

    stage: EarlierStage
    model: str
    processor: str
    data_dirs: Mapping[str, Path]
    former: Former | None
    stream: Stream | None = None
    """The training rows after those in ``data_dirs``."""
    share: float = 1.0
    """Of the cluster; less than all where several trainings run at once."""

    def train(
        self,
        *,
        out_dir: Path,
        name: str,
        on_record: Callable[[Mapping[str, Any]], None],
        trackers: Sequence[AnyTracker] = (),
        title: str = "",
    ) -> Path:
        """The weights; see `ray_sft.training.train_model`."""
        return train_model(
            self.stage.tasks,
            self.stage.train,
            model=self.model,
            processor=self.processor,
            data_dirs=self.data_dirs,
            out_dir=out_dir,
            name=name,
            on_record=on_record,
            objectives=self.stage.objectives,
            adapter=self.stage.adapter,
            former=self.former,
            stream=self.stream,
            share=self.share,
            trackers=trackers,
            title=title,
        )
