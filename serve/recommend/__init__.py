"""Recommendations: candidates ranked for a user by texts, behaviour, popularity and age.

The door holds what a service is configured with, and loads no library of ranking.

Example:
    >>> from serve.recommend import RecommendArgs
    >>> RecommendArgs(embedding_model="items").diversity
    0.3
"""

from serve.recommend.args import RecommendArgs

__all__ = ["RecommendArgs"]
