"""Attention over packed rows that does only the work of their sequences.

A packed row holds several sequences, told apart by ``position_ids`` that start again at zero. The
usual way masks them out of one another: a row of T tokens costs T * T, however short its
sequences. Here each sequence runs through PyTorch's causal attention by itself, which costs the
sum of their squares and needs no mask. Isolation is exact, since nothing else is looked at.
"""

from collections.abc import MutableMapping
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ray_sft.core import ConfigError, reason_of
from ray_sft.models.shared_sequence import own_heads, own_tokens, shared_sequence

__all__ = ["use_segmented_attention"]

_NAME = "segmented"
_LENGTHS: MutableMapping[torch.Tensor, list[list[int]]] = WeakTensorKeyDictionary()
"""The lengths of a batch's sequences, as long as its positions are there."""


def use_segmented_attention(model: Any) -> bool:
    """Lets a decoder read packed rows sequence by sequence; other input is read as before.

    Returns:
        Whether a row then costs what its sequences cost, however many: not with a mask, which
        sliding windows need.

    Raises:
        ConfigError: the architecture brings an attention of its own.
    """
    # torch.compile cannot look into it: how a row is cut depends on its values
    attend = torch.compiler.disable(_attend)  # type: ignore[no-untyped-call] # torch's
    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, _mask)
    try:
        model.set_attn_implementation(_NAME)
    except (ValueError, ImportError) as error:
        raise ConfigError(
            f"model type '{model.config.model_type}' cannot keep packed sequences apart: "
            f"{reason_of(error)}. Set train.packing: false."
        ) from None
    return getattr(model.config, "sliding_window", None) is None


def _mask(
    *args: Any,
    attention_mask: torch.Tensor | None = None,
    local_size: int | None = None,
    **options: Any,
) -> torch.Tensor | None:
    """No mask where rows are packed; the usual one for padded rows and for sliding windows."""
    if attention_mask is None and local_size is None:
        return None
    mask: torch.Tensor | None = sdpa_mask(
        *args, attention_mask=attention_mask, local_size=local_size, **options
    )
    return mask


def _attend(
    module: torch.nn.Module,
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_ids: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each sequence, shape (batch, tokens, heads, dim)."""
    if attention_mask is None and (shared := shared_sequence()):
        query, key, value = own_heads(shared, query_BHTD, key_BKTD, value_BKTD)
        found_BTHD = _apart(
            query, key, value, shared.position_ids, dropout=dropout, scaling=scaling
        )
        return own_tokens(shared, found_BTHD), None
    if attention_mask is not None:
        attended: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module,
            query_BHTD,
            key_BKTD,
            value_BKTD,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            **options,
        )
        return attended
    if position_ids is None or query_BHTD.shape[2] != key_BKTD.shape[2]:
        raise ConfigError(
            f"{type(module).__name__} does not tell where packed sequences begin. "
            "Set train.packing: false."
        )
    return _apart(
        query_BHTD, key_BKTD, value_BKTD, position_ids, dropout=dropout, scaling=scaling
    ), None


def _apart(
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    position_ids_BT: torch.Tensor,
    *,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """Every sequence by itself, (batch, tokens, heads, dim)."""
    lengths_B = _segment_lengths(position_ids_BT, num_rows=len(query_BHTD))
    if len(widths := {length for lengths in lengths_B for length in lengths}) == 1:
        (width,) = widths  # as a batch of sequences, at once
        several = (
            torch.unflatten(tensor, 2, (-1, width)).transpose(1, 2).flatten(0, 1)
            for tensor in (query_BHTD, key_BKTD, value_BKTD)
        )
        found = _causal(*several, dropout=dropout, scaling=scaling).transpose(1, 2)
        return found.reshape(len(query_BHTD), -1, *found.shape[2:])
    # split and unbind, not slices: the backward pass of a slice fills a whole tensor with zeros
    rows = [
        torch.cat(
            [
                _causal(*sequence, dropout=dropout, scaling=scaling)
                for sequence in zip(
                    *(torch.split(tensor, lengths, dim=2) for tensor in row), strict=True
                )
            ],
            dim=2,
        )
        for *row, lengths in zip(
            *(torch.split(tensor, 1) for tensor in (query_BHTD, key_BKTD, value_BKTD)),
            lengths_B,
            strict=True,
        )
    ]
    return torch.cat(rows).transpose(1, 2).contiguous()


def _causal(
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    *,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """Attention of whole sequences to themselves and what stands before."""
    return scaled_dot_product_attention(
        query_BHTD,
        key_BKTD,
        value_BKTD,
        dropout_p=dropout,
        scale=scaling,
        is_causal=True,
        enable_gqa=query_BHTD.shape[1] != key_BKTD.shape[1],
    )


def _segment_lengths(position_ids_BT: torch.Tensor, *, num_rows: int) -> list[list[int]]:
    """How long each sequence of each row is; one row of positions may stand for all.

    Found once for all layers that are given the same tensor: on a GPU, reading a value waits for
    everything before it.
    """
    found = _LENGTHS.get(position_ids_BT)
    if found is None:
        found = []
        for positions_T in position_ids_BT.cpu():
            starts = torch.nonzero(positions_T == 0).flatten().tolist()
            ends = [*starts[1:], len(positions_T)]
            found.append([end - start for start, end in zip(starts, ends, strict=True)])
        _LENGTHS[position_ids_BT] = found
    return found if len(found) == num_rows else found * num_rows
