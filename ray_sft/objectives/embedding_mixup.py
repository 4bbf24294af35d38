"""Embedding mixup: training on what lies between two rows.

Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", arXiv:1710.09412, eq. in section 1:
of two rows and a share lambda from Beta(alpha, alpha), the input lambda x_i + (1 - lambda) x_j has
the target lambda y_i + (1 - lambda) y_j. Guo et al. 2019, "Augmenting Data with Mixup for Sentence
Classification: An Empirical Study", arXiv:1905.08941, section 2.2 (wordMixup): of texts padded to
the same length, the word embeddings are mixed position by position.

The cross-entropy of a mixed target is lambda H(y_i) + (1 - lambda) H(y_j). Between two classes of
one distribution the normalisers cancel, H(y_j) - H(y_i) = z_{y_i} - z_{y_j}, so that
(1 - lambda) (z_{y_i} - z_{y_j}) is a term to add to the loss of y_i, whatever is part of that.

Deviations:

- The rows as they are stay in training, and the mixed ones are added with a weight.
- The data stage draws partners among all samples of the task, not among those of a batch, and each
  row has a share of its own: a step's mixtures do not depend on how it is cut.
- Padding of the shorter text is mixed in as nothing: both texts are attended to.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field

from ray_sft.objectives.base import Objective
from ray_sft.objectives.embedded_input import EmbeddedInput
from ray_sft.tasks import IGNORED, PARTNER, SHARE, Loss, LossFn, TensorBatch

__all__ = ["EmbeddingMixup"]


class EmbeddingMixup(Objective):
    """Trains beside each row on a mixture of it and another one; for one label out of a list.

    Costs one more pass, of rows as long as the longer of two.
    """

    kind: Literal["embedding_mixup"] = "embedding_mixup"
    alpha: float = Field(default=0.4, ge=0)
    """Shape of the shares' distribution: near 0 a mixture is nearly one of its rows, at 1 any
    share is as likely as any other. 0 changes nothing."""
    weight: float = Field(default=1.0, ge=0)
    """What the loss of the mixtures counts beside that of the rows; 0 changes nothing."""

    @property
    def mixes(self) -> bool:
        """Whether rows need a partner at all."""
        return self.alpha > 0 and self.weight > 0

    def wrap(self, loss_fn: LossFn, module: torch.nn.Module) -> LossFn:
        """See `Objective.wrap`; batches are those of `ray_sft.tasks.collate_with_partners`."""
        if not self.mixes:
            return loss_fn
        embeddings = EmbeddedInput(module, kind=self.kind).embeddings

        def mixed(batch: TensorBatch) -> Loss:
            clean = loss_fn(batch)
            with _mixing(embeddings, batch):
                between = loss_fn(_seen_by_both(batch))
            loss_sum = between.loss_sum + _towards_partners(between, batch)
            return replace(clean, loss_sum=clean.loss_sum + self.weight * loss_sum)

        return mixed


def _seen_by_both(batch: TensorBatch) -> TensorBatch:
    """``batch`` whose attention reaches as far as the longer of two texts."""
    mask_BT = torch.maximum(batch["attention_mask"], batch[f"{PARTNER}attention_mask"])
    return batch | {"attention_mask": mask_BT}


def _towards_partners(between: Loss, batch: TensorBatch) -> torch.Tensor:
    """The sum over targets of (1 - lambda) (H(y_j) - H(y_i)); partners need a label to count."""
    is_target_B = batch["labels"] != IGNORED
    others_N = batch[f"{PARTNER}labels"][is_target_B]
    rest_N = (1 - batch[SHARE][is_target_B]) * (others_N != IGNORED)
    others_N = others_N.clamp(min=0)
    own_N = between.logits.gather(1, between.targets[:, None]).squeeze(1)
    theirs_N = between.logits.gather(1, others_N[:, None]).squeeze(1)
    return (rest_N * (own_N - theirs_N)).sum()


@contextmanager
def _mixing(embeddings: list[torch.nn.Module], batch: TensorBatch) -> Iterator[None]:
    """A context in which partners' embedded inputs are mixed into those of their rows.

    Both are looked up by one call: each module is entered as often as in any other pass, which
    lets ranks that own parts of the parameters meet.
    """
    partners, shares = batch[f"{PARTNER}input_ids"], batch[SHARE]
    has_partner = batch[f"{PARTNER}labels"] != IGNORED

    def look_up_both(_module: torch.nn.Module, args: Any) -> Any:
        return (torch.cat([args[0], partners]), *args[1:])

    def mix(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        own, theirs = output.chunk(2)
        share = torch.where(has_partner, shares, 1.0).to(own.dtype)[:, None, None]
        return share * own + (1 - share) * theirs

    handles = [part.register_forward_pre_hook(look_up_both) for part in embeddings]
    handles += [part.register_forward_hook(mix) for part in embeddings]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
