"""Choosing the next token from logits, on plain numpy."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ray_sft.core import ServeError
from ray_sft.inference.generation.request import TokenScore
from ray_sft.tasks import Array

__all__ = ["Penalties", "check_finite", "sample_token", "score_token"]


class Penalties:
    """Makes tokens less probable that were there before.

    The repetition penalty is that of CTRL (Keskar et al. 2019, arXiv:1909.05858, sec. 4.1) as
    transformers applies it: logits of tokens of prompt and reply are divided by it where they are
    positive and multiplied where not. Presence and frequency penalties are OpenAI's: a constant,
    and a multiple of the count, are taken off the logits of the reply's tokens.
    """

    def __init__(
        self, prompt_ids: Sequence[int], *, repetition: float, presence: float, frequency: float
    ) -> None:
        """Knows the prompt, and nothing of the reply yet."""
        self._repetition, self._presence, self._frequency = repetition, presence, frequency
        self._prompt_ids = frozenset(prompt_ids) if repetition != 1.0 else frozenset()
        self._counts: Counter[int] = Counter()

    @property
    def are_neutral(self) -> bool:
        """Whether logits stay as they are."""
        return self._repetition == 1.0 and self._presence == 0.0 and self._frequency == 0.0

    def add(self, token: int) -> None:
        """Counts a token of the reply."""
        self._counts[token] += 1

    def apply(self, logits: Array) -> Array:
        """The logits (vocabulary,) with the penalties, in an array of their own."""
        changed = np.array(logits)
        if self._repetition != 1.0:
            seen = np.fromiter(self._prompt_ids | self._counts.keys(), dtype=np.int64)
            values = changed[seen]
            changed[seen] = np.where(
                values > 0, values / self._repetition, values * self._repetition
            )
        if self._counts:
            tokens = np.fromiter(self._counts.keys(), dtype=np.int64)
            counts = np.fromiter(self._counts.values(), dtype=np.float32)
            changed[tokens] -= self._presence + self._frequency * counts
        return changed


def check_finite(logits: Array) -> None:
    """Returns where ``logits`` (vocabulary,) have a finite maximum.

    Raises:
        ServeError: they have not.
    """
    if not np.isfinite(logits.max()):
        raise ServeError("the model's logits are not finite; its weights are damaged.")


def sample_token(
    logits: Array, rng: np.random.Generator, *, temperature: float, top_k: int, top_p: float
) -> int:
    """The next token's id from ``logits`` (vocabulary,), of which -inf excludes a token.

    ``temperature`` 0 takes the most probable token (the first of equals) and draws nothing from
    ``rng``. Otherwise the ``top_k`` most probable tokens stay (0: all), of these the fewest whose
    probabilities sum to at least ``top_p`` (nucleus sampling, Holtzman et al. 2019,
    arXiv:1904.09751, sec. 3.1), and one is drawn.
    """
    if temperature == 0.0:
        return int(logits.argmax())
    tokens = _most_probable(logits, top_k) if top_k else np.arange(len(logits))
    scaled = logits[tokens].astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    weights /= weights.sum()
    if top_p < 1.0:
        kept = _nucleus(weights, top_p)
        tokens, weights = tokens[kept], weights[kept]
    cumulative = np.cumsum(weights)
    draw = rng.random() * cumulative[-1]
    last = int(np.flatnonzero(weights)[-1])  # rounding may put the draw on the very end
    return int(tokens[min(int(np.searchsorted(cumulative, draw, side="right")), last)])


def score_token(logits: Array, token: int, *, num_top: int) -> TokenScore:
    """The log-probability of ``token`` under ``logits`` (vocabulary,), and the best tokens'."""
    shifted = logits.astype(np.float64) - float(logits.max())
    total = float(np.log(np.exp(shifted).sum()))
    best = _most_probable(logits, num_top) if num_top else ()
    top = tuple((int(one), float(shifted[one]) - total) for one in best)
    return TokenScore(token, float(shifted[token]) - total, top)


def _most_probable(logits: Array, num: int) -> Array:
    """The ``num`` best tokens, the best first and the first of equals before the next."""
    num = min(num, len(logits))
    least = np.partition(logits, len(logits) - num)[len(logits) - num]
    candidates = np.flatnonzero(logits >= least)  # in the order of their ids
    order = np.argsort(-logits[candidates], kind="stable")
    return candidates[order[:num]]


def _nucleus(weights: Array, top_p: float) -> Array:
    """Places of the fewest of ``weights`` (sum 1) that reach ``top_p``, the largest first.

    What is below (1 - top_p) / n sums to less than 1 - top_p, so the rest reaches top_p: only
    that is sorted, a handful out of a vocabulary.
    """
    likely = np.flatnonzero(weights >= (1.0 - top_p) / len(weights))
    order = likely[np.argsort(-weights[likely], kind="stable")]
    cumulative = np.cumsum(weights[order])
    return order[: int(np.searchsorted(cumulative, top_p - 1e-12)) + 1]
