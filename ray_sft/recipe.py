"""The recipe: one YAML page that says everything about a run."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ray_sft.compression import VARIANTS, Compress
from ray_sft.core import Config, apply_overrides, load_tree, validate
from ray_sft.data import AnyAugmentation, Gate, Quality, Splits
from ray_sft.models import AnyAdapter, PromptTuning
from ray_sft.objectives import EmbeddingMixup, Objectives
from ray_sft.recipes import find_recipe
from ray_sft.tasks import AnyTask
from ray_sft.training import AnyTracker, Continual, Train, Tune

__all__ = ["EarlierStage", "Recipe", "Stage", "load_recipe"]

_TASK_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
_OF_TOKENS = ("label_smoothing", "focal_loss")
"""Objectives that look at each token by itself."""
_OWN_MODEL = ("causal_lm", "masked_lm", "seq2seq_lm")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Stage(Config):
    """One training of a model: what to learn, from which rows, how."""

    tasks: dict[Annotated[str, Field(pattern=_TASK_NAME)], AnyTask] = Field(min_length=1)
    """What the model is asked to do, by a name of your choice; several tasks share one model."""
    data: dict[str, Splits] = Field(default_factory=dict)
    """The rows of each task, under the same name."""
    augment: tuple[AnyAugmentation, ...] = ()
    """Operations that each add changed copies of the training rows; evaluation never sees them."""
    gate: Gate = Gate()
    """Which of these copies are kept, by a classifier and an encoder of yours."""
    quality: Quality = Quality()
    """Which rows are used, and how their texts are repaired and masked first."""
    objectives: Objectives = ()
    """What is put around the loss, the first one innermost."""
    adapter: AnyAdapter | None = None
    """Train an adapter instead of the whole model; it is merged at the end."""
    train: Train = Train()
    """How to train."""
    continual: Continual | None = None
    """Go on from a bundle without losing what it knows; leave it out to learn these rows alone."""

    @model_validator(mode="after")
    def _weights_can_be_held(self) -> Self:
        if self.adapter and self.continual and self.continual.ewc:
            raise ValueError(
                "continual: ewc holds the weights of the whole model, of which an adapter trains "
                "none. Leave ewc or adapter out"
            )
        if self.train.tensor_parallel > 1 and (
            self.adapter or (self.continual and self.continual.ewc)
        ):
            raise ValueError(
                "train.tensor_parallel parts the weights of layers, which adapters and continual: "
                "ewc need whole. Leave one of them out"
            )
        if self.adapter and self.adapter.four_bit and self.train.compile:
            raise ValueError(
                "adapter: four_bit unpacks weights where layers run, which compiled layers cannot "
                "hold. Set train.compile: false or leave four_bit out"
            )
        if self.train.compile and self.continual and self.continual.ewc:
            raise ValueError(
                "continual: ewc looks at weights where layers run, which compiled layers do not "
                "tell. Set train.compile: false or leave ewc out"
            )
        return self

    @model_validator(mode="after")
    def _tasks_can_share(self) -> Self:
        alone = {name: task for name, task in self.tasks.items() if task.head in _OWN_MODEL}
        if len(self.tasks) > 1 and alone:
            name, task = next(iter(alone.items()))
            raise ValueError(
                f"tasks: '{name}' ({task.kind}) cannot share a model with other tasks, since its "
                "head is tied to the model's own embeddings; give it a stage of its own under "
                "'before'"
            )
        if unknown := sorted(set(self.train.task_weights) - set(self.tasks)):
            raise ValueError(f"train.task_weights: '{unknown[0]}' is no task of the stage")
        if self.train.balance and len(self.tasks) == 1:
            raise ValueError("train.balance: there is only one task; leave it out")
        return self

    @model_validator(mode="after")
    def _sequences_can_be_shared(self) -> Self:
        if self.train.sequence_parallel == 1:
            return self
        if any(task.kind != "causal_language_model" for task in self.tasks.values()):
            raise ValueError(
                "train.sequence_parallel parts the rows of causal_language_model alone. Leave it "
                "out"
            )
        whole = [one.kind for one in self.objectives if one.kind not in _OF_TOKENS]
        if whole or self.continual:
            raise ValueError(
                f"train.sequence_parallel: {', '.join(whole) or 'continual'} looks at whole texts, "
                "of which a worker has a part. Leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _rows_can_be_streamed(self) -> Self:
        if not self.train.window:
            return self
        if len(self.tasks) > 1:
            raise ValueError(
                "train.window: rows of several tasks are mixed by how many there are of each, "
                "which a stream does not tell. Leave window out, or give each task a stage"
            )
        if self.continual:
            raise ValueError(
                "train.window: continual measures a training by all its rows. Leave one of them out"
            )
        if self.quality.duplicates == "near":
            raise ValueError(
                "train.window: nearly the same rows are found by comparing all of them, which a "
                "stream does not hold. Set quality.duplicates to exact (which then compares the "
                "rows of a window) or keep"
            )
        return self

    @model_validator(mode="after")
    def _rows_can_be_mixed(self) -> Self:
        if not any(isinstance(objective, EmbeddingMixup) for objective in self.objectives):
            return self
        for name, task in self.tasks.items():
            if not task.can_mix:
                raise ValueError(
                    f"objectives: embedding_mixup mixes rows with one label out of a list; those "
                    f"of '{name}' ({task.kind}) have none. Leave it out"
                )
        return self


class EarlierStage(Stage):
    """A training before the last one, such as pre-training on the raw text of the run."""

    name: str = Field(pattern=_NAME)
    """The stage's name; its model is kept as the bundle of that name."""


