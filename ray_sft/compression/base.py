"""The contract of a compression pass: one bundle in, the model of another out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol, TypeAlias

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.core import Config
from ray_sft.objectives import Distillation
from ray_sft.tasks import Example

__all__ = ["NO_CONTEXT", "EncodedRows", "Pass", "PassContext", "PassResult", "Precision", "Retrain"]

Precision: TypeAlias = Literal["fp32", "half", "int8", "int4"]


class Retrain(Protocol):
    """Trains a student with the source of the chain as its teacher, on the rows of training."""

    def __call__(
        self,
        student: Bundle,
        distillation: Distillation,
        *,
        epochs: int,
        steps: int,
        learning_rate: float,
        others: Sequence[Bundle],
    ) -> Path:
        """The folder with the trained weights, as transformers reads them.

        ``steps`` 0 goes by ``epochs``; ``learning_rate`` 0 keeps that of the recipe; ``others``
        teach, too.
        """


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows as a tokenizer has encoded them, by task."""

    evaluation: Mapping[str, Sequence[Example]]
    training: Mapping[str, Sequence[Example]]
    """Some, to calibrate on."""


@dataclass(frozen=True, slots=True)
class PassContext:
    """What a pass may use beside the bundle."""

    examples: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    """Labelled rows of training by task, to calibrate on; never rows of evaluation."""
    retrain: Retrain | None = None
    """Trains a model; None where nothing can."""
    all_examples: Callable[[str], Iterable[Example]] | None = None
    """Of a task, every row of training, one after another."""
    encode_anew: Callable[[Path], EncodedRows] | None = None
    """The same rows by the tokenizer in a folder."""

    def every(self, task: str) -> Iterable[Example]:
        """All rows of training of a task, or those of `examples` where no more are at hand."""
        return self.all_examples(task) if self.all_examples else self.examples.get(task, ())


NO_CONTEXT: Final = PassContext()
"""The bundle is all there is."""


@dataclass(frozen=True, slots=True)
class PassResult:
    """What a pass tells about its work, for the manifest."""

    properties: Mapping[str, Any] = field(default_factory=dict)


class Pass(Config, ABC):
    """A step of a chain. Subclasses are frozen values; fields are what YAML may set."""

    consumes: ClassVar[Format]
    produces: ClassVar[Format]
    precision: ClassVar[Precision]
    """What it makes of the weights; only fp32 can be quantized."""
    variant: ClassVar[str]
    """The name of the bundle's folder; a second one of the kind in a chain gets a number."""
    is_exact: ClassVar[bool] = False
    """Whether the outputs must equal those of its own source within the parity tolerance."""
    trains: ClassVar[bool] = False
    """Whether it trains what the passes before it have cut."""
    is_undone_by_training: ClassVar[bool] = False
    """Whether training afterwards takes back what it did."""
    changes_tokens: ClassVar[bool] = False
    """Whether it rewrites the tokenizer, so that rows have to be encoded anew."""
    takes_encoder_decoders: ClassVar[bool] = False
    """Whether it works on models that write one text for another."""
    kind: str

    @property
    def made_precision(self) -> Precision:
        """What this very pass makes of the weights."""
        return self.precision

    @property
    def keeps_outputs(self) -> bool:
        """Whether this very pass `is_exact`."""
        return self.is_exact

    @property
    def needs_examples(self) -> bool:
        """Whether it looks at rows of training."""
        return False

    @property
    def brings_model(self) -> bool:
        """Whether it starts from another model than what the pass before has made."""
        return False

    @abstractmethod
    def check(self, source: Bundle) -> None:
        """Looks at the source of the whole chain, before any work.

        Raises:
            CompressionError: the pass cannot work on such a model.
        """

    @abstractmethod
    def apply(
        self, source: Bundle, out: BundleWriter, context: PassContext = NO_CONTEXT
    ) -> PassResult:
        """Writes the model of ``source``, changed, into ``out.model_dir``, and nothing else.

        One that `changes_tokens` changes the tokenizer in ``out.processor_dir``, too.
        """
