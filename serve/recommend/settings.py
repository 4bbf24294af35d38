"""The arguments as the pure parts take them."""

from serve.recommend.args import RecommendArgs
from serve.recommend.events import Tastes
from serve.recommend.features import Weighting
from serve.recommend.training import Features

__all__ = ["features_of", "tastes_of"]


def tastes_of(args: RecommendArgs) -> Tastes:
    """Which ratings are likes and dislikes."""
    return Tastes(liked_rating=args.liked_rating, disliked_rating=args.disliked_rating)


def features_of(args: RecommendArgs) -> Features:
    """How features are computed."""
    return Features(
        weighting=Weighting(half_life=args.history_half_life, num_recent=args.num_recent),
        half_life_days=args.popularity_half_life_days,
        max_history=args.max_history,
    )
