"""Choosing the next token from logits, on plain numpy."""

import numpy as np

from ray_sft.core import ServeError
from ray_sft.tasks import Array

__all__ = ["sample_token"]


def sample_token(
    logits: Array, rng: np.random.Generator, *, temperature: float, top_k: int, top_p: float
) -> int:
    """The next token's id from ``logits`` (vocabulary,).

    ``temperature`` 0 takes the most probable token (the first of equals) and draws nothing from
    ``rng``. Otherwise the ``top_k`` most probable tokens stay (0: all), of these the fewest whose
    probabilities sum to at least ``top_p`` (nucleus sampling, Holtzman et al. 2019,
    arXiv:1904.09751, sec. 3.1), and one is drawn.

    Raises:
        ServeError: the logits hold no finite maximum.
    """
    if not np.isfinite(logits.max()):
        raise ServeError("the model's logits are not finite; its weights are damaged.")
    if temperature == 0.0:
        return int(logits.argmax())
    order = np.argsort(-logits, kind="stable")
    if top_k:
        order = order[:top_k]
    scaled = logits[order].astype(np.float64) / temperature
    probabilities = np.exp(scaled - scaled[0])
    cumulative = np.cumsum(probabilities / probabilities.sum())
    kept = int(np.searchsorted(cumulative, top_p - 1e-12)) + 1 if top_p < 1.0 else len(order)
    draw = rng.random() * cumulative[kept - 1]
    return int(order[min(int(np.searchsorted(cumulative, draw, side="right")), kept - 1)])
