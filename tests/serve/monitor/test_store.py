"""The laws of the store, on SQLite and on PostgreSQL alike."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from ray_sft.core import ServeError
from serve.monitor import AlertArgs, MonitorArgs
from serve.monitor.cursor import decode_cursor
from serve.monitor.database import Database, StoreUnavailableError
from serve.monitor.item import Item
from serve.monitor.queries import ItemQuery
from serve.monitor.schema import Alert, Window
from serve.monitor.store import Store
from serve.monitor.windows import MAX_WINDOWS, SpanError, UnknownTopicError

from .conftest import NOON
from .feeds import HOUR, calm, hour, item, read, shuffled

NOW = (NOON + 10**7) * 1000

FEED = [
    *calm("chips", range(12)),
    *hour("chips", 12, count=30, negative=26),
    *hour("chips", 13, count=24, negative=20),
    *calm("chips", range(14, 18)),
    *calm("rail", range(18)),
]


def add(store: Store, items: Sequence[Item]) -> int:
    return store.add(read(items), now_ms=NOW)


def alerts(store: Store, **query: object) -> list[Alert]:
    return store.alerts(**{"topic": None, "since_ms": None, "limit": 100, **query})


def windows(store: Store, topic: str, **query: object) -> list[Window]:
    asked = {"bucket_s": HOUR, "since_ms": None, "until_ms": None, **query}
    return store.windows(topic, **asked).windows


def counted(found: Sequence[Window]) -> list[tuple[int, int, int, int]]:
    return [(one.count, one.negative, one.neutral, one.positive) for one in found]


def test_an_item_is_counted_once_however_often_it_comes(store: Store) -> None:
    items = calm("rail", range(3))
    assert add(store, items) == 30
    assert add(store, items) == 0
    assert add(store, [*items[:5], item("new", 0, "rail rose")]) == 1
    assert counted(windows(store, "rail")) == [(11, 2, 8, 1), (10, 2, 8, 0), (10, 2, 8, 0)]


def test_the_first_of_two_items_with_one_id_stays(store: Store) -> None:
    add(store, [item("a", 0, "rail fell")])
    assert add(store, [item("a", HOUR, "chips rose"), item("b", HOUR, "rail rose")]) == 1
    _, kept = store.items(ItemQuery(limit=10)).items
    assert (kept.text, kept.polarity, kept.topics) == ("rail fell", "negative", ["rail"])
    assert [one.topic for one in store.topics(since_ms=None, limit=9).topics] == ["rail"]


def test_known_ids_are_those_that_are_stored(store: Store) -> None:
    add(store, calm("rail", range(3)))
    asked = [f"rail-0-{place}" for place in range(1500)]
    assert store.known_ids(asked) == {f"rail-0-{place}" for place in range(10)}


def test_windows_have_no_gaps_and_whole_buckets(store: Store) -> None:
    add(store, [item("a", 10, "rail fell"), item("b", 3 * HOUR + 5, "rail rose")])
    found = windows(store, "rail")
    assert counted(found) == [(1, 1, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0), (1, 0, 0, 1)]
    assert [one.start[11:16] for one in found] == ["00:00", "01:00", "02:00", "03:00"]
    assert [one.net_sentiment for one in found] == [-1, None, None, 1]
    assert found[0].low < -0.5 < found[0].high
    # bounds within a bucket do not cut it
    cut = windows(store, "rail", since_ms=(NOON + 60) * 1000, until_ms=(NOON + HOUR + 1) * 1000)
    assert counted(cut) == [(1, 1, 0, 0), (0, 0, 0, 0)]
    halves = windows(store, "rail", bucket_s=2 * HOUR)
    assert counted(halves) == [(1, 1, 0, 0), (1, 0, 0, 1)]


def test_a_span_without_or_with_too_many_windows_is_refused(store: Store) -> None:
    add(store, [item("a", 0, "rail fell")])
    with pytest.raises(SpanError, match=f"from 1 to {MAX_WINDOWS} are given"):
        windows(store, "rail", since_ms=0)
    with pytest.raises(SpanError, match="has 0 windows"):
        windows(store, "rail", since_ms=NOON * 1000, until_ms=NOON * 1000)
    with pytest.raises(UnknownTopicError, match="topic 'fish' has no item"):
        windows(store, "fish")


def test_an_item_counts_once_for_each_of_its_topics(store: Store) -> None:
    tagged = item("a", 0, "chips fell", topics=["AAPL", "MSFT", "AAPL"])
    add(store, [tagged, item("b", 1, "chips fell")])
    summaries = store.topics(since_ms=None, limit=10).topics
    assert [(one.topic, one.num_items) for one in summaries] == [
        ("AAPL", 1), ("MSFT", 1), ("chips", 1),
    ]  # fmt: skip
    newest, oldest = store.items(ItemQuery(limit=10)).items
    assert (oldest.id, oldest.topic, oldest.topics) == ("a", "chips", ["AAPL", "MSFT"])
    assert (newest.id, newest.topic, newest.topics) == ("b", "chips", ["chips"])


def test_topics_are_summed_up_from_a_time_on(store: Store) -> None:
    add(store, FEED)
    whole = store.topics(since_ms=None, limit=10).topics
    assert [(one.topic, one.num_items, one.num_alerts) for one in whole] == [
        ("chips", 214, 1), ("rail", 180, 0),
    ]  # fmt: skip
    assert whole[1].net_sentiment == pytest.approx(-0.2)
    assert whole[0].last_time == "2025-06-16T17:54:00.000Z"
    later = store.topics(since_ms=(NOON + 16 * HOUR) * 1000, limit=1).topics
    assert [(one.topic, one.num_items, one.num_alerts) for one in later] == [("chips", 20, 0)]


def test_pages_of_items_are_the_whole_list_once(store: Store) -> None:
    items = [*calm("rail", range(4)), *(item(f"same-{i}", 7200, "rail rose") for i in range(9))]
    add(store, shuffled(items, 1))
    whole = store.items(ItemQuery(limit=500)).items
    assert len(whole) == 49
    assert [one.time for one in whole] == sorted((one.time for one in whole), reverse=True)
    for topic in (None, "rail"):
        paged, after = [], None
        while True:
            page = store.items(ItemQuery(limit=7, topic=topic, after=after))
            paged += page.items
            if page.next_cursor is None:
                break
            after = decode_cursor(page.next_cursor)
        assert paged == whole


def test_items_are_filtered(store: Store) -> None:
    add(store, FEED)
    fallen = store.items(
        ItemQuery(
            limit=500,
            topic="chips",
            since_ms=(NOON + 12 * HOUR) * 1000,
            until_ms=(NOON + 13 * HOUR) * 1000,
            polarity="negative",
        )
    ).items
    assert len(fallen) == 26
    assert {one.topic for one in fallen} == {"chips"}
    assert sum(fallen[0].sentiment.values()) == pytest.approx(1.0)
    numbers = {
        polarity: len(store.items(ItemQuery(limit=500, polarity=polarity)).items)
        for polarity in ("negative", "neutral", "positive")
    }
    assert numbers == {"negative": 2 * 34 + 26 + 20, "neutral": 8 * 34 + 4 + 4, "positive": 0}


def test_a_surge_raises_one_alert_with_evidence(store: Store, args: MonitorArgs) -> None:
    add(store, FEED)
    (alert,) = alerts(store)
    assert (alert.topic, alert.kind, alert.severity) == ("chips", "negative_surge", "medium")
    assert (alert.start, alert.end) == ("2025-06-16T12:00:00.000Z", "2025-06-16T14:00:00.000Z")
    assert (alert.count, alert.negative) == (30, 26)
    assert alert.share == pytest.approx(26 / 30)
    assert alert.expected_share == pytest.approx(0.2, abs=0.02)
    assert not alert.acknowledged
    assert len(alert.evidence) == args.alerts.num_evidence
    by_id = {one.id: one for one in store.items(ItemQuery(limit=500)).items}
    for identity in alert.evidence:
        assert by_id[identity].polarity == "negative"
        assert "2025-06-16T12:00" <= by_id[identity].time < "2025-06-16T14:00"
    covered = [one.alert for one in windows(store, "chips")]
    assert covered == [None] * 12 + [alert.id] * 2 + [None] * 4


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_order_and_batches_do_not_change_what_is_found(
    store: Store, args: MonitorArgs, seed: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Event time rules: in order or shuffled, in small requests, the same alerts and windows."""
    folder = tmp_path_factory.mktemp("whole")
    in_one = Store(args.model_copy(update={"database": f"sqlite:///{folder}/monitor.db"}))
    in_one.prepare()
    add(in_one, FEED)
    ordered = sorted(FEED, key=lambda one: one.time)
    items = ordered if seed is None else shuffled(FEED, seed)
    for start in range(0, len(items), 23):
        add(store, items[start : start + 23])
    assert alerts(store) == alerts(in_one)
    for topic in ("chips", "rail"):
        assert windows(store, topic) == windows(in_one, topic)
    in_one.close()


