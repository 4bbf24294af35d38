"""What became of the rows of a split, in figures."""

from typing import Self

import numpy as np
from pydantic import Field

from ray_sft.core import Config
from ray_sft.tasks import Array

__all__ = ["Histogram", "SplitSummary"]

_NUM_BINS = 30


class Histogram(Config):
    """Counts of lengths between edges."""

    edges: tuple[int, ...]
    """One more than there are counts; each count is of lengths from its edge to below the next."""
    counts: tuple[int, ...]
    """How many."""
    quartiles: tuple[int, int, int]
    """A quarter, a half and three quarters of the lengths are at most this."""

    @classmethod
    def of(cls, lengths: Array) -> Self:
        """Of some lengths."""
        if not len(lengths):
            return cls(edges=(0, 1), counts=(0,), quartiles=(0, 0, 0))
        edges = np.unique(np.linspace(0, int(lengths.max()) + 1, _NUM_BINS + 1).round())
        counts, _ = np.histogram(lengths, edges)
        low, middle, high = np.percentile(lengths, [25, 50, 75], method="inverted_cdf").tolist()
        return cls(
            edges=tuple(int(edge) for edge in edges),
            counts=tuple(counts.tolist()),
            quartiles=(int(low), int(middle), int(high)),
        )


class SplitSummary(Config):
    """What became of the rows of one split."""

    num_rows: int
    """Rows that the recipe asks for, good and bad."""
    num_left_out: int = 0
    """Rows of the source that `where` and `portion` leave out."""
    num_accepted: int
    """Rows that are trained or evaluated."""
    num_rejected: int
    """Rows in ``rejected.jsonl``."""
    num_truncated: int
    """Accepted rows that lost their end."""
    num_duplicates: int
    """Accepted rows whose content another row before them has too; kept, but reported."""
    num_augmented: int = 0
    """Changed copies of accepted rows that are trained beside them."""
    num_unchanged: int = 0
    """Copies left out, since the model would see the row, or another copy of it, once more."""
    num_rejected_copies: int = 0
    """Changed copies that the task cannot use; in ``rejected.jsonl`` too, under their lineage."""
    num_tokens: int
    """Length of the accepted rows and copies together."""
    longest: int
    """Length of the longest accepted row or copy."""
    lengths: Histogram
    """How many accepted rows have which length."""
    labels: dict[str, int] = Field(default_factory=dict)
    """How many accepted rows (or words, of tagged ones) have which label, most frequent first."""
    num_conflicts: int = 0
    """Accepted rows that say the same as an earlier one and have another label."""
    languages: dict[str, int] = Field(default_factory=dict)
    """How many accepted rows seem to be in which language, most frequent first: of the first
    200 of each part, and of every 32nd after them."""
    reasons: dict[str, int]
    """Why rows were rejected."""
