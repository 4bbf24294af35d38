"""The database: idempotent, complete after a restart, and told apart by counters."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ray_sft.core import ServeError
from serve.recommend.catalogue import Item
from serve.recommend.database import Versions
from serve.recommend.event_store import Ranking
from serve.recommend.events import Event
from serve.recommend.item_store import StoredItem
from serve.recommend.ranker_store import StoredRanker
from serve.recommend.store import Store


def stored(id_, title="A kettle", **options):
    vector = np.asarray([0.6, 0.8], np.float32)
    return StoredItem(Item(id_, title, **options), vector, "m1")


def event(number, user="ann", item="a", kind="like", **options):
    return Event(f"e{number}", user, item, kind, float(number), **options)


def test_items_come_back_as_they_were_put(store):
    full = Item("a", "Caf\u00e9 \u8336", "boils\nwater", "kitchen|tea", 1e9 + 0.25)
    store.items.put([StoredItem(full, np.asarray([0.6, 0.8], np.float32), "m1"), stored("b")])
    found = store.items.find(["a", "b", "c"])
    assert set(found) == {"a", "b"}
    assert found["a"].item == full
    assert found["a"].embedding.tolist() == pytest.approx([0.6, 0.8])
    assert found["a"].model == "m1"


def test_putting_again_replaces_and_raises_the_version(store):
    store.items.put([stored("a"), stored("b")])
    before = store.events.versions().items
    store.items.put([stored("a", title="A new kettle")])
    assert store.items.count() == 2
    (changes,) = store.items.changed_since(before)
    assert [change.item.title for change in changes] == ["A new kettle"]


def test_pages_follow_each_other_and_queries_are_no_patterns(store):
    titles = {"a": "Kettle", "b": "100% wool", "c": "KETTLE lid", "d": "1000 wools"}
    store.items.put([stored(id_, title=title) for id_, title in titles.items()])

    def ids(**options):
        page = store.items.page(**({"limit": 10, "cursor": "", "query": ""} | options))
        return [item.id for item in page]

    assert ids(limit=3) == ["a", "b", "c"]
    assert ids(cursor="c") == ["d"]
    assert ids(query="kettle") == ["a", "c"]
    assert ids(query="100%") == ["b"]
    assert ids(query="_") == []


def test_an_event_counts_once(store):
    assert store.events.add([event(1), event(2), event(1)]) == [True, True, False]
    changed = event(2, kind="hide")
    assert store.events.add([changed, event(3)]) == [False, True]
    ((last, kept),) = store.events.after(0, limit=100)
    assert [e.id for e in kept] == ["e1", "e2", "e3"]
    assert kept[1] == event(2)
    assert [e for _, events in store.events.after(last, limit=100) for e in events] == []
    ((_, newest),) = store.events.after(0, limit=2)
    assert [e.id for e in newest] == ["e2", "e3"]


def test_writers_at_once_store_each_event_once(store):
    batches = [[event(n) for n in range(start, start + 40)] for start in (0, 20, 0, 20)]
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(store.events.add, batches))
    assert sum(map(sum, outcomes)) == 60
    assert store.events.count() == (60, 1)


def test_everything_is_there_after_a_restart(store, url):
    store.items.put([stored("a")])
    options = {"value": 4.5, "ranking_id": "r", "position": 2}
    store.events.add([event(1, kind="rating", **options)])
    ranking = Ranking("r", "ann", 1.5, "weights", (("a", 0.25),))
    store.events.add_ranking(ranking)
    store.rankers.add(StoredRanker(7.0, "tree", "abc", {"figures": {}}))
    store.close()
    again = Store.open(url)
    assert again.items.find(["a"])["a"].item == stored("a").item
    ((_, (kept,)),) = again.events.after(0, limit=9)
    assert kept == event(1, kind="rating", **options)
    assert again.events.answered_rankings(limit=9) == [(ranking, [kept])]
    assert again.rankers.latest() == StoredRanker(7.0, "tree", "abc", {"figures": {}})
    assert again.events.versions() == Versions(items=1, events=1, deletions=0, rankers=1)
    again.close()


def test_a_user_is_forgotten_and_others_are_not(store):
    store.events.add([event(1), event(2, user="bob"), event(3)])
    for user in ("ann", "bob", None):
        store.events.add_ranking(Ranking(f"r-{user}", user, 1.0, "weights", ()))
    assert store.events.delete_user("ann") == (2, 1)
    assert [summary.user for summary in store.events.users(limit=9)] == ["bob"]
    assert store.events.delete_user("ann") == (0, 0)
    assert store.events.versions().deletions == 2
    store.events.add([event(4)])
    assert [n for n, _ in store.events.after(3, limit=9)] == [4]  # numbers are not given again


def test_rankings_are_joined_with_what_their_own_user_did(store):
    store.events.add_ranking(Ranking("r", "ann", 1.0, "weights", (("a", 0.5), ("b", 0.2))))
    store.events.add(
        [
            event(1, kind="impression", ranking_id="r"),
            event(2, kind="click", ranking_id="r"),
            event(3, user="eve", ranking_id="r"),
            event(4, ranking_id="unknown"),
        ]
    )
    ((ranking, answers),) = store.events.answered_rankings(limit=9)
    assert ranking.shown == (("a", 0.5), ("b", 0.2))
    assert [e.id for e in answers] == ["e2"]
    assert store.events.delete_rankings(before=1.0) == 0
    assert store.events.delete_rankings(before=1.1) == 1
    assert store.events.answered_rankings(limit=9) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("recommend.db", "no URL"),
        ("nosuch://host/name", "no URL"),
        ("sqlite:////dev/null/recommend.db", "cannot be opened"),
    ],
)
def test_a_database_that_cannot_be_used_is_explained(url, said):
    with pytest.raises(ServeError, match=said):
        Store.open(url)
