"""The tables, alike on SQLite and PostgreSQL. Times are whole milliseconds since 1970.

Only items are facts. States and alerts follow from them and from the settings, and are brought
up to date in the transaction that adds the items.
"""

from sqlalchemy import JSON, BigInteger, Column, Double, Index, Integer, MetaData, Table, Text

__all__ = ["alerts", "deliveries", "item_topics", "items", "metadata", "settings", "states"]

metadata = MetaData()

items = Table(
    "monitor_items",
    metadata,
    Column("id", Text, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("topic", Text, nullable=False),  # as the model sees it
    Column("topic_score", Double, nullable=False),
    Column("label", Text, nullable=False),  # the most probable sentiment
    Column("score", Double, nullable=False),  # its probability
    Column("sentiment", JSON, nullable=False),
    Column("received", BigInteger, nullable=False),
    Index("monitor_items_by_time", "time", "id"),
)

# time and label stand here too, so that windows are counted from the index alone
item_topics = Table(
    "monitor_item_topics",
    metadata,
    Column("item", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("label", Text, nullable=False),
    Index("monitor_item_topics_by_time", "topic", "time", "item", "label"),
)

states = Table(
    "monitor_states",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("bucket", BigInteger, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
)

alerts = Table(
    "monitor_alerts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("topic", Text, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger),  # null while it is up
    Column("status", Text, nullable=False),
    Column("revision", Integer, nullable=False),  # counts changes of status
    Column("severity", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("negative", BigInteger, nullable=False),
    Column("expected_share", Double, nullable=False),
    Column("share", Double, nullable=False),
    Column("score", Double, nullable=False),
    Column("volume_score", Double, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("acknowledged", BigInteger),  # null until someone has
    Index("monitor_alerts_by_topic", "topic", "start"),
    Index("monitor_alerts_by_status", "status"),
)

deliveries = Table(
    "monitor_deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("event", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Index("monitor_deliveries_by_status", "status", "next_attempt"),
)

settings = Table(
    "monitor_settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
