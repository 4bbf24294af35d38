"""What the webhook is told of an alert: the alert itself, with its evidence written out."""

import json
from collections.abc import Sequence

from sqlalchemy import Connection, select
from sqlalchemy.engine import RowMapping

from serve.monitor.outbox import enqueue
from serve.monitor.schema import Alert
from serve.monitor.tables import items
from serve.monitor.times import format_time

__all__ = ["announce", "message", "read_alert"]

_EVENTS = {"active": "alert.raised", "ended": "alert.ended", "withdrawn": "alert.withdrawn"}
_SHOWN_CHARACTERS = 500


def announce(connection: Connection, row: RowMapping, *, is_new: bool, now_ms: int) -> None:
    """Puts the status of an alert, a row of ``alerts``, into the outbox."""
    # one that is over when it is first seen is raised all the same, and shows its end
    event = "alert.raised" if is_new else _EVENTS[row["status"]]
    alert: dict[str, object] = read_alert(row).model_dump(mode="json")
    alert["evidence"] = _shown(connection, row["evidence"])
    enqueue(
        connection,
        id=f"{row['id']}.{row['revision']}",
        event=event,
        body=message(event, alert, now_ms=now_ms),
        now_ms=now_ms,
    )


def message(event: str, data: dict[str, object], *, now_ms: int) -> str:
    """The body of a message, in the form that Standard Webhooks recommends."""
    tree = {"type": event, "timestamp": format_time(now_ms), "data": data}
    return json.dumps(tree, ensure_ascii=False)


def read_alert(row: RowMapping) -> Alert:
    """The alert of a row of ``alerts``."""
    return Alert(
        id=row["id"],
        topic=row["topic"],
        start=format_time(row["start"]),
        end=None if row["end"] is None else format_time(row["end"]),
        severity=row["severity"],
        count=row["count"],
        negative=row["negative"],
        expected_share=row["expected_share"],
        share=row["share"],
        score=row["score"],
        volume_score=row["volume_score"],
        evidence=row["evidence"],
        acknowledged=row["acknowledged"] is not None,
    )


def _shown(connection: Connection, ids: Sequence[str]) -> list[dict[str, object]]:
    """Items as a message shows them, in the order of ``ids``."""
    query = select(items).where(items.c.id.in_(ids))
    found = {row["id"]: row for row in connection.execute(query).mappings()}
    return [
        {
            "id": row["id"],
            "time": format_time(row["time"]),
            "source": row["source"],
            "text": row["text"][:_SHOWN_CHARACTERS],
            "label": row["label"],
            "score": row["score"],
        }
        for row in (found[identity] for identity in ids)
    ]
