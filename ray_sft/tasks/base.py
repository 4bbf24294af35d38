"""The contract of a task: both ends of a model.

A task turns rows into arrays (``encode``, ``collate``) and outputs into answers (``decode``).
Training, evaluation and serving call the same methods, so what was measured is what is served.
Nothing here knows about text: a processor is whatever turns raw input into arrays (a tokenizer,
an image processor, a feature extractor), and an example is a set of named arrays.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel

from ray_sft.core import Config, DataError

__all__ = [
    "IGNORED",
    "Array",
    "Batch",
    "Encoded",
    "Example",
    "Head",
    "Judgement",
    "Loss",
    "LossFn",
    "Metrics",
    "Outputs",
    "Processor",
    "Rejected",
    "Row",
    "Runner",
    "Task",
    "TensorBatch",
    "pad",
]

IGNORED = -100
"""The label of a position that is not a target."""

Array: TypeAlias = NDArray[Any]
Row: TypeAlias = Mapping[str, Any]
Batch: TypeAlias = dict[str, Array]
TensorBatch: TypeAlias = dict[str, torch.Tensor]
Outputs: TypeAlias = dict[str, Array]
Runner: TypeAlias = Callable[[Batch], Outputs]
"""Runs a model forward, on torch or ONNX Runtime: named arrays in, named arrays out."""
Processor: TypeAlias = Any
"""A transformers tokenizer, image processor or feature extractor."""
Head: TypeAlias = Literal[
    "sequence_classification",
    "token_classification",
    "matching",
    "embedding",
    "masked_lm",
    "causal_lm",
    "seq2seq_lm",
]
"""What stands on the backbone, as `ray_sft.models` spells it."""


@dataclass(frozen=True, slots=True)
class Example:
    """One encoded row."""

    arrays: dict[str, Array]
    """Named arrays without a batch axis."""
    length: int
    """What a batching budget counts: tokens for text, frames for speech, patches for images."""
    truncated: int = 0
    """How many units were cut off because the row was longer than the model takes."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that cannot be used, and why."""

    reason: str


Encoded: TypeAlias = Example | Rejected


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of a micro-batch, summed and not yet normalised."""

    loss_sum: torch.Tensor
    """Scalar; the sum over targets, in nats. Zero, but attached to the graph, without targets."""
    num_targets: int
    logits: torch.Tensor
    """Scores of the classes at each target, shape (num_targets, classes), float32; what
    objectives compare and smooth. ``cross_entropy(logits, targets)`` summed is ``loss_sum``."""
    targets: torch.Tensor
    """The right class at each target, shape (num_targets,), int64."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A decision of a model beside the right one, for people who look into its errors."""

    expected: str
    """The right answer, as a word."""
    answered: str
    """The model's."""
    score: float
    """How probable the model held its answer."""
    text: str
    """What it was asked, as far as the model has read it."""


LossFn: TypeAlias = Callable[[TensorBatch], Loss]
"""The loss of a micro-batch under the model that is trained; objectives wrap one."""


class Metrics(ABC):
    """Accumulates figures over an evaluation set; independent of batch and world size."""

    @abstractmethod
    def update(self, responses: Sequence[BaseModel], examples: Sequence[Example]) -> None:
        """Adds decoded responses and the examples (with labels) they belong to."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Adds what another process has seen."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The figures; NaN where nothing was seen."""