def test_a_store_opened_again_goes_on_where_it_was(store: Store, args: MonitorArgs) -> None:
    cut = 150
    add(store, FEED[:cut])
    again = Store(args)
    again.prepare()
    add(again, FEED[cut:])
    (alert,) = alerts(again)
    assert (alert.start, alert.end) == ("2025-06-16T12:00:00.000Z", "2025-06-16T14:00:00.000Z")
    again.close()


def test_an_alert_that_late_items_refute_is_withdrawn(store: Store) -> None:
    before = [*calm("chips", range(12)), *hour("chips", 12, count=10, negative=9)]
    add(store, before)
    assert len(alerts(store)) == 1
    late = [item(f"late-{i}", 12 * HOUR + i, "chips rose") for i in range(60)]
    add(store, late)
    assert alerts(store) == []
    assert {one.alert for one in windows(store, "chips")} == {None}
    assert store.topics(since_ms=None, limit=1).topics[0].num_alerts == 0


def test_a_late_surge_is_found_where_it_belongs(store: Store) -> None:
    add(store, calm("chips", range(40)))
    assert alerts(store) == []
    add(store, [item(f"late-{i}", 20 * HOUR + i, "chips fell") for i in range(30)])
    (alert,) = alerts(store)
    assert alert.start == "2025-06-16T20:00:00.000Z"
    assert (alert.count, alert.negative) == (40, 32)