class Recipe(Stage):
    """A run from rows to a compressed bundle."""

    name: str = Field(pattern=_NAME)
    """The run's folder below ``runs/``, and the model's name in a service."""
    model: str = "embedded/minilm"
    """Where to start: ``embedded/...``, a hub id, a folder, or a bundle."""
    vocab_size: int = Field(default=4096, ge=300, le=65536)
    """Size of the vocabulary that a model made from scratch learns from the run's text."""
    extra_tokens: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    """Words, such as markers of your own, that the tokenizer is to know as one token each; their
    embeddings are learned, with an adapter too."""
    before: tuple[EarlierStage, ...] = ()
    """Stages that run first, each on the model of the one before. One without ``data`` reads the
    rows of the recipe's first task, and takes its ``quality``."""
    tune: Tune | None = None
    """What ``ray-sft tune`` searches for the last stage; a run does not look at it."""
    trackers: tuple[AnyTracker, ...] = ()
    """Services that follow every training, beside TensorBoard's files in the run's folder."""
    compress: Compress | None = None
    """What to make of the trained model; leave it out to keep only that."""

    @model_validator(mode="after")
    def _data_for_every_task(self) -> Self:
        stages: list[Stage] = [*self.before, self]
        for stage in stages:
            if stage is not self and not stage.data:
                continue
            if missing := sorted(set(stage.tasks) - set(stage.data)):
                raise ValueError(f"data: no rows for task '{missing[0]}'")
            if unknown := sorted(set(stage.data) - set(stage.tasks)):
                raise ValueError(f"data: '{unknown[0]}' is no task of the stage")
        names = [stage.name for stage in self.before]
        reserved = {"trained", "initial", "extended", "compressed"} | VARIANTS
        reserved |= set(self.compress.variants()) if self.compress else set()
        if len(set(names)) < len(names) or reserved & set(names):
            raise ValueError(f"before: stage names must differ, and not be one of {reserved}")
        return self

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        if self.tune and self.train.window:
            raise ValueError(
                "tune: its trials read the same rows, which are not streamed. Leave tune or "
                "train.window out"
            )
        return self

    @model_validator(mode="after")
    def _tokens_can_be_added(self) -> Self:
        if blank := [token for token in self.extra_tokens if token != token.strip()]:
            raise ValueError(f"extra_tokens: {blank[0]!r} begins or ends with white space")
        stages: list[Stage] = [*self.before, self]
        if self.extra_tokens and any(stage.continual for stage in stages):
            raise ValueError(
                "extra_tokens: what a bundle has learned is measured in its own tokens, which "
                "continual goes on with. Leave extra_tokens or continual out"
            )
        return self

    @model_validator(mode="after")
    def _has_room_for_a_prompt(self) -> Self:
        stages: list[Stage] = [*self.before, self]
        lengths = {one.num_tokens for one in _prompts(stages)}
        if not lengths:
            return self
        if len(lengths) > 1:
            raise ValueError(
                "adapter: the stages have prompts of different lengths, but the tokenizer puts one "
                "before every text. Give them the same num_tokens"
            )
        if any(stage.continual for stage in stages):
            raise ValueError(
                "adapter: what a bundle has learned is measured in its own tokens, so continual "
                "cannot put a prompt before its texts. Take lora, or leave continual out"
            )
        rooms = {
            name: room
            for stage in stages
            for name, task in stage.tasks.items()
            if (room := getattr(task, "max_length", 0))
        }
        if short := [name for name, room in rooms.items() if room < 2 * self.prompt_length]:
            raise ValueError(
                f"adapter: a prompt of {self.prompt_length} tokens takes more than half of "
                f"max_length {rooms[short[0]]} of task '{short[0]}'. Shorten num_tokens or raise it"
            )
        return self

    @property
    def prompt_length(self) -> int:
        """How many tokens of a prompt stand before every text."""
        return max((one.num_tokens for one in _prompts([*self.before, self])), default=0)

    @model_validator(mode="after")
    def _can_be_compressed(self) -> Self:
        encoder_decoders = [n for n, task in self.tasks.items() if task.head == "seq2seq_lm"]
        passes = self.compress.passes if self.compress else ()
        unable = [step.kind for step in passes if not step.takes_encoder_decoders]
        if encoder_decoders and unable:
            raise ValueError(
                f"compress: {unable[0]} cannot work on the encoder-decoder of "
                f"'{encoder_decoders[0]}' yet. Take export_onnx and quantize_int8"
            )
        return self

    def stages(self) -> list[EarlierStage]:
        """All stages in order, the last under the name ``trained``, each with its own data."""
        earlier = [
            stage if stage.data else stage.model_copy(update=self._own_rows(stage))
            for stage in self.before
        ]
        shared = {name: getattr(self, name) for name in Stage.model_fields}
        return [
            stage.model_copy(update={"adapter": self._with_tokens(stage.adapter)})
            for stage in (*earlier, EarlierStage(name="trained", **shared))
        ]

    def with_first_rows(self, count: int) -> Self:
        """The same recipe on no more than ``count`` rows of each source; 0 for all."""
        if not count:
            return self
        before = tuple(
            stage.model_copy(update={"data": _first_rows(stage.data, count)})
            for stage in self.before
        )
        return self.model_copy(update={"data": _first_rows(self.data, count), "before": before})

    def _with_tokens(self, adapter: AnyAdapter | None) -> AnyAdapter | None:
        """An adapter that trains the extra tokens, too."""
        if adapter is None or not self.extra_tokens:
            return adapter
        tokens = tuple(dict.fromkeys((*self.extra_tokens, *adapter.tokens)))
        return adapter.model_copy(update={"tokens": tokens})

    def _own_rows(self, stage: Stage) -> dict[str, Any]:
        """The rows of the recipe's first task, with the columns that a task of ``stage`` reads.

        They are masked and checked as the recipe says, unless the stage says otherwise.
        """
        splits = next(iter(self.data.values()))
        data = {name: splits.mapping(tuple(task.columns)) for name, task in stage.tasks.items()}
        own = {} if "quality" in stage.model_fields_set else {"quality": self.quality}
        return {"data": data, **own}


def _prompts(stages: Sequence[Stage]) -> list[PromptTuning]:
    return [stage.adapter for stage in stages if isinstance(stage.adapter, PromptTuning)]


def _first_rows(data: Mapping[str, Splits], count: int) -> dict[str, Splits]:
    return {name: splits.with_first_rows(count) for name, splits in data.items()}


def load_recipe(reference: str, overrides: Sequence[str] = ()) -> Recipe:
    """The validated recipe with overrides such as ``train.workers=8`` applied."""
    tree = apply_overrides(load_tree(find_recipe(reference)), overrides)
    return validate(Recipe, tree, what=f"recipe '{reference}'")
