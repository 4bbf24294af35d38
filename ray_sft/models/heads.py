"""Several heads on one backbone, and an encoder whose output is an embedding.

One forward pass gives the outputs of every head, in training and in the exported graph alike:
under ZeRO every rank must run the same modules in the same order, whichever task its rows are of.
A single task with a head that transformers knows is no case for this file: it stays a stock model.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ray_sft.core import ConfigError
from ray_sft.tasks import Head, Task

__all__ = ["HEADS_FILE", "HeadView", "HeadedEncoder", "uses_heads"]

HEADS_FILE = "heads.safetensors"
"""Weights of the heads, beside the backbone's as transformers saves them."""

_COSINE_SCALE = 5.0
"""Of a new `MatchingHead`: a cosine of 0.5 is a chance of one half, one of 0.9 that of 0.88."""

_OF_OURS: tuple[Head, ...] = ("embedding", "matching")
"""Heads that no model of transformers has."""


def uses_heads(tasks: Mapping[str, Task]) -> bool:
    """Whether these tasks need a `HeadedEncoder` rather than one of transformers' own models."""
    return len(tasks) > 1 or any(task.head in _OF_OURS for task in tasks.values())


def mean_pool(hidden_BTD: torch.Tensor, attention_mask_BT: torch.Tensor) -> torch.Tensor:
    """The mean over the tokens of each row, padding left out, (batch, dim)."""
    mask_BT1 = attention_mask_BT[:, :, None].to(hidden_BTD.dtype)
    sum_BD, count_B1 = (hidden_BTD * mask_BT1).sum(dim=1), mask_BT1.sum(dim=1)
    pooled_BD: torch.Tensor = sum_BD / count_B1.clamp(min=1.0)
    return pooled_BD


def _unit(vectors_BD: torch.Tensor) -> torch.Tensor:
    length_B1: torch.Tensor = vectors_BD.norm(dim=-1, keepdim=True)
    return vectors_BD / length_B1.clamp(min=1e-12)


class SequenceHead(nn.Module):
    """Logits of the classes from the mean of the tokens."""

    def __init__(self, dim: int, *, num_labels: int, dropout: float) -> None:
        """A new linear layer of ``num_labels`` outputs."""
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(dim, num_labels)

    def forward(
        self, hidden_BTD: torch.Tensor, attention_mask_BT: torch.Tensor, ids_BT: torch.Tensor
    ) -> torch.Tensor:
        """(batch, labels)."""
        del ids_BT
        logits: torch.Tensor = self.linear(self.dropout(mean_pool(hidden_BTD, attention_mask_BT)))
        return logits


class TokenHead(nn.Module):
    """Logits of the classes at every token."""

    def __init__(self, dim: int, *, num_labels: int, dropout: float) -> None:
        """A new linear layer of ``num_labels`` outputs."""
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(dim, num_labels)

    def forward(
        self, hidden_BTD: torch.Tensor, attention_mask_BT: torch.Tensor, ids_BT: torch.Tensor
    ) -> torch.Tensor:
        """(batch, tokens, labels)."""
        del attention_mask_BT, ids_BT
        logits: torch.Tensor = self.linear(self.dropout(hidden_BTD))
        return logits


class EmbeddingHead(nn.Module):
    """The mean of the tokens, scaled to length 1; it has no weights."""

    def forward(
        self, hidden_BTD: torch.Tensor, attention_mask_BT: torch.Tensor, ids_BT: torch.Tensor
    ) -> torch.Tensor:
        """(batch, dim)."""
        del ids_BT
        return _unit(mean_pool(hidden_BTD, attention_mask_BT))


class MatchingHead(nn.Module):
    """One logit: how well a row's last text fits those before it.

    Both sides are pooled and compared, as in Reimers and Gurevych 2019, arXiv:1908.10084,
    section 3, here of one pass in which they see each other. A new head is the cosine of the two
    sides, so that a pretrained encoder ranks by similarity before it has learned anything.
    """

    def __init__(self, dim: int, *, dropout: float) -> None:
        """A new head; what it learns beyond the cosine begins at zero."""
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(3 * dim, 1)
        self.scale = nn.Parameter(torch.tensor([_COSINE_SCALE]))
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, -_COSINE_SCALE / 2)

    def forward(
        self, hidden_BTD: torch.Tensor, attention_mask_BT: torch.Tensor, ids_BT: torch.Tensor
    ) -> torch.Tensor:
        """(batch, 1)."""
        hidden_BTD = hidden_BTD.float()
        former_BT, last_BT = split_last_text(ids_BT, attention_mask_BT)
        former_BD = _unit(mean_pool(hidden_BTD, former_BT))
        last_BD = _unit(mean_pool(hidden_BTD, last_BT))
        common_BD = former_BD * last_BD
        features = torch.cat([former_BD, last_BD, common_BD], dim=-1) * hidden_BTD.shape[-1] ** 0.5
        cosine_B1 = common_BD.sum(dim=-1, keepdim=True)
        logits: torch.Tensor = self.scale * cosine_B1 + self.linear(self.dropout(features))
        return logits


