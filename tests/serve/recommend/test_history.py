"""What counts as a user's opinion."""

import numpy as np

from serve.recommend.history import history_before

from .conftest import make_log


def of(rows, **options):
    log = make_log([(float(time), 0, item, kind, value) for time, item, kind, value in rows])
    return history_before(log, 0, options.pop("time", 100.0), max_liked=50, **options)


def test_the_last_word_counts():
    hidden = of([(1, 7, "like", None), (2, 7, "hide", None)])
    assert hidden.liked.tolist() == []
    assert hidden.hidden.tolist() == hidden.disliked.tolist() == [7]
    liked = of([(1, 7, "hide", None), (2, 7, "purchase", None)])
    assert liked.liked.tolist() == [7]
    assert liked.hidden.tolist() == liked.disliked.tolist() == []


def test_ratings_are_likes_dislikes_or_neither_but_never_hide():
    history = of([(1, 1, "rating", 4.0), (2, 2, "rating", 3.0), (3, 3, "rating", 2.5)])
    assert history.liked.tolist() == [1]
    assert history.disliked.tolist() == [3]
    assert history.hidden.tolist() == []
    assert history.seen.tolist() == [1, 2, 3]


def test_being_shown_is_not_having_seen():
    history = of([(1, 4, "impression", None), (2, 4, "impression", None), (3, 5, "click", None)])
    assert history.seen.tolist() == history.liked.tolist() == [5]
    assert history.shown.tolist() == [4, 4]


def test_each_liked_item_stands_once_at_its_last_like():
    rows = [(1, 1, "like", None), (2, 2, "like", None), (3, 1, "click", None)]
    assert of(rows).liked.tolist() == [2, 1]
    assert of(rows, time=3.0).liked.tolist() == [1, 2]


def test_added_items_are_the_last_likes_and_take_back_a_hide():
    history = of([(1, 1, "like", None), (2, 2, "hide", None)], added=[2, 3])
    assert history.liked.tolist() == [1, 2, 3]
    assert history.hidden.tolist() == history.disliked.tolist() == []
    assert history.seen.tolist() == [1, 2, 3]


def test_only_what_happened_before_is_known():
    rows = [(1, 1, "like", None), (2, 2, "like", None)]
    assert of(rows, time=2.0).liked.tolist() == [1]
    assert of(rows, time=np.nextafter(2.0, 3.0)).liked.tolist() == [1, 2]


def test_no_one_knows_a_stranger():
    log = make_log([(1.0, 0, 1, "like", None)])
    for user in (-1, 5):
        history = history_before(log, user, 9.0, max_liked=5)
        assert not len(history.liked)
        assert not len(history.seen)
