"""Training what other passes have cut, or another model, with the source of the chain as teacher.

The training itself is the pipeline's: this file says only what is trained towards what. See
`ray_sft.objectives.Distillation` for the loss.
"""

import shutil
from typing import Any, ClassVar, Literal

from pydantic import Field

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext, PassResult, Precision
from ray_sft.core import BundleError, CompressionError, ConfigError
from ray_sft.models import load_processor, load_tasks, locate
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
    student: str = ""
    """Another model to be taught: a hub id, a folder or a bundle with the same tokens, of any width
    and depth; empty for what the passes before have made."""
    teachers: tuple[str, ...] = ()
    """Further bundles that teach, beside the source of the chain, the same tasks by the same
    tokens; the answers of all are averaged."""
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

    @property
    def brings_model(self) -> bool:
        """See `Pass.brings_model`."""
        return bool(self.student)

    def check(self, source: Bundle) -> None:
        """See `Pass.check`: students and teachers must read the ids that the source reads."""
        own = load_processor(source.processor_dir).get_vocab()
        for model in (self.student, *self.teachers):
            if not model:
                continue
            try:
                theirs = load_processor(locate(model).processor).get_vocab()
            except (ConfigError, BundleError) as error:
                raise CompressionError(f"distil: '{model}': {error}") from None
            if theirs != own:
                raise CompressionError(
                    f"distil: '{model}' has other tokens ({len(theirs)}) than "
                    f"'{source.manifest.name}' ({len(own)}), so that they cannot be compared token "
                    "by token. Take one of the same tokenizer."
                )
        for teacher in self._others():
            if teacher.manifest.tasks != source.manifest.tasks:
                raise CompressionError(
                    f"distil: teacher '{teacher.path}' has other tasks or labels than "
                    f"'{source.manifest.name}'. Take one that was trained on the same rows."
                )

    def _others(self) -> list[Bundle]:
        try:
            return [Bundle.open(path) for path in self.teachers]
        except BundleError as error:
            raise CompressionError(f"distil: a teacher cannot be opened: {error}") from None

    def apply(
        self, source: Bundle, out: BundleWriter, context: PassContext = NO_CONTEXT
    ) -> PassResult:
        """See `Pass.apply`."""
        if context.retrain is None:
            raise CompressionError("distil trains, but nothing here can. Run it from a recipe.")
        weights = context.retrain(
            self._given(source, out) if self.student else source,
            self.distillation,
            epochs=self.epochs,
            steps=self.steps,
            learning_rate=self.learning_rate,
            others=self._others(),
        )
        for file in out.model_dir.iterdir():
            file.unlink()
        shutil.copytree(weights, out.model_dir, dirs_exist_ok=True)
        return PassResult(self.model_dump(mode="json", exclude={"kind"}))

    def _given(self, source: Bundle, out: BundleWriter) -> Bundle:
        """The student with new heads for the tasks, written to ``out`` as a bundle to train."""
        tasks, processor = source.manifest.tasks, load_processor(source.processor_dir)
        model: Any = load_tasks(locate(self.student).model, tasks, processor=processor)
        model.save_pretrained(out.model_dir)
        manifest = source.manifest.model_copy(update={"variant": out.path.name})
        return out.draft(manifest, hashed=True)  # what is trained is known by its weights
