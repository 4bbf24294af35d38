"""Alerts reach the webhook: once each, later where that fails, and after a restart."""

import json
import sqlite3

import pytest

from serve.monitor import MonitorArgs
from serve.monitor.courier import Courier
from serve.monitor.store import Store
from serve.monitor.webhook import Webhook

from .conftest import SECRET, Clock, Receiver
from .feeds import HOUR, calm, hour, item, read

pytestmark = pytest.mark.asyncio

SURGE = [*calm("chips", range(12)), *hour("chips", 12, count=30, negative=26)]


@pytest.fixture
def args(args: MonitorArgs, receiver: Receiver) -> MonitorArgs:
    return MonitorArgs.model_validate(
        {
            **args.model_dump(),
            "webhook_url": receiver.url,
            "webhook_allow_private": True,
            "webhook_max_attempts": 3,
            "webhook_retry_s": 10.0,
        }
    )


@pytest.fixture
def courier(store: Store, args: MonitorArgs, clock: Clock) -> Courier:
    return courier_of(store, args, clock)


def courier_of(store: Store, args: MonitorArgs, clock: Clock) -> Courier:
    webhook = Webhook(args.webhook_url, secret=SECRET, timeout_s=5.0, allow_private=True)
    return Courier(store, webhook, args, clock=clock)


def add(store: Store, clock: Clock, items: list) -> None:
    store.add(read(items), now_ms=round(clock() * 1000))


async def test_an_alert_is_told_with_its_evidence(
    store: Store, courier: Courier, clock: Clock, receiver: Receiver
) -> None:
    add(store, clock, SURGE)
    assert await courier.deliver_due() == 1
    ((headers, body),) = receiver.got
    message = json.loads(body)
    (alert,) = store.alerts(topic=None, since_ms=None, limit=1)
    assert headers["webhook-id"] == f"{alert.id}.1"
    assert message["type"] == "alert.raised"
    shown = message["data"].pop("evidence")
    assert message["data"] == alert.model_dump(mode="json", exclude={"evidence"})
    assert [one["id"] for one in shown] == alert.evidence
    assert {one["text"] for one in shown} == {"chips fell"}
    assert await courier.deliver_due() == 0


async def test_what_becomes_of_an_alert_is_told_in_order(
    store: Store, courier: Courier, clock: Clock, receiver: Receiver
) -> None:
    add(store, clock, SURGE)
    add(store, clock, calm("chips", range(13, 17)))
    add(store, clock, [item(f"late-{i}", 12 * HOUR + i, "chips rose") for i in range(200)])
    assert await courier.deliver_due() == 3
    types = [json.loads(body)["type"] for _, body in receiver.got]
    assert types == ["alert.raised", "alert.ended", "alert.withdrawn"]
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 3


async def test_nothing_new_is_nothing_to_tell(
    store: Store, courier: Courier, clock: Clock, receiver: Receiver
) -> None:
    add(store, clock, SURGE)
    add(store, clock, SURGE)
    add(store, clock, [item("one-more", 12 * HOUR + 5, "chips fell")])
    await courier.deliver_due()
    assert len(receiver.got) == 1


async def test_a_failure_is_tried_again_after_twice_the_time(
    store: Store, courier: Courier, clock: Clock, receiver: Receiver
) -> None:
    receiver.answers = [500, 503]
    add(store, clock, SURGE)
    tried = []
    for _ in range(35):  # a second each
        tried.append(await courier.deliver_due())
        clock.now += 1
    assert [second for second, number in enumerate(tried) if number] == [0, 10, 30]
    ids = {headers["webhook-id"] for headers, _ in receiver.got}
    stamps = [int(headers["webhook-timestamp"]) for headers, _ in receiver.got]
    assert len(ids) == 1, "the receiver could not know it again"
    assert stamps[2] - stamps[0] == 30, "signed anew, for the time it is sent"


async def test_a_message_is_given_up_and_kept(
    store: Store, courier: Courier, clock: Clock, receiver: Receiver, database: str
) -> None:
    receiver.answers = [500] * 9
    add(store, clock, SURGE)
    for _ in range(10):
        await courier.deliver_due()
        clock.now += 7200
    assert len(receiver.got) == 3
    assert store.next_due() is None
    if database.startswith("sqlite"):
        with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
            rows = connection.execute("SELECT status, attempts, error FROM monitor_deliveries")
            assert rows.fetchall() == [("dead", 3, "the receiver answered 500.")]


async def test_a_message_outlives_the_process(
    store: Store, args: MonitorArgs, clock: Clock, receiver: Receiver
) -> None:
    add(store, clock, SURGE)
    # taken for delivery by one that then died
    assert store.take_due(now_ms=round(clock() * 1000), lease_ms=40_000) is not None
    later = Store(args)
    later.prepare()
    courier = courier_of(later, args, clock)
    assert await courier.deliver_due() == 0, "it may still be on its way"
    clock.now += 41
    assert await courier.deliver_due() == 1
    assert len(receiver.got) == 1
    later.close()


async def test_alerts_found_anew_after_a_change_of_settings_are_not_told(
    store: Store, args: MonitorArgs, clock: Clock, receiver: Receiver
) -> None:
    add(store, clock, SURGE)
    await courier_of(store, args, clock).deliver_due()
    stricter = args.alerts.model_copy(update={"min_effect": 0.9})
    changed = Store(args.model_copy(update={"alerts": stricter}))
    changed.prepare()
    again = Store(args)
    again.prepare()
    assert await courier_of(again, args, clock).deliver_due() == 0
    assert len(receiver.got) == 1
    changed.close()
    again.close()
