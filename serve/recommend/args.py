"""What the recommender is started with. Defaults suit a shop of up to about 100,000 items."""

from pydantic import Field

from ray_sft.core import Config

__all__ = ["RecommendArgs"]


class RecommendArgs(Config):
    """Everything that shapes recommendations but the models themselves."""

    embedding_model: str = Field(min_length=1)
    """Name of the model whose vectors place items near each other."""
    ranking_model: str = ""
    """Name of the model that reads a history and a candidate; empty: none."""
    database: str = "sqlite:///recommend.db"
    """SQLAlchemy URL of the items, events and rankings; PostgreSQL works too."""
    popularity_half_life_days: float = Field(default=14.0, gt=0)
    """After this many days an event counts half for "popular now"."""
    history_half_life: float = Field(default=10.0, gt=0)
    """The liked item so many places back in a history counts half."""
    num_recent: int = Field(default=5, ge=1)
    """How many of the last liked items the "recent" features look at."""
    max_history: int = Field(default=200, ge=1, le=2000)
    """Liked items of a user that features look at, the latest first."""
    liked_rating: float = 4.0
    """A rating of at least this is a like."""
    disliked_rating: float = 2.5
    """A rating of at most this is a dislike; between the two it is neither."""
    new_days: float = Field(default=14.0, gt=0)
    """An item published no longer ago is called new."""
    diversity: float = Field(default=0.3, ge=0.0, le=1.0)
    """Share of diversity against relevance where a request does not say; 0: relevance alone."""
    pool: int = Field(default=200, ge=1, le=2000)
    """The best candidates among which diversity chooses."""
    score_pool: int = Field(default=50, ge=1, le=500)
    """The best candidates that the ranking model reads, where there is one."""
    max_items: int = Field(default=200_000, ge=1)
    """Items the catalogue may hold; their vectors are kept in memory."""
    max_events: int = Field(default=2_000_000, ge=1)
    """The latest events kept in memory for features; the database keeps all."""
    max_per_request: int = Field(default=1000, ge=1)
    """Items, events or candidates of one request."""
    max_waiting: int = Field(default=64, ge=1)
    """Requests that may wait for the recommender's thread before 429."""
    ranking_days: float = Field(default=90.0, gt=0)
    """Rankings are forgotten after so many days; events that refer to them stay."""
    min_queries: int = Field(default=50, ge=1)
    """Training queries below which no ranker is trained: features are summed with fixed weights."""
    max_queries: int = Field(default=3000, ge=1)
    """The latest training queries that are used."""
    max_evaluated: int = Field(default=500, ge=1)
    """Users, drawn at random, on which a trained ranker is measured."""
    max_scored_pairs: int = Field(default=2000, ge=0)
    """Pairs of history and candidate that the ranking model reads for training."""
    holdout: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Share of the likes, the latest, on which a trained ranker is measured."""
    min_history: int = Field(default=5, ge=1)
    """Likes a user must have had before a moment that is trained or measured."""
    num_threads: int = Field(default=1, ge=1)
    """Threads that training uses."""
    seed: int = 0
    """Of the drawing of negatives and of LightGBM."""
