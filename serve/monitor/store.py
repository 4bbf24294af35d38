"""The monitor's memory: everything it knows is in the database, nothing in this object.

Every method is one transaction and blocks until it is done; threads may share a store.
"""

from collections.abc import Sequence

from sqlalchemy import func, select, update

from serve.monitor.args import MonitorArgs
from serve.monitor.database import Database
from serve.monitor.ingest import Reading, add_items, known_ids
from serve.monitor.messages import read_alert
from serve.monitor.outbox import Delivery, next_due, settle, take_due
from serve.monitor.preparation import prepare
from serve.monitor.queries import ItemQuery, list_alerts, list_items, list_topics
from serve.monitor.schema import Alert, ItemPage, TopicList, WindowList
from serve.monitor.tables import alerts
from serve.monitor.windows import list_windows

__all__ = ["Store"]


class Store:
    """Items, alerts and messages. Every method may raise StoreUnavailableError."""

    def __init__(self, args: MonitorArgs) -> None:
        """Connects to nothing yet.

        Raises:
            ServeError: the database's URL is not one that is supported.
        """
        self.args = args
        self._database = Database(args.database)

    def prepare(self) -> None:
        """Makes the tables, and alerts anew where settings have changed; call it first.

        Raises:
            ServeError: the tables are those of another version.
        """
        with self._database.writing() as connection:
            prepare(connection, args=self.args)

    def known_ids(self, ids: Sequence[str]) -> set[str]:
        """Those of ``ids`` that are stored."""
        with self._database.reading() as connection:
            return known_ids(connection, ids)

    def add(self, readings: Sequence[Reading], *, now_ms: int) -> int:
        """Stores what is new of ``readings`` and brings alerts up to date; how many were new."""
        with self._database.writing() as connection:
            return add_items(connection, readings, args=self.args, now_ms=now_ms)

    def topics(self, *, since_ms: int | None, limit: int) -> TopicList:
        """See `list_topics`."""
        with self._database.reading() as connection:
            return list_topics(connection, since_ms=since_ms, limit=limit, args=self.args)

    def windows(
        self, topic: str, *, bucket_s: int, since_ms: int | None, until_ms: int | None
    ) -> WindowList:
        """See `list_windows`."""
        with self._database.reading() as connection:
            return list_windows(
                connection,
                topic,
                bucket_s=bucket_s,
                since_ms=since_ms,
                until_ms=until_ms,
                args=self.args,
            )

    def items(self, wanted: ItemQuery) -> ItemPage:
        """See `list_items`."""
        with self._database.reading() as connection:
            return list_items(connection, wanted, args=self.args)

    def alerts(self, *, topic: str | None, since_ms: int | None, limit: int) -> list[Alert]:
        """See `list_alerts`."""
        with self._database.reading() as connection:
            return list_alerts(connection, topic=topic, since_ms=since_ms, limit=limit)

    def acknowledge(self, alert: str, *, now_ms: int) -> Alert | None:
        """The alert, from now on acknowledged; None where there is none of that id."""
        with self._database.writing() as connection:
            connection.execute(
                update(alerts)
                .where(alerts.c.id == alert)
                .values(acknowledged=func.coalesce(alerts.c.acknowledged, now_ms))
            )
            query = select(alerts).where(alerts.c.id == alert, alerts.c.status != "withdrawn")
            row = connection.execute(query).mappings().first()
            return None if row is None else read_alert(row)

    def take_due(self, *, now_ms: int, lease_ms: int) -> Delivery | None:
        """See `take_due` of `serve.monitor.outbox`."""
        with self._database.writing() as connection:
            return take_due(connection, now_ms=now_ms, lease_ms=lease_ms)

    def settle(self, delivery: Delivery, *, error: str, retry_at_ms: int | None) -> None:
        """See `settle` of `serve.monitor.outbox`."""
        with self._database.writing() as connection:
            settle(connection, delivery, error=error, retry_at_ms=retry_at_ms)

    def next_due(self) -> int | None:
        """When the next message is due, in milliseconds."""
        with self._database.reading() as connection:
            return next_due(connection)

    def close(self) -> None:
        """Closes every connection."""
        self._database.close()
