"""Recommendations: candidates ranked for a user by texts, behaviour, popularity and age.

Example:
    >>> from serve.recommend import RecommendArgs
    >>> RecommendArgs(embedding_model="items").diversity
    0.3
"""

from serve.recommend.args import RecommendArgs
from serve.recommend.pairs import ScorePairs
from serve.recommend.recommender import Recommender
from serve.recommend.stock import Embed
from serve.recommend.store import Store

__all__ = ["Embed", "RecommendArgs", "Recommender", "ScorePairs", "Store"]
