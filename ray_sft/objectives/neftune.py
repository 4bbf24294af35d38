"""NEFTune: uniform noise on the embedded input.

Jain et al. 2024, "NEFTune: Noisy Embeddings Improve Instruction Finetuning", arXiv:2310.05914.
Algorithm 1: with sequence length L and embedding dimension d, each coordinate of the embedded
sequence gets noise from U(-1, 1) times alpha / sqrt(L d).

L counts a sequence's own tokens. The authors' code takes the width of the padded batch, by which a
row's noise would depend on its neighbours.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from ray_sft.objectives.base import Objective
from ray_sft.objectives.embedded_input import EmbeddedInput, sequence_numbers
from ray_sft.objectives.input_gradient import hooked
from ray_sft.tasks import IGNORED, Loss, LossFn, TensorBatch

__all__ = ["Neftune"]


class Neftune(Objective):
    """Blurs what the model reads, so that it learns texts less by heart."""

    has_clean_pass: ClassVar[bool] = False

    kind: Literal["neftune"] = "neftune"
    alpha: float = Field(default=5.0, ge=0)
    """Strength of the noise; the paper tries 5, 10 and 15. 0 changes nothing."""

    def wrap(self, loss_fn: LossFn, module: torch.nn.Module) -> LossFn:
        """See `Objective.wrap`."""
        if self.alpha == 0:
            return loss_fn
        embeddings = EmbeddedInput(module, kind=self.kind).embeddings
        waiting: list[torch.Tensor] = []

        def note(_module: torch.nn.Module, _args: Any, inputs: dict[str, torch.Tensor]) -> None:
            waiting[:] = _token_masks(inputs)

        def blur(_module: torch.nn.Module, _args: Any, output: torch.Tensor) -> torch.Tensor:
            lengths_BT = _lengths(waiting.pop(0))
            scale_BT = self.alpha / (lengths_BT * output.shape[-1]).sqrt()
            return output + (uniform(output) * scale_BT[..., None]).to(output.dtype)

        def noisy(batch: TensorBatch) -> Loss:
            with hooked(embeddings, blur):
                handle = module.register_forward_pre_hook(note, with_kwargs=True)
                try:
                    return loss_fn(batch)
                finally:
                    handle.remove()

        return noisy


def _token_masks(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """For each embedded input of a model, in the order of calls, its sequences by number.

    (batch, tokens): 0 where there is padding, and 1, 2, ... for the sequences of a row.
    """
    found = []
    if "attention_mask" in inputs:
        found.append(inputs["attention_mask"])
    else:
        ids = inputs["input_ids"]
        found.append(sequence_numbers(inputs.get("position_ids"), ids) + 1)
    if "labels" in inputs:  # of an encoder-decoder: what it writes
        found.append((inputs["labels"] != IGNORED).long())
    return found


def _lengths(sequences_BT: torch.Tensor) -> torch.Tensor:
    """How many tokens the sequence of each token has, (batch, tokens), float; 1 or more."""
    counts_BT = torch.zeros(
        len(sequences_BT), sequences_BT.shape[1] + 1, device=sequences_BT.device
    ).scatter_add(1, sequences_BT, torch.ones_like(sequences_BT, dtype=torch.float32))
    return counts_BT.gather(1, sequences_BT)


def uniform(like: torch.Tensor) -> torch.Tensor:
    """Draws from U(-1, 1), of the shape, type and device of ``like``."""
    return torch.empty_like(like).uniform_(-1, 1)
