"""What training minimises beyond the task's own loss: one file per technique, under `base`.

Example:
    >>> from ray_sft.objectives import LabelSmoothing, RDrop
    >>> objectives = [LabelSmoothing(epsilon=0.1), RDrop(alpha=1.0)]
    >>> [objective.kind for objective in objectives]  # the first is the innermost
    ['label_smoothing', 'r_drop']
"""

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field

from ray_sft.objectives.base import Objective, each_kind_once, wrap_all
from ray_sft.objectives.distillation import PROJECTION, Distillation
from ray_sft.objectives.embedding_mixup import EmbeddingMixup
from ray_sft.objectives.ewc import Ewc
from ray_sft.objectives.fgm import Fgm
from ray_sft.objectives.fisher import fisher_information
from ray_sft.objectives.focal_loss import FocalLoss
from ray_sft.objectives.free_lb import FreeLb
from ray_sft.objectives.label_smoothing import LabelSmoothing
from ray_sft.objectives.learning_without_forgetting import LearningWithoutForgetting
from ray_sft.objectives.neftune import Neftune
from ray_sft.objectives.pgd import Pgd
from ray_sft.objectives.r_drop import RDrop

__all__ = [
    "PROJECTION",
    "AnyObjective",
    "Distillation",
    "EmbeddingMixup",
    "Ewc",
    "Fgm",
    "FocalLoss",
    "FreeLb",
    "LabelSmoothing",
    "LearningWithoutForgetting",
    "Neftune",
    "Objective",
    "Objectives",
    "Pgd",
    "RDrop",
    "fisher_information",
    "wrap_all",
]

AnyObjective: TypeAlias = Annotated[
    RDrop | Fgm | Pgd | FreeLb | Neftune | LabelSmoothing | FocalLoss | EmbeddingMixup,
    Field(discriminator="kind"),
]
"""Every objective that a recipe may name, by its ``kind``."""

Objectives: TypeAlias = Annotated[tuple[AnyObjective, ...], AfterValidator(each_kind_once)]
"""What a recipe lists, the innermost first; no kind twice."""
