"""Calls to a ranking model."""

from collections.abc import Sequence

from apps.client.call import Call, picked, post
from apps.client.endpoint import endpoint
from apps.replies.texts import RankedDocument, Reranked, Scores

__all__ = ["RankingCalls"]


class RankingCalls:
    """``/v1/score`` and ``/v1/rerank``."""

    @endpoint
    def score(
        self, candidates: Sequence[str], *, history: Sequence[str] = (), model: str | None = None
    ) -> Call[list[float]]:
        """The probability that somebody with a history takes each candidate, in their order.

        Raises:
            ServiceError: the service is away or refuses.
        """
        read = picked(Scores, Scores.in_order)
        return post(
            "/v1/score", read, candidates=list(candidates), history=list(history), model=model
        )

    @endpoint
    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        model: str | None = None,
    ) -> Call[list[RankedDocument]]:
        """The documents by how well they fit the query, the best first; None: all of them.

        Raises:
            ServiceError: the service is away or refuses.
        """
        read = picked(Reranked, lambda reply: reply.results)
        return post(
            "/v1/rerank", read, query=query, documents=list(documents), top_n=top_n, model=model
        )
