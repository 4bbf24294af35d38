"""What a model still knows after several trainings, one after another."""

from collections.abc import Sequence

import numpy as np

__all__ = ["retention"]


def retention(figures: Sequence[Sequence[float]], *, higher_is_better: bool) -> dict[str, float]:
    """Average, forgetting and backward transfer of one task's figure.

    With R[i][j] the figure on the rows of training j after training i, and T trainings:

    - ``average``: the mean of R[T-1][j] over j (Lopez-Paz and Ranzato 2017, arXiv:1706.08840,
      eq. 2).
    - ``backward_transfer``: the mean of R[T-1][j] - R[j][j] over the trainings before the last
      (eq. 3); negative where learning has hurt.
    - ``forgetting``: the mean of max_i R[i][j] - R[T-1][j] over the same, i before the last
      (Chaudhry et al. 2018, arXiv:1801.10112, eqs. 3 and 4).

    Where lower is better, differences change their sign. Without an earlier training the last two
    are 0.

    Args:
        figures: of each training, the oldest first: its figure just after it, and after every
            training since, so that ``figures[j][i - j]`` is R[i][j].
        higher_is_better: of the figure.
    """
    sign = 1.0 if higher_is_better else -1.0
    last = np.array([row[-1] for row in figures])
    earlier = figures[:-1]
    if not earlier:
        return {"average": float(last.mean()), "forgetting": 0.0, "backward_transfer": 0.0}
    best = np.array([max(sign * figure for figure in row[:-1]) for row in earlier])
    first = np.array([sign * row[0] for row in earlier])
    return {
        "average": float(last.mean()),
        "forgetting": float((best - sign * last[:-1]).mean()),
        "backward_transfer": float((sign * last[:-1] - first).mean()),
    }