class Task(Config, ABC):
    """What a model is asked to do. Subclasses are frozen values; fields are what YAML may set."""

    columns: ClassVar[Mapping[str, str]]
    """Input column -> one sentence about it."""
    head: ClassVar[Head]
    """The kind of model head."""
    main_metric: ClassVar[tuple[str, Literal["max", "min"]]]
    """The figure that budgets and best checkpoints use, and its better direction."""
    can_pack: ClassVar[bool] = False
    """Whether `pack` may put several examples into one row."""
    labels_tokens: ClassVar[bool] = False
    """Whether ``labels`` of a batch belong to tokens, (batch, tokens), and not to rows."""
    can_mix: ClassVar[bool] = False
    """Whether a row has one target, of classes that all rows share, so that two can be mixed."""
    Request: ClassVar[type[BaseModel]]
    Response: ClassVar[type[BaseModel]]

    kind: str

    def observed_columns(self) -> tuple[str, ...]:
        """Columns whose distinct values `resolve` wants to see before training."""
        return ()

    def resolve(self, values: Mapping[str, Sequence[str]], former: Self | None = None) -> Self:
        """This task with what it learns from the training data (its labels, say) filled in.

        ``former`` is the task of a model that is trained further: what that model knows keeps its
        place, and what is new comes behind it.
        """
        del values, former
        return self

    def check_values(self, values: Mapping[str, Sequence[str]], *, split: str) -> None:
        """Raises DataError where ``split`` holds values that training has not seen."""
        del values, split

    def texts(self, row: Row) -> list[str]:
        """The texts of a row, from which a tokenizer can be learned; none where it has none."""
        text = row.get("text")
        return [text] if isinstance(text, str) and text.strip() else []

    def tokens_in(self, example: Example) -> Array:
        """The ids of all tokens of an example's texts, in any order, (tokens,)."""
        return example.arrays["input_ids"]

    def own_tokens(self, processor: Processor) -> Array:
        """The ids of tokens that the task itself needs, whatever it is asked, (tokens,)."""
        del processor
        return np.empty(0, dtype=np.int64)

    def model_options(self) -> dict[str, Any]:
        """Options for the model's configuration, such as the number of labels."""
        return {}

    @abstractmethod
    def encode(self, rows: Sequence[Row], processor: Processor) -> list[Encoded]:
        """One example or rejection per row, in order; labels are present where the row has them.

        Only numpy arrays; runs in data workers and in the service alike.
        """

    def resample(self, example: Example, processor: Processor, rng: np.random.Generator) -> Example:
        """``example`` as training sees it this time; the default is no other than evaluation's.

        ``rng`` depends on the seed, the epoch and the sample alone, so a resumed run draws the
        same. Length and number of targets stay as they are.
        """
        del processor, rng
        return example

    @abstractmethod
    def collate(self, examples: Sequence[Example], processor: Processor) -> Batch:
        """Examples stacked along a new first axis, padded to the longest."""

    def pack(self, groups: Sequence[Sequence[Example]], processor: Processor) -> Batch:
        """Each group concatenated into one row, isolated from each other by ``position_ids``."""
        del groups, processor
        raise DataError(f"{type(self).__name__} cannot be packed. Set train.packing: false.")

    @abstractmethod
    def num_targets(self, batch: Batch) -> int:
        """The number of targets in a batch, known before the forward pass."""

    def has_target(self, example: Example) -> bool:
        """Whether a model can learn from the example or be measured on it.

        The same as a batch of it alone having targets, without the batch; here, whether one of
        its ``labels`` is not -100.
        """
        labels = example.arrays.get("labels")
        return labels is not None and bool((labels != IGNORED).any())

    @abstractmethod
    def without_targets(self, batch: Batch) -> Batch:
        """A copy of ``batch`` in which no position is a target (a rank with nothing to do)."""

    @abstractmethod
    def loss(self, model: torch.nn.Module, batch: TensorBatch) -> Loss:
        """The summed loss of a batch, its number of targets, and the model's outputs."""

    @abstractmethod
    def predict(self, model: Runner, batch: Batch) -> Outputs:
        """Runs the model on a collated batch; every output keeps the batch axis first."""

    @abstractmethod
    def decode(
        self, outputs: Outputs, examples: Sequence[Example], processor: Processor
    ) -> list[BaseModel]:
        """One response per example."""

    @abstractmethod
    def metrics(self) -> Metrics:
        """An empty accumulator."""

    def judgements(
        self, responses: Sequence[BaseModel], examples: Sequence[Example], processor: Processor
    ) -> list[Judgement]:
        """The decisions for examples with labels; none where answers are no choice of a few."""
        del responses, examples, processor
        return []


def pad(arrays: Sequence[Array], value: int, *, multiple_of: int = 1) -> Array:
    """One-dimensional arrays stacked to ``(batch, longest)``, filled up with ``value``."""
    longest = max((len(array) for array in arrays), default=0)
    width = -(-longest // multiple_of) * multiple_of
    out = np.full((len(arrays), width), value, dtype=np.int64)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out
