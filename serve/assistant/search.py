"""The queries of the knowledge: by meaning, by words, and both fused by their ranks."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from lancedb import AsyncTable
from numpy.typing import NDArray

from serve.assistant.language import Language, search_text
from serve.assistant.rows import scope_of

__all__ = ["Hit", "Scope", "dense_search", "full_text_search", "fuse", "hybrid_search"]

_RRF_K = 60
"""Cormack, Clarke and Buettcher 2009, section 3: the constant of reciprocal rank fusion."""
_NUM_CANDIDATES = 50
"""Of each of the two searches that are fused."""
_REFINED = 5
"""Times as many candidates of an approximate index are compared exactly."""

_COLUMNS = ["key", "document_id", "kind", "language", "title", "text", "start", "end", "answer"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A row that was found."""

    key: str
    document_id: str
    kind: str
    language: str
    title: str
    text: str
    """The passage, or the phrasing of the question."""
    start: int
    """Where a passage starts in its document; a phrasing stands for the whole document."""
    end: int
    answer: str
    """Equal for documents of equal text."""
    similarity: float | None
    """Cosine of its vector and the question's; None where the question has no vector."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows are searched."""

    role: Literal["question", "passage"]
    language: Language

    @property
    def predicate(self) -> str:
        """The filter in SQL; nothing in it comes from a client."""
        return f"scope = '{scope_of(self.role, self.language)}'"


async def dense_search(
    table: AsyncTable, vector: NDArray[np.float32], scope: Scope, *, limit: int
) -> list[Hit]:
    """The nearest rows, nearest first; ``vector`` is normalised and of shape (dim,).

    Exact, but for the passages of a large index, see `serve.assistant.index`.
    """
    columns = [*_COLUMNS, "vector", "_distance"]
    query = table.query().nearest_to(vector).distance_type("cosine")
    if scope.role == "question":
        query = query.bypass_vector_index()  # few, and one that is missed is a wrong margin
    else:
        query = query.refine_factor(_REFINED)
    found = await query.where(scope.predicate).select(columns).limit(limit).to_arrow()
    return _hits(found, vector)


async def full_text_search(
    table: AsyncTable,
    question: str,
    scope: Scope,
    *,
    limit: int,
    vector: NDArray[np.float32] | None = None,
) -> list[Hit]:
    """The rows with the best BM25 score, best first; ``vector`` gives them their similarity."""
    columns = [*_COLUMNS, "_score"] if vector is None else [*_COLUMNS, "_score", "vector"]
    query = table.query().nearest_to_text(search_text(question), columns="search")
    found = await query.where(scope.predicate).select(columns).limit(limit).to_arrow()
    return _hits(found, vector)


async def hybrid_search(
    table: AsyncTable,
    question: str,
    vector: NDArray[np.float32] | None,
    scope: Scope,
    *,
    limit: int,
) -> list[Hit]:
    """Both, fused; words alone where the question has no vector."""
    num_candidates = max(limit, _NUM_CANDIDATES)
    by_words = full_text_search(table, question, scope, limit=num_candidates, vector=vector)
    if vector is None:
        return (await by_words)[:limit]
    by_meaning = dense_search(table, vector, scope, limit=num_candidates)
    return fuse(await asyncio.gather(by_meaning, by_words))[:limit]


def fuse(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """One ranking by the sum of ``1 / (60 + rank)``; among equals the earlier ranking decides."""
    hits: dict[str, Hit] = {}
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            hits.setdefault(hit.key, hit)
            scores[hit.key] = scores.get(hit.key, 0.0) + 1 / (_RRF_K + rank)
    return sorted(hits.values(), key=lambda hit: -scores[hit.key])


def _hits(found: pa.Table, vector: NDArray[np.float32] | None) -> list[Hit]:
    similarities: list[float | None] = [None] * found.num_rows
    if vector is not None and found.num_rows:
        numbers = found.column("vector").combine_chunks().flatten().to_numpy()
        similarities = (numbers.reshape(-1, len(vector)) @ vector).astype(float).tolist()
    rows = found.select(_COLUMNS).to_pylist()
    return [
        Hit(**row, similarity=similarity)
        for row, similarity in zip(rows, similarities, strict=True)
    ]
