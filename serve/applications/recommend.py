"""Recommendation on a service's models."""

from collections.abc import Sequence

from fastapi import APIRouter

from ray_sft.tasks.ranking import RankingResponse
from serve.applications.asking import embed_with, named, response_of, submit_all
from serve.endpoints.recommend import recommend_router
from serve.models import Encoder, Models
from serve.recommend import RecommendArgs
from serve.recommend.pairs import ScorePairs
from serve.recommend.recommender import Recommender
from serve.recommend.store import Store

__all__ = ["make_recommender"]


def make_recommender(args: RecommendArgs, models: Models) -> tuple[Recommender, APIRouter]:
    """The recommender and its routes.

    Raises:
        ServeError: ``args`` name a model that the service does not have.
    """
    encoder = named(models.embedder, args.embedding_model, "recommend.embedding_model")
    score = None
    if args.ranking_model:
        ranker = named(
            lambda name: models.ranker(name, "recommend"),
            args.ranking_model,
            "recommend.ranking_model",
        )
        score = _score(ranker)
    recommender = Recommender(
        args,
        store=Store.open(args.database),
        embed=embed_with(encoder),
        fingerprint=encoder.bundle.fingerprint,
        score=score,
    )
    return recommender, recommend_router(recommender)


def _score(encoder: Encoder) -> ScorePairs:
    async def score(pairs: Sequence[tuple[Sequence[str], str]]) -> list[float]:
        rows = [{"history": list(history), "candidate": text} for history, text in pairs]
        answers = await submit_all(encoder, rows)
        return [response_of(answer, RankingResponse).score for answer in answers]

    return score
