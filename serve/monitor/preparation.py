"""Making the tables, and judging everything anew where the settings have changed."""

import json
import logging

from sqlalchemy import Connection, delete, insert, select, update

from ray_sft.core import ServeError
from serve.monitor.alerts import update_alerts
from serve.monitor.args import MonitorArgs
from serve.monitor.ingest import newest_time
from serve.monitor.tables import item_topics, metadata, settings, states

__all__ = ["prepare"]

logger = logging.getLogger(__name__)

_SCHEMA = "1"


def prepare(connection: Connection, *, args: MonitorArgs) -> None:
    """Makes the tables where they are missing; nothing is sent for alerts found anew.

    Raises:
        ServeError: the tables are those of another version.
    """
    metadata.create_all(connection)
    schema = _exchange(connection, "schema", _SCHEMA)
    if schema not in (None, _SCHEMA):
        raise ServeError(
            f"the monitor's tables have version {schema}; this one reads {_SCHEMA}. Use another "
            "database, or the version that made it."
        )
    rules = _rules(args)
    if _exchange(connection, "rules", rules) in (None, rules):
        return
    newest = newest_time(connection)
    if newest is None:
        return
    topics = list(connection.scalars(select(item_topics.c.topic).distinct()))
    logger.info("the monitor's settings have changed: judging %d topics anew", len(topics))
    connection.execute(delete(states))
    for topic in topics:
        update_alerts(
            connection,
            topic,
            changed_bucket=None,
            newest_bucket=newest // (args.bucket_s * 1000),
            args=args,
            notify_at_ms=None,
        )


def _rules(args: MonitorArgs) -> str:
    """Everything that alerts follow from, beside the items."""
    tree = {
        "bucket_s": args.bucket_s,
        "negative": sorted(args.negative),
        "alerts": args.alerts.model_dump(),
    }
    return json.dumps(tree, sort_keys=True)


def _exchange(connection: Connection, name: str, value: str) -> str | None:
    """Sets a setting; what it was."""
    query = select(settings.c.value).where(settings.c.name == name)
    old = connection.scalar(query)
    if old is None:
        connection.execute(insert(settings).values(name=name, value=value))
    elif old != value:
        connection.execute(update(settings).where(settings.c.name == name).values(value=value))
    return old
