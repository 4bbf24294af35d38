"""Reasons name what they rest on, and are silent without it."""

import numpy as np
import pytest

from serve.recommend.catalogue import Catalogue, Item
from serve.recommend.history import history_before
from serve.recommend.moment import Moment
from serve.recommend.reasons import reasons_for

from .conftest import bag_of_words, make_log

DAY = 86_400.0
NOW = 100 * DAY
TITLES = ("steel kettle", "glass kettle", "garden hose", "blue lamp")
CATEGORIES = ("kitchen|tea", "kitchen", "garden", "")
CATALOGUE = Catalogue(
    tuple(
        Item(f"i{n}", title, "", category, published)
        for n, (title, category, published) in enumerate(
            zip(TITLES, CATEGORIES, (None, None, NOW - 3 * DAY, NOW - 99 * DAY), strict=True)
        )
    ),
    bag_of_words(TITLES),
)


def reasons(item, rows, rank_by_popularity=99):
    log = make_log(rows)
    found = reasons_for(
        item,
        catalogue=CATALOGUE,
        moment=Moment(log, NOW, num_items=4, half_life_days=14.0),
        history=history_before(log, 0, NOW, max_liked=10),
        rank_by_popularity=rank_by_popularity,
        num_candidates=30,
        new_days=14.0,
    )
    return {reason.kind: reason.text for reason in found}


def test_a_similar_text_is_named_with_its_cosine():
    rows = [(1.0, 0, 2, "like", None), (2.0, 0, 0, "like", None)]
    found = reasons(1, rows)
    cosine = float(CATALOGUE.embeddings[0] @ CATALOGUE.embeddings[1])
    assert cosine == pytest.approx(0.5, abs=0.01)  # one word of two
    assert found["similar"] == f"Reads like 'steel kettle', liked before ({cosine:.2f})."
    assert found["category"] == "1 of 2 liked items are 'kitchen' too."


def test_nothing_is_said_of_texts_that_differ():
    assert "similar" not in reasons(3, [(1.0, 0, 2, "like", None)])
    assert "category" not in reasons(3, [(1.0, 0, 2, "like", None)])


@pytest.mark.parametrize(("num_others", "is_said"), [(1, False), (2, True), (3, True)])
def test_others_are_counted_but_a_single_one_is_not_told(num_others, is_said):
    rows = [(1.0, 0, 2, "like", None)]
    for user in range(1, num_others + 1):
        rows += [(2.0, user, 2, "click", None), (3.0, user, 3, "like", None)]
    found = reasons(3, rows)
    assert ("together" in found) == is_said
    if is_said:
        assert found["together"] == (f"{num_others} others who liked 'garden hose' liked this too.")


def test_popular_is_the_top_tenth_with_any_likes():
    rows = [(NOW - DAY, 1, 3, "like", None)]
    assert reasons(3, rows, rank_by_popularity=3)["popular"] == "Popular now: number 3 of 30."
    assert "popular" not in reasons(3, rows, rank_by_popularity=4)
    assert "popular" not in reasons(1, rows, rank_by_popularity=1)


def test_new_is_said_of_what_was_published_lately():
    assert reasons(2, [])["new"] == "New: 3 days old."
    assert reasons(3, []) == {}
    assert np.isneginf(CATALOGUE.published[0])
    assert reasons(0, []) == {}
