"""What a generation engine is asked, and what it answers."""

from dataclasses import dataclass
from typing import Literal

from ray_sft.core import DataError

__all__ = ["Constraint", "GenerationChunk", "GenerationRequest", "TokenScore"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """A language that a reply must be a sentence of."""

    kind: Literal["json_schema", "regex", "choice", "lark"]
    text: str
    """The schema as JSON, the expression, the choices as a JSON list, or the grammar."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt and how to continue it.

    Penalties come first, then the constraint, then temperature, top_k and top_p.
    """

    prompt_ids: tuple[int, ...]
    max_tokens: int
    """At least 1; the model's context may end the reply before."""
    temperature: float = 0.0
    """0: always the most probable token."""
    top_k: int = 0
    """Draw from this many tokens; 0: from all."""
    top_p: float = 1.0
    """Draw from the fewest tokens whose probability reaches this, above 0 and at most 1."""
    repetition_penalty: float = 1.0
    """Makes tokens of prompt and reply less probable; 1: leaves them (see `sampling.Penalties`)."""
    presence_penalty: float = 0.0
    """Taken off the logit of every token of the reply."""
    frequency_penalty: float = 0.0
    """The same, times how often the token stands there."""
    seed: int = 0
    """Equal requests of equal seed have equal answers, whatever else the engine does."""
    stop: tuple[str, ...] = ()
    """The reply ends before the first of these."""
    constraint: Constraint | None = None
    """What the reply must look like; a limit may still cut it."""
    top_scores: int | None = None
    """How many of the most probable tokens are told beside each drawn one; None: no scores."""
    scope: str = ""
    """Keys and values of a prompt are used again only for requests of the same scope: how long a
    first token takes would tell others what was asked before."""

    def check(self, *, max_length: int, vocab_size: int) -> None:
        """Returns where an engine of these sizes can take it.

        Raises:
            DataError: it cannot, and why.
        """
        self._check_prompt(max_length, vocab_size)
        if self.max_tokens < 1:
            raise DataError(f"max_tokens is {self.max_tokens}; it must be at least 1.")
        if not self.temperature >= 0.0 or not 0.0 < self.top_p <= 1.0 or self.top_k < 0:
            raise DataError(
                f"temperature ({self.temperature}) and top_k ({self.top_k}) must not be "
                f"negative, top_p ({self.top_p}) must be above 0 and at most 1."
            )
        if not self.repetition_penalty > 0.0:
            raise DataError(
                f"repetition_penalty is {self.repetition_penalty}; it must be above 0, and 1 "
                "leaves the model as it is."
            )
        if "" in self.stop:
            raise DataError("a stop string is empty. Leave it out.")
        if self.top_scores is not None and not 0 <= self.top_scores < vocab_size:
            raise DataError(f"top_scores is {self.top_scores}; it must be 0 to {vocab_size - 1}.")

    def _check_prompt(self, max_length: int, vocab_size: int) -> None:
        num_tokens, limit = len(self.prompt_ids), max_length - 1
        if not 1 <= num_tokens <= limit:
            raise DataError(
                f"the prompt has {num_tokens} tokens; this model takes 1 to {limit}, since prompt "
                f"and reply share {max_length}. Shorten the conversation."
            )
        if not 0 <= min(self.prompt_ids) <= max(self.prompt_ids) < vocab_size:
            raise DataError(f"a prompt token is outside 0 to {vocab_size - 1}.")


@dataclass(frozen=True, slots=True)
class TokenScore:
    """How probable a drawn token was, and which ones were the most probable."""

    token: int
    log_probability: float
    """Natural logarithm, of the model's own distribution: before penalties and temperature."""
    top: tuple[tuple[int, float], ...]
    """Token and log-probability of the most probable ones, the best first."""


@dataclass(frozen=True, slots=True)
class GenerationChunk:
    """Newly finished characters of a reply."""

    text: str
    num_tokens: int
    """Tokens generated so far, the end-of-sequence token included: the last chunk has the total."""
    finish_reason: Literal["stop", "length"] | None
    """Set on the last chunk: an end (of sequence, or a stop string), or a limit."""
    scores: tuple[TokenScore, ...] = ()
    """Of the tokens drawn since the last chunk, the end-of-sequence token left out."""
