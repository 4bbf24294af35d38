"""Encoders whose layers see no padding.

A padded batch costs an encoder as much as its longest text times its rows. Here padding is left
out before the first layer and put back behind the last one, so that every task, head and objective
sees the batch that it always sees. Between, all tokens of a batch are one row; only attention,
which costs a text of some dozen tokens a few percent, spreads them out again to keep texts apart.
Zeng et al. 2022, "Boosting Distributed Training Performance of the Unpadded BERT Model",
arXiv:2208.08124, describe the same for one model.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

__all__ = ["leave_out_padding"]

_NAME = "unpadded"
_MODEL_TYPES = frozenset({"bert", "camembert", "electra", "roberta", "xlm-roberta"})
"""Positions are part of these models' embedded input, and their layers are ``encoder``."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the tokens of a row without padding stand in the padded batch."""

    places: torch.Tensor
    """(all tokens,): their places in the flattened batch."""
    mask: torch.Tensor
    """(batch, tokens): whether a position holds a token."""

    def packed(self, padded: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, ...) as (1, all tokens, ...)."""
        return padded.flatten(0, 1).index_select(0, self.places)[None]

    def padded(self, packed: torch.Tensor) -> torch.Tensor:
        """(1, all tokens, ...) as (batch, tokens, ...), zero where there is padding."""
        rows, width = self.mask.shape
        flat = packed.new_zeros(rows * width, *packed.shape[2:])
        return flat.index_copy(0, self.places, packed[0]).view(rows, width, *packed.shape[2:])


def leave_out_padding(model: torch.nn.Module) -> bool:
    """Lets the layers of an encoder work on tokens alone; whether ``model`` is one that can.

    Outputs are those of the padded batch at every token, and zero before the head elsewhere.
    Other models are left as they are.
    """
    backbone: Any = getattr(model, "backbone", None) or getattr(model, "base_model", model)
    if getattr(getattr(backbone, "config", None), "model_type", None) not in _MODEL_TYPES:
        return False
    if not hasattr(backbone, "encoder") or backbone.config.is_decoder:
        return False
    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, _mask)
    backbone.set_attn_implementation(_NAME)
    backbone.encoder.register_forward_pre_hook(_pack, with_kwargs=True)
    backbone.encoder.register_forward_hook(_pad, with_kwargs=True)
    return True


def _mask(
    *_: Any, attention_mask: torch.Tensor | None = None, **_options: Any
) -> torch.Tensor | None:
    """The (batch, tokens) mask as it is."""
    return attention_mask


def _pack(_encoder: torch.nn.Module, args: Any, options: dict[str, Any]) -> Any:
    """Takes padding out of what the encoder is given, where there is any."""
    mask_BT = options.get("attention_mask")
    if mask_BT is None or bool(mask_BT.all()):
        return args, options | {"attention_mask": None}
    mask_BT = mask_BT.bool()
    layout = _Layout(mask_BT.flatten().nonzero().flatten(), mask_BT)
    hidden_BTD, *others = args
    options = options | {"attention_mask": None, "layout": layout}
    return (layout.packed(hidden_BTD), *others), options


def _pad(_encoder: torch.nn.Module, _args: Any, options: dict[str, Any], output: Any) -> Any:
    """Puts padding back into what the encoder returns."""
    layout: _Layout | None = options.get("layout")
    if layout is None:
        return output
    return replace(output, last_hidden_state=layout.padded(output.last_hidden_state))


def _attend(
    module: torch.nn.Module,
    query_1HND: torch.Tensor,
    key_1HND: torch.Tensor,
    value_1HND: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    layout: _Layout | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of each text to itself alone, (1, all tokens, heads, dim)."""
    if layout is None:
        attended: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module,
            query_1HND,
            key_1HND,
            value_1HND,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            **options,
        )
        return attended
    stacked = torch.stack((query_1HND, key_1HND, value_1HND)).permute(1, 3, 0, 2, 4)
    query, key, value = layout.padded(stacked).permute(2, 0, 3, 1, 4)
    found_BHTD = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=layout.mask[:, None, None, :],
        dropout_p=dropout,
        scale=scaling,
    )
    return layout.packed(found_BHTD.transpose(1, 2)), None
