"""The ranking model, asked about a history and candidates, from the event loop or a thread."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from serve.recommend.catalogue import Catalogue, item_text
from serve.recommend.history import History
from serve.recommend.ranking import Draft
from serve.recommend.training import PairScores

__all__ = ["PairReader", "ScorePairs"]

ScorePairs: TypeAlias = Callable[[Sequence[tuple[Sequence[str], str]]], Awaitable[list[float]]]
"""Pairs of a history's texts, oldest first, and a candidate's to probabilities of a like."""

_READ_HISTORY = 20
"""So many of the last liked items are shown to the model."""


class PairReader:
    """Turns items into what the model reads."""

    def __init__(self, score: ScorePairs) -> None:
        """Asks ``score``."""
        self._score = score

    async def read(self, draft: Draft) -> list[float]:
        """The probabilities for the draft's pool."""
        pool = draft.candidates[draft.pool]
        return await self._score(_pairs(draft.catalogue, draft.history, pool))

    def from_thread(self, catalogue: Catalogue) -> PairScores:
        """The same for a thread, which waits while the running event loop asks the model."""
        loop = asyncio.get_running_loop()

        def scores(history: History, candidates: NDArray[np.int64]) -> NDArray[np.float32]:
            async def ask() -> list[float]:
                return await self._score(_pairs(catalogue, history, candidates))

            return np.asarray(asyncio.run_coroutine_threadsafe(ask(), loop).result(), np.float32)

        return scores


def _pairs(
    catalogue: Catalogue, history: History, candidates: NDArray[np.int64]
) -> list[tuple[list[str], str]]:
    read = [item_text(catalogue.items[number]) for number in history.liked[-_READ_HISTORY:]]
    return [(read, item_text(catalogue.items[number])) for number in candidates]
