"""Messages to the webhook, kept in the database until they are delivered or given up.

A message is written in the transaction that changes the alert, so neither comes without the
other. Whoever delivers takes a message for a limited time; should he die, it is due again.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select, update

from serve.monitor.tables import deliveries

__all__ = ["Delivery", "enqueue", "next_due", "settle", "take_due"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that was taken for delivery."""

    id: str
    body: str
    num_attempts: int
    """Failures so far."""


def enqueue(connection: Connection, *, id: str, event: str, body: str, now_ms: int) -> None:
    """Adds a message that is due at once."""
    connection.execute(
        insert(deliveries).values(
            id=id,
            event=event,
            body=body,
            status="pending",
            attempts=0,
            next_attempt=now_ms,
            error="",
            created=now_ms,
        )
    )


def take_due(connection: Connection, *, now_ms: int, lease_ms: int) -> Delivery | None:
    """The message that has been due longest, which nobody else gets for ``lease_ms``."""
    table = deliveries.c
    row = connection.execute(
        select(table.id, table.body, table.attempts)
        .where(table.status == "pending", table.next_attempt <= now_ms)
        .order_by(table.next_attempt, table.created, table.id)
        .limit(1)
    ).first()
    if row is None:
        return None
    connection.execute(
        update(deliveries).where(table.id == row.id).values(next_attempt=now_ms + lease_ms)
    )
    return Delivery(row.id, row.body, row.attempts)


def settle(
    connection: Connection, delivery: Delivery, *, error: str, retry_at_ms: int | None
) -> None:
    """Notes the outcome; a failure without a time to try again is the last."""
    status = "pending" if error else "delivered"
    if error and retry_at_ms is None:
        status = "dead"
    changes: dict[str, object] = {
        "status": status,
        "attempts": delivery.num_attempts + 1,
        "error": error,
    }
    if retry_at_ms is not None:
        changes["next_attempt"] = retry_at_ms
    connection.execute(update(deliveries).where(deliveries.c.id == delivery.id).values(changes))


def next_due(connection: Connection) -> int | None:
    """When the next message is due, in milliseconds; None where none waits."""
    table = deliveries.c
    query = select(func.min(table.next_attempt)).where(table.status == "pending")
    due: int | None = connection.scalar(query)
    return due
