"""How the tokens of a text relate to each other in a layer, and how far two models differ in it.

Wang et al. 2021, "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing
Pretrained Transformers", arXiv:2012.15828, section 3.1: the queries, keys and values of all
attention heads, concatenated and cut again into A relation heads of width d, give the relations
R = softmax(X X^T / sqrt(d)) of queries, of keys and of values among themselves (eq. 5 and 6).
The loss is KL(R_teacher || R_student) (eq. 4), the mean over relation heads and the three kinds.
Neither widths nor numbers of heads must agree, only a common divisor for A.

The last layer of both is compared, as the paper does for base-size teachers.
"""

from collections.abc import Sequence
from math import gcd
from typing import TypeAlias

import torch
from torch import nn

from ray_sft.core import ConfigError
from ray_sft.models import KEYS, QUERIES, VALUES, layers_of
from ray_sft.tasks import TensorBatch

__all__ = ["Projections", "num_relation_heads", "projections_of", "relation_divergence"]

Projections: TypeAlias = tuple[nn.Linear, nn.Linear, nn.Linear]
"""What makes queries, keys and values."""

_NAMES = (QUERIES, KEYS, VALUES)
_HIDDEN = -1e9
"""Of a token of another text: its share of a relation is 0 to the last bit."""


def projections_of(module: nn.Module) -> Projections:
    """The layers that make queries, keys and values in a transformer's last layer.

    Raises:
        ConfigError: there are none of these names.
    """
    found = [
        next((part for name, part in _linear(layers_of(module)[-1]) if name in names), None)
        for names in _NAMES
    ]
    queries, keys, values = found
    if queries is None or keys is None or values is None:
        raise ConfigError(
            f"distillation does not find queries, keys and values in {type(module).__name__}: it "
            f"looks for {', '.join(name for names in _NAMES for name in names)}. Set "
            "relation_weight: 0."
        )
    return queries, keys, values


def _linear(layer: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [
        (name.rpartition(".")[2], part)
        for name, part in layer.named_modules()
        if isinstance(part, nn.Linear)
    ]


def num_relation_heads(projections: Sequence[nn.Linear], *, at_most: int) -> int:
    """The most heads, not above a number, that the width of every projection can be cut into."""
    common = gcd(*(projection.out_features for projection in projections))
    return next(heads for heads in range(min(at_most, common), 0, -1) if common % heads == 0)


def relation_divergence(
    teacher: Sequence[torch.Tensor],
    student: Sequence[torch.Tensor],
    batch: TensorBatch,
    weights_BT: torch.Tensor,
    *,
    num_heads: int,
) -> torch.Tensor:
    """KL(teacher || student) of the relations, in nats, summed over tokens by their weights.

    Args:
        teacher: queries, keys and values, each (rows, tokens, width); rows behind those of
            ``weights_BT`` are not compared.
        student: the same of the other model, of any width.
        batch: tells which tokens are of one text.
        weights_BT: (rows, tokens).
        num_heads: how many relation heads there are.
    """
    seen_B1TT = _of_one_text(batch, width=weights_BT.shape[1])[:, None]
    total_BT = torch.zeros_like(weights_BT)
    for given, made in zip(teacher, student, strict=True):
        rows = slice(len(weights_BT))
        wanted, found = (_relations(x[rows], num_heads, seen_B1TT) for x in (given, made))
        divergence_BHTT = nn.functional.kl_div(found, wanted, reduction="none", log_target=True)
        total_BT = total_BT + divergence_BHTT.sum(dim=-1).mean(dim=1)
    return (total_BT / len(teacher) * weights_BT).sum()


def _relations(vectors_BTD: torch.Tensor, num_heads: int, seen_B1TT: torch.Tensor) -> torch.Tensor:
    """Logarithms of the relations of each head, (rows, heads, tokens, tokens)."""
    parts_BTHK = vectors_BTD.float().reshape(*vectors_BTD.shape[:2], num_heads, -1)
    vectors_BHTK = parts_BTHK.transpose(1, 2)
    scores_BHTT = vectors_BHTK @ vectors_BHTK.transpose(2, 3) / vectors_BHTK.shape[-1] ** 0.5
    relations_BHTT: torch.Tensor = scores_BHTT.masked_fill(~seen_B1TT, _HIDDEN).log_softmax(dim=-1)
    return relations_BHTT


def _of_one_text(batch: TensorBatch, *, width: int) -> torch.Tensor:
    """Which tokens are of the same text and no padding, (rows, tokens, tokens)."""
    if "position_ids" in batch:  # packed: each text begins at 0
        text_BT = (batch["position_ids"] == 0).cumsum(dim=1)
    else:
        text_BT = batch["attention_mask"].long()
    text_BT = nn.functional.pad(text_BT, (0, width - text_BT.shape[1]))
    return (text_BT[:, :, None] == text_BT[:, None, :]) & (text_BT > 0)[:, None, :]
