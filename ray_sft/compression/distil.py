"""Training what other passes have cut, with the source of the chain as its teacher.

The training itself is the pipeline's: this file says only what is trained towards what. See
`ray_sft.objectives.Distillation` for the loss.
"""

import shutil
from typing import ClassVar, Literal

from pydantic import Field

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext, PassResult, Precision
from ray_sft.core import CompressionError
from ray_sft.objectives import Distillation

__all__ = ["Distil"]


class Distil(Pass):
    """The same student after some epochs on the training rows beside its teacher."""

    consumes: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    precision: ClassVar[Precision] = "fp32"
    variant: ClassVar[str] = "distil"
    trains: ClassVar[bool] = True

    kind: Literal["distil"] = "distil"
    epochs: int = Field(default=1, ge=1)
    """How often each row is trained; everything else is as in the recipe's ``train``."""
    steps: int = Field(default=0, ge=0)
    """Exactly so many optimizer steps, in as many epochs as they take; 0 goes by ``epochs``."""
    learning_rate: float = Field(default=0.0, ge=0)
    """Peak learning rate; 0 takes that of the recipe's ``train``."""
    temperature: float = Field(default=2.0, gt=0)
    """Logits of both are divided by it: a higher one shows more of the less likely classes."""
    alpha: float = Field(default=0.5, ge=0, le=1)
    """Weight of the teacher's answers; those of the data have the rest."""
    hidden_weight: float = Field(default=1.0, ge=0)
    """Weight of the difference of the layers' outputs; 0 leaves them free."""
    relation_weight: float = Field(default=0.0, ge=0)
    """Weight of the difference of how tokens relate in the last layer; 0 leaves that free."""

    @property
    def distillation(self) -> Distillation:
        """What is minimised."""
        return Distillation(**self.model_dump(include=set(Distillation.model_fields)))

    def check(self, source: Bundle) -> None:
        """See `Pass.check`: every model that was trained can be distilled."""

    def apply(
        self, source: Bundle, out: BundleWriter, context: PassContext = NO_CONTEXT
    ) -> PassResult:
        """See `Pass.apply`."""
        if context.retrain is None:
            raise CompressionError("distil trains, but nothing here can. Run it from a recipe.")
        weights = context.retrain(
            source,
            self.distillation,
            epochs=self.epochs,
            steps=self.steps,
            learning_rate=self.learning_rate,
        )
        shutil.copytree(weights, out.model_dir, dirs_exist_ok=True)
        return PassResult(self.model_dump(mode="json", exclude={"kind"}))
