"""Prompt-tuning: the model stays as it is, and learns a prompt that stands before every text.

Lester et al. 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning", arXiv:2104.08691,
section 2: the embedded input X of n tokens becomes [P; X] of p + n, and P alone is trained. Here P
are rows of the model's own embeddings, of tokens that the tokenizer puts behind what begins an
input (`ray_sft.tasks.prompt_tokens`), so that the result is a plain model with a plain tokenizer.
They begin as the rows of words of the vocabulary (their section 3.2, "sampled vocabulary").

Every text is longer by the prompt, when it is served too. Other than low-rank adapters it leaves
the model's knowledge in place; small models learn less by it than by those.
"""

from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from ray_sft.models.adapters.base import ROWS, Adapter
from ray_sft.tasks import prompt_tokens

__all__ = ["PromptTuning"]


class PromptTuning(Adapter):
    """A prompt whose embeddings are trained, and nothing else; wants a high learning rate."""

    marker: ClassVar[str] = ROWS

    kind: Literal["prompt_tuning"] = "prompt_tuning"
    num_tokens: int = Field(default=20, ge=1, le=512)
    """Length of the prompt in tokens."""

    def trained_tokens(self) -> tuple[str, ...]:
        """See `Adapter.trained_tokens`; its prompt, too."""
        return (*prompt_tokens(self.num_tokens), *self.tokens)

    def _tune(self, module: nn.Module, prefix: str) -> None:
        """See `Adapter`; the layers have none."""
        del module, prefix
