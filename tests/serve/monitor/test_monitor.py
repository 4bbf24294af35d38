"""What the monitor does with the model: all of a request or nothing, and what cannot be read."""

import asyncio
from collections.abc import Sequence

import pytest

from ray_sft.core import ServeError
from serve.monitor import MonitorArgs
from serve.monitor.item import Item
from serve.monitor.monitor import Monitor
from serve.monitor.opinion import Analyse, Opinion
from serve.monitor.queries import ItemQuery
from serve.monitor.reader import Reader
from serve.monitor.store import Store
from serve.outcomes import QueueFullError, StoppedError

from .conftest import SECRET, Clock, Receiver
from .feeds import HOUR, calm, hour, item
from .words import read_words

pytestmark = pytest.mark.asyncio


def placed(items: Sequence[Item]) -> list[tuple[int, Item]]:
    return list(enumerate(items, start=1))


def failing_at(call: int, error: ServeError) -> Analyse:
    """A model that fails at its nth call."""
    calls = 0

    async def analyse(texts: Sequence[str]) -> list[Opinion | ServeError]:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return await read_words(texts)

    return analyse


async def test_every_item_is_accepted_a_duplicate_or_rejected(monitor: Monitor) -> None:
    items = [item("a", 0, "rail fell"), item("b", 1, "unreadable"), item("a", 2, "rail rose")]
    receipt = await monitor.add(placed(items))
    assert (receipt.accepted, receipt.duplicates) == (1, 1)
    (refused,) = receipt.rejected
    assert (refused.line, refused.id) == (2, "b")
    assert refused.reason == "the model failed on this text."
    again = await monitor.add(placed(items))
    assert (again.accepted, again.duplicates, len(again.rejected)) == (0, 2, 1)


async def test_what_is_known_is_not_read_again(args: MonitorArgs) -> None:
    asked: list[str] = []

    async def analyse(texts: Sequence[str]) -> list[Opinion | ServeError]:
        asked.extend(texts)
        return await read_words(texts)

    monitor = Monitor(analyse, Store(args), args)
    await monitor.open()
    await monitor.add(placed([item("a", 0, "rail fell")]))
    await monitor.add(placed([item("a", 0, "rail fell"), item("b", 0, "rail rose")]))
    assert asked == ["rail fell", "rail rose"]
    await monitor.close()


@pytest.mark.parametrize(
    "error", [QueueFullError(9, max_queued=9, retry_after_s=3), StoppedError("stopping.")]
)
async def test_a_request_that_cannot_be_read_whole_leaves_nothing(
    args: MonitorArgs, error: ServeError
) -> None:
    args = args.model_copy(update={"batch_texts": 4})
    monitor = Monitor(failing_at(3, error), Store(args), args)
    await monitor.open()
    items = calm("rail", range(2))
    with pytest.raises(type(error)):
        await monitor.add(placed(items))
    assert (await monitor.items(ItemQuery(limit=100))).items == []
    receipt = await monitor.add(placed(items))
    assert (receipt.accepted, receipt.duplicates) == (20, 0)
    await monitor.close()


async def test_texts_are_read_in_batches_and_come_back_in_order() -> None:
    sizes: list[int] = []
    running = most = 0

    async def analyse(texts: Sequence[str]) -> list[Opinion | ServeError]:
        nonlocal running, most
        sizes.append(len(texts))
        running += 1
        most = max(most, running)
        for _ in range(len(texts)):  # later batches are quicker
            await asyncio.sleep(0)
        running -= 1
        return await read_words(texts)

    reader = Reader(analyse, batch_texts=8, queue_wait_s=0.0)
    outcomes = await reader.read([f"topic-{number} fell" for number in range(30)])
    topics = [outcome.topic for outcome in outcomes if isinstance(outcome, Opinion)]
    assert topics == [f"topic-{number}" for number in range(30)]
    assert sizes == [8, 8, 8, 6]
    assert most == 2


async def test_a_full_queue_is_waited_for_as_long_as_allowed() -> None:
    full = QueueFullError(9, max_queued=9, retry_after_s=0)
    patient = Reader(failing_at(1, full), batch_texts=8, queue_wait_s=30.0)
    assert len(await patient.read(["rail fell"])) == 1
    with pytest.raises(QueueFullError):
        await Reader(failing_at(1, full), batch_texts=8, queue_wait_s=0.0).read(["rail fell"])


async def test_requests_at_the_same_time_lose_nothing(monitor: Monitor) -> None:
    items = [*calm("chips", range(12)), *hour("chips", 12, count=30, negative=26)]
    parts = [items[start : start + 10] for start in range(0, len(items), 10)]
    receipts = await asyncio.gather(*(monitor.add(placed(part)) for part in [*parts, *parts]))
    assert sum(receipt.accepted for receipt in receipts) == len(items)
    assert sum(receipt.duplicates for receipt in receipts) == len(items)
    found = await monitor.windows("chips", bucket_s=HOUR, since_ms=None, until_ms=None)
    assert sum(window.count for window in found.windows) == len(items)
    assert len(await monitor.alerts(topic=None, since_ms=None, limit=9)) == 1


async def test_alerts_are_sent_while_the_monitor_is_open(
    args: MonitorArgs, clock: Clock, receiver: Receiver
) -> None:
    """The courier hears of a new alert at once, and a test message does not wait for it."""
    hooked = args.model_copy(update={"webhook_url": receiver.url, "webhook_allow_private": True})
    monitor = Monitor(read_words, Store(hooked), hooked, secret=SECRET, clock=clock)
    await monitor.open()
    outcome = await monitor.test_webhook()
    assert outcome is not None
    assert outcome.delivered
    surge = [*calm("chips", range(12)), *hour("chips", 12, count=30, negative=26)]
    await monitor.add(placed(surge))
    async with asyncio.timeout(20):
        while len(receiver.got) < 2:
            await asyncio.sleep(0.01)
    await monitor.close()
    assert b'"alert.raised"' in receiver.got[1][1]


async def test_a_failed_test_message_says_why(
    args: MonitorArgs, clock: Clock, receiver: Receiver
) -> None:
    receiver.answers = [401]
    hooked = args.model_copy(update={"webhook_url": receiver.url, "webhook_allow_private": True})
    monitor = Monitor(read_words, Store(hooked), hooked, secret=SECRET, clock=clock)
    outcome = await monitor.test_webhook()
    assert outcome is not None
    assert (outcome.delivered, outcome.error) == (False, "the receiver answered 401.")
    await monitor.close()


async def test_a_webhook_without_a_secret_is_refused_at_the_start(args: MonitorArgs) -> None:
    hooked = args.model_copy(update={"webhook_url": "https://example.com/"})
    with pytest.raises(ServeError, match="RAY_SFT_WEBHOOK_SECRET"):
        Monitor(read_words, Store(hooked), hooked)
