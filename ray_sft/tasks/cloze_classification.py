"""Cloze classification: a masked language model fills in the label, where rows are few.

It should start from a model that has its language-model head: one from the hub, or what a stage of
`masked_language_model` under ``before`` has left (`embedded/minilm` itself has none).

Words of several tokens: the gap has as many masks as the longest word has tokens, and the tokens of
a label are looked for at the first masks, all in one pass, as Schick and Schuetze do in
arXiv:2009.07118, section 3.1, in training.
"""

from typing import ClassVar, Literal

import torch

from ray_sft.core import DataError
from ray_sft.tasks.base import Head, Processor
from ray_sft.tasks.cloze import Cloze
from ray_sft.tasks.token_ids import edge_ids

__all__ = ["ClozeClassification"]


class ClozeClassification(Cloze):
    """One label out of a fixed list, as the words at the masks of a pattern around the text."""

    head: ClassVar[Head] = "masked_lm"

    kind: Literal["cloze_classification"] = "cloze_classification"
    pattern: str = "{text} It is about {mask}."
    """The sentence with ``{text}`` and the gap ``{mask}``, each once."""

    def gap_ids(self, processor: Processor, num_tokens: int) -> list[int]:
        """See `Cloze.gap_ids`: masks."""
        if processor.mask_token_id is None:
            raise DataError(
                f"{type(processor).__name__} has no mask token: cloze_classification needs a "
                "masked language model, such as a BERT. For a decoder take "
                "causal_cloze_classification."
            )
        return [processor.mask_token_id] * num_tokens

    def end_ids(self, processor: Processor) -> list[int]:
        """See `Cloze.end_ids`."""
        return edge_ids(processor)[1]

    def at_gap(
        self, logits_BTV: torch.Tensor, gap_B: torch.Tensor, num_tokens: int
    ) -> torch.Tensor:
        """See `Cloze.at_gap`: those of one mask after another."""
        places_BM = gap_B[:, None] + torch.arange(num_tokens, device=gap_B.device)
        rows_B1 = torch.arange(len(gap_B), device=gap_B.device)[:, None]
        return logits_BTV[rows_B1, places_BM]
