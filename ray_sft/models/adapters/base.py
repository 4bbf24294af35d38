"""The contract of an adapter: a few new weights are trained, the model's own stay as they are.

The layers of the backbone get an adapter each, or a prompt stands before every text; a new head is
trained whole, since it has learned nothing yet. At the end everything is merged, so a bundle never
needs peft. Every member keeps these laws:

- Untrained it changes nothing.
- What it trains beside heads are its own new weights alone, and the embeddings of its ``tokens``.
- The merged model answers as the adapted one, and has the parameters that it had before.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, cast

from torch import nn

from ray_sft.core import Config, ConfigError
from ray_sft.models.adapters.four_bit import (
    check_installed,
    import_bitsandbytes,
    pack,
    round_weights,
)
from ray_sft.tasks import Processor, Task

if TYPE_CHECKING:
    from peft.tuners.tuners_utils import BaseTuner

__all__ = ["ROWS", "Adapter", "linear_layers"]

ROWS = "trainable_tokens_delta"
"""Part of the names of the rows of an embedding that are trained."""
_TRAINED_HEADS = ("sequence_classification", "token_classification", "matching")


class Adapter(Config, ABC):
    """What is trained instead of the whole model. Subclasses are frozen values."""

    marker: ClassVar[str]
    """Part of the names of the weights that it adds."""

    kind: str
    tokens: tuple[str, ...] = ()
    """Tokens whose embeddings are trained too; those of ``extra_tokens`` always are."""
    four_bit: bool = False
    """Hold the layers' own weights in four bits (QLoRA): an eighth of the memory, and slower
    steps. They stay so rounded in the merged model. Needs the extra ``four-bit``."""

    def check(self) -> None:
        """Raises ConfigError where a package is missing."""
        if self.four_bit:
            check_installed()

    def inject(
        self,
        module: nn.Module,
        tasks: Mapping[str, Task],
        processor: Processor,
        *,
        packed: bool = True,
    ) -> "BaseTuner":
        """Puts adapters into ``module`` in place; freezes everything but them and new heads.

        ``merge_and_unload()`` of the result gives the plain model back with the updates in it, but
        for one with ``four_bit``, of which that is asked where it was not ``packed``: the same
        weights, unpacked.

        Raises:
            ConfigError: the model has nothing to adapt, or no such tokens.
        """
        if find_spec("bitsandbytes"):
            import_bitsandbytes()
        prefix = _backbone_prefix(module)
        has_weights = not next(module.parameters()).is_meta
        if self.four_bit and has_weights:
            (pack if packed else round_weights)(module, linear_layers(module, prefix))
        tokens = self.trained_tokens()
        rows = _train_rows(module, _ids(tokens, processor)) if tokens else None
        tuner = self._tune(module, prefix) or rows
        assert tuner is not None, f"{self.kind} trains nothing"
        trains_heads = all(task.head in _TRAINED_HEADS for task in tasks.values())
        for name, parameter in module.named_parameters():
            is_head = trains_heads and not name.startswith(prefix)
            is_new = self.marker in name or ROWS in name
            parameter.requires_grad_(is_new or is_head)
        return tuner

    def num_packed(self, module: nn.Module) -> int:
        """How many weights of ``module``, which has no adapters yet, would be held in four bits."""
        if not self.four_bit:
            return 0
        layers = map(module.get_submodule, linear_layers(module, _backbone_prefix(module)))
        return sum(cast(nn.Linear, layer).weight.numel() for layer in layers)

    def trained_tokens(self) -> tuple[str, ...]:
        """The tokens whose embeddings are trained."""
        return self.tokens

    @abstractmethod
    def _tune(self, module: nn.Module, prefix: str) -> "BaseTuner | None":
        """Puts adapters into the part of ``module`` whose names begin with ``prefix``.

        None where there is nothing to train there.
        """


def linear_layers(module: nn.Module, prefix: str) -> list[str]:
    """The names of all linear layers that begin with ``prefix``."""
    return [
        name
        for name, layer in module.named_modules()
        if name.startswith(prefix) and isinstance(layer, nn.Linear)
    ]


def _ids(tokens: Sequence[str], processor: Processor) -> list[int]:
    vocabulary = processor.get_vocab()
    if unknown := [token for token in tokens if token not in vocabulary]:
        raise ConfigError(
            f"adapter.tokens: the tokenizer has no token '{unknown[0]}'. Name it under "
            "extra_tokens, which adds it."
        )
    return [vocabulary[token] for token in tokens]


def _train_rows(module: Any, ids: list[int]) -> "BaseTuner":
    """Makes the rows of ``ids`` in the input and output embeddings trainable by themselves."""
    from peft import TrainableTokensConfig, TrainableTokensModel  # takes seconds

    output = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
    has_bias = getattr(output, "bias", None) is not None  # which peft would lose
    if has_bias or getattr(getattr(module, "config", None), "is_encoder_decoder", False):
        raise ConfigError(
            f"adapter.tokens: the embeddings of {type(module).__name__} are part of more than "
            "single rows can be trained in. Leave adapter out and train the whole model."
        )
    layers = (module.get_input_embeddings(), output)
    targets = [
        name for name, layer in module.named_modules() if any(layer is one for one in layers)
    ]
    config = TrainableTokensConfig(token_indices=ids, target_modules=targets)
    tuner = TrainableTokensModel(module, {"tokens": config}, "tokens")
    del module.peft_config  # where the tuner of the layers would look for its own
    return tuner


def _backbone_prefix(module: Any) -> str:
    """Where the backbone's parameters begin: ``backbone.`` of ours, such as ``bert.`` of theirs."""
    return f"{getattr(module, 'base_model_prefix', 'backbone')}."