def split_last_text(
    ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (batch, tokens) of the texts before the last one, and of the last one.

    Every text ends with the row's last token, the separator, which belongs to it.
    """
    end_B1 = ids_BT.gather(1, attention_mask_BT.sum(dim=1, keepdim=True).clamp(min=1) - 1)
    is_end_BT = (ids_BT == end_B1).to(attention_mask_BT.dtype) * attention_mask_BT
    num_ends_left_BT = is_end_BT.flip(1).cumsum(dim=1).flip(1)
    is_last_BT = (num_ends_left_BT == 1).to(attention_mask_BT.dtype) * attention_mask_BT
    return attention_mask_BT - is_last_BT, is_last_BT


class HeadedEncoder(nn.Module):
    """An encoder with one head per task, by the task's name."""

    def __init__(self, backbone: PreTrainedModel, tasks: Mapping[str, Task]) -> None:
        """New heads for ``tasks`` on ``backbone``.

        Raises:
            ConfigError: a task's head cannot share a backbone.
        """
        super().__init__()
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler = None  # the heads pool by themselves; unused weights stay out
        self.backbone = backbone
        config = backbone.config
        dropout = _dropout(config)
        self.heads = nn.ModuleDict(
            {
                name: _new_head(name, task, config.hidden_size, dropout)
                for name, task in tasks.items()
            }
        )

    @property
    def config(self) -> Any:
        """The backbone's configuration."""
        return self.backbone.config

    def get_input_embeddings(self) -> nn.Module:
        """The backbone's word embeddings."""
        module: nn.Module = self.backbone.get_input_embeddings()
        return module

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The output of every head by the name of its task; inputs are (batch, tokens)."""
        hidden_BTD = self.backbone(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        return {
            name: head(hidden_BTD, attention_mask, input_ids) for name, head in self.heads.items()
        }

    def save_pretrained(
        self, folder: Path | str, state_dict: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        """Writes the backbone as transformers does, and the heads beside it.

        ``state_dict`` stands in for the module's own weights, where those are partitioned.
        """
        state = dict(state_dict) if state_dict is not None else self.state_dict()
        self.backbone.save_pretrained(folder, state_dict=_below("backbone.", state))
        heads = {name: t.contiguous() for name, t in _below("heads.", state).items()}
        if heads:
            save_file(heads, Path(folder) / HEADS_FILE)

    def load_heads(self, folder: Path) -> None:
        """Takes the saved heads that have the name and shape of one here; others stay new."""
        path = folder / HEADS_FILE
        if not path.is_file():
            return
        saved, own = load_file(path), self.heads.state_dict()
        fitting = {k: v for k, v in saved.items() if k in own and own[k].shape == v.shape}
        self.heads.load_state_dict(own | fitting)


class HeadView(nn.Module):
    """One head of a `HeadedEncoder` as the model of its task: what it returns has ``logits``."""

    def __init__(self, module: nn.Module, name: str) -> None:
        """A view of ``module``, which may be wrapped by a training engine."""
        super().__init__()
        self.module = module
        self.name = name

    def forward(self, **inputs: torch.Tensor) -> ModelOutput:
        """The head's output; the others are attached to it with weight zero.

        So a backward pass reaches every parameter in the same order whatever the task.
        """
        outputs = self.module(**inputs)
        others = [tensor.sum() for name, tensor in outputs.items() if name != self.name]
        return ModelOutput(logits=outputs[self.name] + 0.0 * sum(others))


def _dropout(config: Any) -> float:
    """Of a classifier's head, where the model says so, else that of its layers."""
    of_head = getattr(config, "classifier_dropout", None)
    return float(getattr(config, "hidden_dropout_prob", 0.0) if of_head is None else of_head)


def _new_head(name: str, task: Task, dim: int, dropout: float) -> nn.Module:
    num_labels = int(task.model_options().get("num_labels", 0))
    kinds: dict[Head, Any] = {
        "sequence_classification": SequenceHead,
        "token_classification": TokenHead,
    }
    if task.head in kinds:
        head: nn.Module = kinds[task.head](dim, num_labels=num_labels, dropout=dropout)
        return head
    if task.head == "embedding":
        return EmbeddingHead()
    if task.head == "matching":
        return MatchingHead(dim, dropout=dropout)
    raise ConfigError(
        f"task '{name}' ({task.kind}) cannot share a model with other tasks: its head is tied to "
        "the model's own embeddings. Give it a stage of its own under 'before'."
    )


def _below(prefix: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
