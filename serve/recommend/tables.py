"""The tables of the recommender, for SQLite and PostgreSQL alike."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

__all__ = ["EVENTS", "ITEMS", "METADATA", "RANKERS", "RANKINGS", "VERSIONS"]

METADATA = MetaData()

_COUNTER = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up there

ITEMS = Table(
    "recommend_items",
    METADATA,
    Column("id", String(128), primary_key=True),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("published", Double),
    Column("embedding", LargeBinary),
    Column("model", String(128), nullable=False),
    Column("version", BigInteger, nullable=False, index=True),
)
"""``embedding`` is float32, little-endian, made by ``model``; ``version`` is that of the last
change (see `VERSIONS`)."""

EVENTS = Table(
    "recommend_events",
    METADATA,
    Column("sequence", _COUNTER, primary_key=True, autoincrement=True),
    Column("id", String(128), nullable=False, unique=True),
    Column("user", String(128), nullable=False, index=True),
    Column("item", String(128), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("time", Double, nullable=False, index=True),
    Column("value", Double),
    Column("ranking_id", String(128), index=True),
    Column("position", Integer),
    sqlite_autoincrement=True,  # a number is never given twice, even after a deletion
)

RANKINGS = Table(
    "recommend_rankings",
    METADATA,
    Column("id", String(128), primary_key=True),
    Column("user", String(128), index=True),
    Column("time", Double, nullable=False, index=True),
    Column("ranker", String(16), nullable=False),
    Column("shown", JSON, nullable=False),
)
"""``shown`` is a list of [item, score], first place first."""

RANKERS = Table(
    "recommend_rankers",
    METADATA,
    Column("sequence", _COUNTER, primary_key=True, autoincrement=True),
    Column("time", Double, nullable=False),
    Column("text", Text),
    Column("sha256", String(64)),
    Column("figures", JSON, nullable=False),
)
"""``text`` is LightGBM's; empty where training ended with keeping the fixed weights."""

VERSIONS = Table(
    "recommend_versions",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("version", BigInteger, nullable=False),
)
"""Counters of changes. Every writer raises one first, so writers of one kind follow each other
and what has a higher number was committed later."""

Index("recommend_events_of_user", EVENTS.c.user, EVENTS.c.time)
