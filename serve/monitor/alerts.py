"""Alerts brought up to date with the items: what a topic's counts say, and no more.

Folding goes on from the last state before the first bucket that changed, so a late item judges
its bucket and all later ones anew. An alert that no longer follows from the counts is withdrawn.
"""

import hashlib
from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.engine import RowMapping

from serve.monitor.args import MonitorArgs
from serve.monitor.counts import count_buckets
from serve.monitor.messages import announce
from serve.monitor.schema import Severity
from serve.monitor.surge import State, Surge, find_surges
from serve.monitor.tables import alerts, item_topics, items, states

__all__ = ["alert_id", "update_alerts"]

_STATE = TypeAdapter(State)
_MEDIUM_SCORE = 6.0
_HIGH_SCORE = 10.0


def update_alerts(
    connection: Connection,
    topic: str,
    *,
    changed_bucket: int | None,
    newest_bucket: int,
    args: MonitorArgs,
    notify_at_ms: int | None,
) -> None:
    """Judges a topic's buckets from ``changed_bucket`` on, None: those not yet complete.

    Changes of an alert's status are put into the outbox where ``notify_at_ms`` is a time.
    """
    bucket_ms = args.bucket_s * 1000
    state = _resume(connection, topic, changed_bucket)
    since = state.next if state else 0
    windows = count_buckets(
        connection, topic, args=args, bucket_ms=bucket_ms, since_ms=since * bucket_ms
    )
    verdict = find_surges(windows, args.alerts, newest=newest_bucket, state=state)
    _keep_states(connection, topic, verdict.states)
    first = state.surge.start if state and state.surge else since
    old = _old_alerts(connection, topic, since_ms=first * bucket_ms)
    new = {
        surge.start * bucket_ms: _figures(connection, topic, surge, args=args)
        for surge in verdict.surges
    }
    withdrawn = {start: {"status": "withdrawn"} for start in old if start not in new}
    for start, figures in (withdrawn | new).items():
        _write(connection, topic, start, old.get(start), figures, args, notify_at_ms)


def alert_id(topic: str, start_ms: int) -> str:
    """The same for the same topic and start, whenever and wherever it is found."""
    return hashlib.sha256(f"{start_ms}:{topic}".encode()).hexdigest()[:24]


def _resume(connection: Connection, topic: str, changed_bucket: int | None) -> State | None:
    """The last state that still holds; those after it are deleted."""
    query = select(states.c.state).where(states.c.topic == topic)
    if changed_bucket is not None:
        connection.execute(
            delete(states).where(states.c.topic == topic, states.c.bucket >= changed_bucket)
        )
    text = connection.scalar(query.order_by(states.c.bucket.desc()).limit(1))
    return None if text is None else _STATE.validate_json(text)


def _keep_states(connection: Connection, topic: str, kept: Sequence[State]) -> None:
    rows = [
        {"topic": topic, "bucket": state.next - 1, "state": _STATE.dump_json(state).decode()}
        for state in kept
    ]
    if rows:
        connection.execute(insert(states), rows)


def _old_alerts(connection: Connection, topic: str, *, since_ms: int) -> dict[int, RowMapping]:
    query = select(alerts).where(alerts.c.topic == topic, alerts.c.start >= since_ms)
    return {row["start"]: row for row in connection.execute(query).mappings()}


def _figures(
    connection: Connection, topic: str, surge: Surge, *, args: MonitorArgs
) -> dict[str, object]:
    """The columns of an alert that follow from its surge."""
    bucket_ms = args.bucket_s * 1000
    end_ms = (surge.last + 1) * bucket_ms
    return {
        "status": "ended" if surge.has_ended else "active",
        "end": end_ms if surge.has_ended else None,
        "severity": _severity(surge.score),
        "count": surge.peak.count,
        "negative": surge.peak.negative,
        "expected_share": surge.expected_share,
        "share": surge.peak.negative / surge.peak.count,
        "score": surge.score,
        "volume_score": surge.volume_score,
        "evidence": _evidence(
            connection, topic, since_ms=surge.start * bucket_ms, until_ms=end_ms, args=args
        ),
    }


def _severity(score: float) -> Severity:
    if score >= _HIGH_SCORE:
        return "high"
    return "medium" if score >= _MEDIUM_SCORE else "low"


def _evidence(
    connection: Connection, topic: str, *, since_ms: int, until_ms: int, args: MonitorArgs
) -> list[str]:
    """Ids of the negative items that the model is surest of."""
    query = (
        select(items.c.id)
        .join(item_topics, item_topics.c.item == items.c.id)
        .where(
            item_topics.c.topic == topic,
            item_topics.c.time >= since_ms,
            item_topics.c.time < until_ms,
            item_topics.c.label.in_(args.negative),
        )
        .order_by(items.c.score.desc(), items.c.time, items.c.id)
        .limit(args.alerts.num_evidence)
    )
    return list(connection.scalars(query))


def _write(
    connection: Connection,
    topic: str,
    start_ms: int,
    old: RowMapping | None,
    figures: Mapping[str, object],
    args: MonitorArgs,
    notify_at_ms: int | None,
) -> None:
    """Inserts or changes an alert, and announces a new status."""
    identity = alert_id(topic, start_ms)
    has_new_status = old is None or old["status"] != figures["status"]
    if old is None:
        key = {"id": identity, "topic": topic, "start": start_ms, "revision": 1}
        connection.execute(insert(alerts).values({**key, **figures}))
    elif any(old[name] != value for name, value in figures.items()):
        changes = {**figures, "revision": old["revision"] + has_new_status}
        connection.execute(update(alerts).where(alerts.c.id == identity).values(changes))
    if has_new_status and notify_at_ms is not None and args.webhook_url:
        row = connection.execute(select(alerts).where(alerts.c.id == identity)).mappings().one()
        announce(connection, row, is_new=old is None, now_ms=notify_at_ms)
