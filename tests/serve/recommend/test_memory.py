"""What is in memory is what any process wrote to the database."""

import numpy as np
import pytest

from serve.recommend.catalogue import Item
from serve.recommend.events import Event
from serve.recommend.item_store import StoredItem
from serve.recommend.memory import Memory
from serve.recommend.store import Store

from .conftest import TASTES


@pytest.fixture
def other(url, store):  # noqa: ARG001 - made first
    """The same database in another process, as far as it can tell."""
    again = Store.open(url)
    yield again
    again.close()


@pytest.fixture
def memory(store):
    return Memory(store, "m1", TASTES, max_events=100)


def item(id_, x=1.0, model="m1", title="thing"):
    return StoredItem(Item(id_, title), np.asarray([x, 0.0], np.float32), model)


def event(number, user="ann", item="a", time=None):
    return Event(f"e{number}", user, item, "like", float(number if time is None else time))


def test_changes_of_another_process_are_seen(memory, other):
    assert len(memory.refresh().catalogue) == 0
    other.items.put([item("a"), item("b")])
    other.events.add([event(1)])
    first = memory.refresh()
    assert [i.id for i in first.catalogue.items] == ["a", "b"]
    assert first.log.times.tolist() == [1.0]
    other.items.put([item("c"), item("a", x=0.5, title="other")])
    other.events.add([event(2, item="c", user="bob")])
    second = memory.refresh()
    assert [i.id for i in second.catalogue.items] == ["a", "b", "c"]  # numbers stay
    assert second.catalogue.items[0].title == "other"
    assert second.catalogue.embeddings[0].tolist() == [0.5, 0.0]
    assert second.log.items.tolist() == [0, 2]
    assert first.catalogue.items[0].title == "thing"  # a snapshot never changes
    assert len(first.log) == 1


def test_events_that_arrive_late_are_put_in_order(memory, other):
    other.items.put([item("a")])
    other.events.add([event(1, time=9.0)])
    memory.refresh()
    other.events.add([event(2, time=3.0)])
    assert memory.refresh().log.times.tolist() == [3.0, 9.0]


def test_a_user_forgotten_elsewhere_is_forgotten_here(memory, other):
    other.items.put([item("a")])
    other.events.add([event(1), event(2, user="bob")])
    memory.refresh()
    other.events.delete_user("ann")
    snapshot = memory.refresh()
    assert snapshot.log.times.tolist() == [2.0]
    assert "ann" not in snapshot.users
    other.events.add([event(3)])
    assert memory.refresh().log.times.tolist() == [2.0, 3.0]


def test_only_the_latest_events_are_kept(store):
    store.items.put([item("a")])
    store.events.add([event(n) for n in range(8)])
    small = Memory(store, "m1", TASTES, max_events=3)
    assert small.refresh().log.times.tolist() == [5.0, 6.0, 7.0]
    store.events.add([event(8)])
    assert small.refresh().log.times.tolist() == [6.0, 7.0, 8.0]


def test_vectors_of_another_model_count_as_missing(memory, store):
    store.items.put([item("a", model="m0"), item("b")])
    catalogue = memory.refresh().catalogue
    assert [i.id for i in catalogue.without_vector] == ["a"]
    store.items.put([item("a")])
    assert memory.refresh().catalogue.without_vector == ()