def test_other_topics_end_the_alert_of_one_that_fell_silent(store: Store) -> None:
    add(store, [*calm("chips", range(12)), *hour("chips", 12, count=30, negative=26)])
    assert alerts(store)[0].end is None
    add(store, calm("rail", range(13, 16)))
    assert alerts(store)[0].end == "2025-06-16T13:00:00.000Z"


def test_alerts_are_listed_by_topic_and_time(store: Store) -> None:
    add(store, FEED)
    assert len(alerts(store, topic="chips")) == 1
    assert alerts(store, topic="rail") == []
    assert len(alerts(store, since_ms=(NOON + 13 * HOUR) * 1000)) == 1
    assert alerts(store, since_ms=(NOON + 14 * HOUR) * 1000) == []


def test_an_acknowledgement_stays(store: Store) -> None:
    add(store, FEED[:150])
    (alert,) = alerts(store)
    assert store.acknowledge(alert.id, now_ms=NOW).acknowledged
    assert store.acknowledge(alert.id, now_ms=NOW + 5).acknowledged
    add(store, FEED[150:])
    assert [one.acknowledged for one in alerts(store)] == [True]
    assert store.acknowledge("none", now_ms=NOW) is None


def test_changed_settings_judge_everything_anew(store: Store, args: MonitorArgs) -> None:
    add(store, FEED)
    strict = AlertArgs(warmup_buckets=4, warmup_items=10, min_effect=0.9)
    changed = Store(args.model_copy(update={"alerts": strict}))
    changed.prepare()
    assert alerts(changed) == []
    changed.close()
    back = Store(args)
    back.prepare()
    assert [one.start for one in alerts(back)] == ["2025-06-16T12:00:00.000Z"]
    back.close()


def test_writers_at_the_same_time_lose_nothing(store: Store, args: MonitorArgs) -> None:
    """As two processes of a service would: each its own store, one database."""
    stores = [store, *(Store(args) for _ in range(3))]
    items = shuffled(FEED, 7)
    parts = [items[start : start + 20] for start in range(0, len(items), 20)]

    def write(number: int) -> int:
        return add(stores[number % 4], parts[number])

    with ThreadPoolExecutor(4) as pool:
        added = sum(pool.map(write, range(len(parts))))
        again = sum(pool.map(write, range(len(parts))))
    assert (added, again) == (len(FEED), 0)
    assert sum(one.count for one in windows(store, "chips")) == 214
    assert [one.start for one in alerts(store)] == ["2025-06-16T12:00:00.000Z"]
    for other in stores[1:]:
        other.close()


def test_text_of_any_language_comes_back_as_it_was(store: Store) -> None:
    text = '芯片 fell 📉 \u202e "quoted" \'; DROP TABLE monitor_items; --'
    add(store, [item("號-1", 0, text, source="日報", topics=["芯片"])])
    (kept,) = store.items(ItemQuery(limit=1, topic="芯片")).items
    assert (kept.id, kept.text, kept.source) == ("號-1", text, "日報")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "is no URL"),
        ("mysql://a:secret@b/c", "is not supported"),
        ("postgresql://a:secret@b/c", "is not supported"),
        ("sqlite://", "would be lost"),
        ("sqlite:///:memory:", "would be lost"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused(url: str, said: str) -> None:
    with pytest.raises(ServeError, match=said) as caught:
        Database(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite:////dev", "postgresql+psycopg://a:secret@127.0.0.1:9/c"])
def test_a_database_that_does_not_answer_is_told_without_its_password(url: str) -> None:
    store = Store(MonitorArgs(model="words", database=url))
    with pytest.raises(StoreUnavailableError, match="failed: ") as caught:
        store.prepare()
    assert "secret" not in str(caught.value)
