"""The laws of the fold: what raises, holds and ends an alert, and that order does not matter."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ray_sft.samples
from ray_sft.samples.market import START, SURGES
from serve.monitor import AlertArgs
from serve.monitor.baseline import Baseline, Counts
from serve.monitor.surge import State, Surge, find_surges

from .streams import Truth, quiet_stream, surges_of, with_surge

ARGS = AlertArgs(warmup_buckets=4, warmup_items=10)
CALM = [Counts(bucket, 20, 4) for bucket in range(30)]


def stream(*later: tuple[int, int]) -> list[Counts]:
    """Thirty calm buckets, then these numbers of items and negative items."""
    return CALM + [Counts(30 + place, *figures) for place, figures in enumerate(later)]


def spans(surges: Iterable[Surge]) -> list[tuple[int, int]]:
    return [(surge.start, surge.last) for surge in surges]


def test_a_surge_is_raised_held_and_ended() -> None:
    found = surges_of(stream((40, 32), (40, 30), (20, 15), (20, 4), (20, 3), (20, 4)), ARGS)
    assert spans(found) == [(30, 32)]
    (surge,) = found
    assert surge.has_ended
    assert surge.peak == Counts(30, 40, 32)
    assert surge.expected_share == pytest.approx(0.2, abs=0.01)
    assert surge.volume_score > 10


def test_few_items_prove_nothing() -> None:
    assert surges_of(stream((ARGS.min_count - 1, ARGS.min_count - 1)), ARGS) == ()


def test_a_sure_but_small_shift_is_no_surge() -> None:
    args = ARGS.model_copy(update={"min_effect": 0.3, "correlation": 0.0})
    shifted = Counts(30, 4000, 1600)
    assert surges_of([*CALM, shifted], args) == ()
    assert spans(surges_of([*CALM, shifted], ARGS)) == [(30, 30)]


def test_more_items_of_the_usual_opinion_are_no_surge() -> None:
    assert surges_of(stream((800, 160)), ARGS) == ()


def test_nothing_is_raised_in_the_warm_up() -> None:
    early = [Counts(0, 20, 4), Counts(1, 20, 4), Counts(2, 40, 36)]
    assert surges_of(early, ARGS) == ()
    # a long time with too few items is no better
    sparse = [Counts(0, 3, 0), Counts(50, 40, 36)]
    assert surges_of(sparse, ARGS) == ()


def test_the_baseline_is_frozen_while_an_alert_is_up() -> None:
    """Else a long surge would become what is expected, and end."""
    found = surges_of(stream(*[(40, 32)] * 40), ARGS)
    assert spans(found) == [(30, 69)]


def test_a_surge_that_lasts_becomes_the_new_level() -> None:
    args = ARGS.model_copy(update={"max_buckets": 20})
    found = surges_of(stream(*[(40, 32)] * 200), args)
    assert spans(found) == [(30, 49)]
    # and beside that level the old one is no surge, but more is
    again = surges_of(stream(*[(40, 32)] * 60, *[(40, 8)] * 5, (40, 40)), args)
    assert spans(again) == [(30, 49)]


def test_one_weak_bucket_does_not_end_an_alert() -> None:
    found = surges_of(stream((40, 32), (20, 4), (40, 30), (20, 4), (20, 4)), ARGS)
    assert spans(found) == [(30, 32)]


def test_silence_ends_an_alert() -> None:
    windows = stream((40, 32))
    quiet = ARGS.quiet_buckets
    held = find_surges(windows, ARGS, newest=30 + quiet).surges
    assert [surge.has_ended for surge in held] == [False]
    over = find_surges(windows, ARGS, newest=31 + quiet).surges
    assert [surge.has_ended for surge in over] == [True]


def test_nothing_is_raised_in_the_cool_down() -> None:
    surge, calm = (40, 32), (20, 4)
    near = stream(surge, calm, calm, *[calm] * (ARGS.cooldown_buckets - 1), surge, calm, calm)
    far = stream(surge, calm, calm, *[calm] * ARGS.cooldown_buckets, surge, calm, calm)
    assert len(surges_of(near, ARGS)) == 1
    assert len(surges_of(far, ARGS)) == 2


def test_two_of_three_buckets_where_that_is_asked_for() -> None:
    args = ARGS.model_copy(update={"num_hits": 2, "out_of": 3})
    surge, calm = (40, 32), (20, 4)
    assert surges_of(stream(surge, calm, calm), args) == ()
    assert surges_of(stream(surge, calm, calm, surge, calm), args) == ()
    assert spans(surges_of(stream(surge, calm, surge, calm, calm), args)) == [(32, 32)]


def test_the_bucket_that_fills_may_raise_and_hold_but_not_end() -> None:
    raised = find_surges(stream((40, 32)), ARGS, newest=30).surges
    assert spans(raised) == [(30, 30)]
    # two quiet buckets end it, and the second of them is not complete
    filling = find_surges(stream((40, 32), (20, 4), (20, 4)), ARGS, newest=32).surges
    assert [surge.has_ended for surge in filling] == [False]
    complete = find_surges(stream((40, 32), (20, 4), (20, 4)), ARGS, newest=33).surges
    assert [surge.has_ended for surge in complete] == [True]


def test_a_slow_beginning_is_not_learned_as_usual() -> None:
    ramp = [(20, 7), (20, 8), (20, 9), (20, 9)]
    guarded = surges_of(stream(*ramp, (20, 15)), ARGS)
    assert spans(guarded) == [(34, 34)]
    assert guarded[0].expected_share == pytest.approx(0.2, abs=0.01)
    unguarded = ARGS.model_copy(update={"guard_buckets": 0})
    learned = surges_of(stream(*ramp, (20, 20)), unguarded)
    assert all(surge.expected_share > 0.22 for surge in learned)


figures = st.integers(0, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(later=st.lists(figures, min_size=1, max_size=40), cut=st.integers(0, 69))
def test_a_fold_resumed_anywhere_is_the_whole_fold(later: list[tuple[int, int]], cut: int) -> None:
    windows = [counts for counts in stream(*later) if counts.count]
    newest = windows[-1].bucket + 1
    whole = find_surges(windows, ARGS, newest=newest)
    states = [state for state in whole.states if state.next <= cut]
    if not states:
        return
    rest = [counts for counts in windows if counts.bucket >= states[-1].next]
    resumed = find_surges(rest, ARGS, newest=newest, state=states[-1])
    assert resumed.states == whole.states[len(states) :]
    first = states[-1].surge.start if states[-1].surge else states[-1].next
    assert resumed.surges == tuple(surge for surge in whole.surges if surge.start >= first)


def test_empty_buckets_are_passed_over_at_once_as_one_by_one() -> None:
    """The closed form against steps, and a gap too long to step through."""
    decay = ARGS.decay
    at_once = Baseline().learn(Counts(0, 20, 4), decay).pass_empty(50, decay)
    stepped = Baseline().learn(Counts(0, 20, 4), decay)
    for bucket in range(1, 51):
        stepped = stepped.learn(Counts(bucket, 0, 0), decay)
    for name in Baseline.__slots__:
        assert getattr(at_once, name) == pytest.approx(getattr(stepped, name))
    assert surges_of([Counts(0, 20, 4), Counts(10**12, 20, 4)], ARGS) == ()


def test_states_hold_no_more_than_they_need() -> None:
    """Else each row of the table of states would grow with the topic."""
    windows = [Counts(bucket, 20, 4) for bucket in range(1000)]
    states = find_surges(windows, ARGS, newest=1000).states
    assert max(len(state.waiting) for state in states) <= ARGS.guard_buckets + 1
    assert isinstance(states[-1], State)


def test_the_correlation_of_a_bucket_is_found_by_moments() -> None:
    rng = np.random.default_rng(0)
    true = 0.05
    weight = 1 / true - 1
    baseline = Baseline()
    for bucket in range(4000):
        share = rng.beta(0.3 * weight, 0.7 * weight)
        baseline = baseline.learn(Counts(bucket, 50, int(rng.binomial(50, share))), 0.9999)
    assert baseline.correlation(0.01) == pytest.approx(true, rel=0.1)
    binomial = Baseline()
    for bucket in range(4000):
        binomial = binomial.learn(Counts(bucket, 50, int(rng.binomial(50, 0.3))), 0.9999)
    assert binomial.correlation(0.01) == 0.01
    assert binomial.correlation(0.0) < 0.002


@pytest.mark.parametrize("overdispersion", [0.0, 0.05, 0.1])
@pytest.mark.parametrize(("rate", "share"), [(5, 0.3), (20, 0.1), (20, 0.3), (100, 0.3)])
def test_false_alarms_are_as_rare_as_promised(
    rate: float, share: float, overdispersion: float
) -> None:
    """At most ``raise_p`` of quiet buckets, three times that where opinion wavers by itself."""
    rng = np.random.default_rng(3)
    num_buckets = 6000
    quiet = quiet_stream(Truth(rate, share, overdispersion), num_buckets, rng)
    alarms = len(surges_of(quiet, AlertArgs()))
    expected = AlertArgs().raise_p * num_buckets * (3 if overdispersion else 1)
    assert alarms <= expected, f"{1000 * alarms / num_buckets:.2f} per 1000 buckets"


@pytest.mark.parametrize(
    ("rate", "share", "num_found", "delay"),
    [(8, 0.1, 32, 2.5), (20, 0.1, 49, 1.0), (20, 0.25, 47, 1.5), (100, 0.25, 50, 0.1)],
)
def test_surges_are_found_soon(rate: float, share: float, num_found: int, delay: float) -> None:
    """Of 50 surges: six buckets, twice the volume, 30 points more of it negative."""
    rng = np.random.default_rng(4)
    delays = []
    for _ in range(50):
        quiet = quiet_stream(Truth(rate, share), 130, rng)
        surging = with_surge(quiet, start=120, length=6, rate=2 * rate, share=share + 0.3, rng=rng)
        found = [surge for surge in surges_of(surging, AlertArgs()) if 120 <= surge.start < 126]
        delays += [found[0].start - 120] if found else []
    assert len(delays) >= num_found
    assert np.mean(delays) <= delay


def test_the_surges_of_the_sample_are_found_and_no_others() -> None:
    """Two months of market news, counted by day, with their true sentiments."""
    path = Path(ray_sft.samples.__file__).parent / "market_train.csv"
    found = defaultdict(lambda: [0, 0])
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            day = (datetime.fromisoformat(row["time"]) - START).days
            found[row["topic"], day][0] += 1
            found[row["topic"], day][1] += row["sentiment"] == "negative"
    newest = max(day for _, day in found) + 1
    raised = []
    for topic in sorted({topic for topic, _ in found}):
        days = sorted(day for name, day in found if name == topic)
        counts = [Counts(day, *found[topic, day]) for day in days]
        surges = find_surges(counts, AlertArgs(), newest=newest).surges
        raised += [(topic, surge.start, surge.last + 1) for surge in surges]
    assert raised == sorted((surge.topic, surge.first_day, surge.last_day) for surge in SURGES)
