"""Features: nothing of the future, and the texts' cosines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from serve.recommend.features import FEATURES, Weighting, feature_table
from serve.recommend.training import Features

from .conftest import make_catalogue, make_log

NUM_ITEMS = 15
NOW = 50.0
CATALOGUE = make_catalogue(NUM_ITEMS, published=10.0)
SETTINGS = Features(Weighting(half_life=5.0, num_recent=2), half_life_days=1e-4, max_history=20)

KINDS = st.sampled_from(["impression", "click", "like", "purchase", "rating", "hide"])


def rows(low, high):
    return st.lists(
        st.tuples(
            st.floats(low, high, allow_nan=False),
            st.integers(0, 4),
            st.integers(0, NUM_ITEMS - 1),
            KINDS,
            st.floats(1, 5),
        ),
        max_size=30,
    )


def table_of(events, user=0, time=NOW):
    log = make_log(events)
    history = SETTINGS.history(log, user, time)
    moment = SETTINGS.moment(log, CATALOGUE, time)
    every = np.arange(NUM_ITEMS)
    return history, feature_table(CATALOGUE, moment, history, every, weighting=SETTINGS.weighting)


@settings(deadline=None, max_examples=150)
@given(rows(0, NOW - 0.001), rows(NOW, 100))
def test_what_happens_later_reaches_no_feature(past, future):
    _, without = table_of(past)
    _, with_future = table_of([*future, *past])
    np.testing.assert_array_equal(without, with_future)


def test_an_event_of_the_moment_itself_is_future():
    past = [(1.0, 0, 3, "like", None)]
    _, before = table_of(past)
    _, at = table_of([*past, (NOW, 0, 4, "like", None)])
    np.testing.assert_array_equal(before, at)
    _, after = table_of([*past, (np.nextafter(NOW, 0), 0, 4, "like", None)])
    assert not np.array_equal(before, after)


def column(table, name):
    return table[:, FEATURES.index(name)]


def test_text_features_are_cosines():
    events = [(1.0, 0, 3, "like", None), (2.0, 0, 4, "purchase", None), (3.0, 0, 9, "like", None)]
    history, table = table_of([*events, (4.0, 0, 7, "hide", None)])
    similarities = cosine_similarity(CATALOGUE.embeddings, CATALOGUE.embeddings[history.liked])
    assert history.liked.tolist() == [3, 4, 9]
    assert column(table, "text_mean") == pytest.approx(similarities.mean(axis=1), abs=1e-5)
    assert column(table, "text_max") == pytest.approx(similarities.max(axis=1), abs=1e-5)
    assert column(table, "text_recent") == pytest.approx(similarities[:, 1:].max(axis=1), abs=1e-5)
    weights = 2.0 ** (-np.asarray([2, 1, 0]) / 5.0)
    profile = similarities @ (weights / weights.sum())
    assert column(table, "text_profile") == pytest.approx(profile, abs=1e-5)
    disliked = cosine_similarity(CATALOGUE.embeddings, CATALOGUE.embeddings[[7]])[:, 0]
    assert column(table, "text_disliked") == pytest.approx(disliked, abs=1e-5)


def test_category_share_is_that_of_the_history():
    events = [(float(n), 0, item, "like", None) for n, item in enumerate([0, 3, 6, 1])]
    _, table = table_of(events)  # categories: c0, c0, c0, c1
    weights = 2.0 ** (-np.asarray([3, 2, 1, 0]) / 5.0)
    share = column(table, "category_share")
    assert share[9] == pytest.approx(weights[:3].sum() / weights.sum())
    assert share[4] == pytest.approx(weights[3] / weights.sum())
    assert share[2] == 0.0


def test_what_does_not_apply_is_not_a_number():
    log = make_log([])
    catalogue = make_catalogue(4)
    history = SETTINGS.history(log, -1, NOW)
    moment = SETTINGS.moment(log, catalogue, NOW)
    table = feature_table(catalogue, moment, history, np.arange(4), weighting=SETTINGS.weighting)
    for name in ("age_days", "model_score", "user_popularity"):
        assert np.isnan(column(table, name)).all()
    known = [n for n, name in enumerate(FEATURES) if not np.isnan(table[:, n]).any()]
    assert len(known) == len(FEATURES) - 3


def test_age_and_impressions_are_counted():
    events = [(1.0, 0, 2, "impression", None), (2.0, 0, 2, "impression", None)]
    _, table = table_of(events, time=10.0 + 3 * 86_400)
    assert column(table, "age_days") == pytest.approx(np.full(NUM_ITEMS, 3.0))
    assert column(table, "shown").tolist() == [2.0 if n == 2 else 0.0 for n in range(NUM_ITEMS)]
