"""Causal cloze classification: a decoder says how a sentence about the text goes on.

As `ray_sft.tasks.cloze_classification`, with the gap at the end of the pattern: a decoder has seen
all that stands before it, and one pass gives the logits of every word there. Of a word of several
tokens all are looked for at that one place, so that words which begin alike are told apart without
a pass for each. For labels of one token that is the answer of an untrained model, too.

The reply of a chat model to a question about a text is not this: see `causal_language_model`.
"""

from typing import ClassVar, Literal

import torch
from pydantic import field_validator

from ray_sft.tasks.base import Head, Processor, TensorBatch
from ray_sft.tasks.chosen_logits import can_choose_logits
from ray_sft.tasks.cloze import GAP, Cloze

__all__ = ["CausalClozeClassification"]


class CausalClozeClassification(Cloze):
    """One label out of a fixed list, as the word that a decoder writes behind a pattern."""

    head: ClassVar[Head] = "causal_lm"

    kind: Literal["causal_cloze_classification"] = "causal_cloze_classification"
    pattern: str = "{text} It is about {mask}"
    """The sentence with ``{text}``, and at its end the gap ``{mask}``."""

    @field_validator("pattern")
    @classmethod
    def _ends_with_gap(cls, pattern: str) -> str:
        if not pattern.endswith(GAP):
            raise ValueError(f"a decoder looks back alone, so {GAP} has to be at its end")
        return pattern

    def gap_ids(self, processor: Processor, num_tokens: int) -> list[int]:
        """See `Cloze.gap_ids`: nothing, since it is written next."""
        del processor, num_tokens
        return []

    def end_ids(self, processor: Processor) -> list[int]:
        """See `Cloze.end_ids`."""
        del processor
        return []

    def at_gap(
        self, logits_BTV: torch.Tensor, gap_B: torch.Tensor, num_tokens: int
    ) -> torch.Tensor:
        """See `Cloze.at_gap`: those of the last token before it, for every token of a word."""
        rows_B = torch.arange(len(gap_B), device=gap_B.device)
        return logits_BTV[rows_B, gap_B - 1][:, None].expand(-1, num_tokens, -1)

    def logits_at_gap(self, model: torch.nn.Module, batch: TensorBatch) -> torch.Tensor:
        """See `Cloze.logits_at_gap`; the logits of other tokens are not even computed."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        gap_B, num_tokens = batch["gap"], batch["label_ids"].shape[2]
        if not can_choose_logits(model):
            return self.at_gap(model(**inputs, use_cache=False).logits, gap_B, num_tokens)
        places_K, place_B = torch.unique(gap_B - 1, return_inverse=True)
        logits_BKV = model(**inputs, use_cache=False, logits_to_keep=places_K).logits
        return self.at_gap(logits_BKV, place_B + 1, num_tokens)
