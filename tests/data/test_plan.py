import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_sft.data.plan import StepPlan, best_fit, num_positions, padded_chunks

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=80).map(np.asarray)


@given(LENGTHS, st.integers(1, 200), st.integers(0, 5), st.integers(0, 3))
def test_each_epoch_holds_every_row_once_within_the_budget(lengths, budget, seed, epoch):
    steps = StepPlan(lengths, budget, seed).epoch_steps(epoch)
    assert sorted(np.concatenate(steps).tolist()) == list(range(len(lengths)))
    assert all(len(step) == 1 or lengths[step].sum() <= budget for step in steps)


def test_epochs_differ_and_the_same_seed_repeats():
    lengths = np.full(50, 3)
    plan = StepPlan(lengths, 30, 7)
    first, again = plan.epoch_steps(0), StepPlan(lengths, 30, 7).epoch_steps(0)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(np.concatenate(first), np.concatenate(plan.epoch_steps(1)))
    other = np.concatenate(StepPlan(lengths, 30, 8).epoch_steps(0))
    assert not np.array_equal(np.concatenate(first), other)


def counts(weights, epoch):
    plan = StepPlan(np.ones(len(weights), dtype=int), 10, 3, np.asarray(weights))
    return np.bincount(np.concatenate(plan.epoch_steps(epoch)), minlength=len(weights))


def test_a_whole_weight_is_how_often_an_epoch_has_a_row():
    assert counts([1.0, 2.0, 3.0, 1.0] * 10, 0).tolist() == [1, 2, 3, 1] * 10


def test_what_is_left_of_a_weight_is_a_chance_drawn_anew_each_epoch():
    weights = [0.25, 1.5] * 2000
    first, second = counts(weights, 0), counts(weights, 1)
    assert not np.array_equal(first, second)
    for found in (first, second):
        assert set(found[::2]) == {0, 1}
        assert set(found[1::2]) == {1, 2}
        assert abs(found[::2].mean() - 0.25) < 0.03
        assert abs(found[1::2].mean() - 1.5) < 0.03


def test_weights_of_one_leave_the_order_as_it_is():
    lengths = np.arange(1, 40)
    plain, weighted = StepPlan(lengths, 50, 3), StepPlan(lengths, 50, 3, np.ones(39))
    for one, other in zip(plain.epoch_steps(1), weighted.epoch_steps(1), strict=True):
        assert np.array_equal(one, other)


def test_an_epoch_in_which_no_row_is_drawn_has_no_steps():
    plan = StepPlan(np.ones(1, dtype=int), 10, 0, np.asarray([0.01]))
    assert plan.epoch_steps(0) == []


@given(LENGTHS, st.integers(1, 8), st.booleans())
def test_micro_batches_hold_a_step_exactly(lengths, num, packed):
    plan = StepPlan(lengths, 10**6, 0)
    row_length = 60 if packed else None
    batches = plan.micro_batches(np.arange(len(lengths)), num=num, row_length=row_length)
    assert len(batches) == num
    found = sorted(sample for rows in batches for row in rows for sample in row)
    assert found == list(range(len(lengths)))
    if packed:
        assert all(lengths[row].sum() <= 60 for rows in batches for row in rows)
    else:
        assert all(len(row) == 1 for rows in batches for row in rows)
    width = [max(lengths[row].sum() for row in rows) if rows else 0 for rows in batches]
    assert num_positions(batches, lengths) == sum(
        w * len(rows) for w, rows in zip(width, batches, strict=True)
    )
    assert num_positions(batches, lengths) >= lengths.sum()


def test_positions_of_padding_are_those_of_no_sample():
    lengths = np.asarray([5, 3, 4, 1])
    assert num_positions([[[0], [1]], [[2], [3]], []], lengths) == 5 * 2 + 4 * 2
    assert num_positions([[[0, 1], [2, 3]]], lengths) == 8 * 2


@given(st.lists(st.integers(1, 9), min_size=1, max_size=7).map(np.asarray), st.integers(1, 3))
@settings(max_examples=60)
def test_padded_chunks_have_the_least_largest_size(lengths, num):
    """Against every way to cut the rows, sorted by length, into at most ``num`` runs."""

    def largest(chunks):
        return max(max(lengths[c]) * len(c) for c in chunks if len(c))

    ordered = sorted(range(len(lengths)), key=lambda i: -lengths[i])

    def cuts(rest, left):
        if left == 1:
            yield [rest]
            return
        for size in range(len(rest) + 1):
            for tail in cuts(rest[size:], left - 1):
                yield [rest[:size], *tail]

    best = min(largest(c) for c in cuts(ordered, num))
    assert largest(padded_chunks(np.arange(len(lengths)), lengths, num=num)) == best


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60).map(np.asarray))
def test_best_fit_stays_within_its_bound(lengths):
    rows = best_fit(np.arange(len(lengths)), lengths, capacity=30)
    lower_bound = -(-int(lengths.sum()) // 30)
    assert lower_bound <= len(rows) <= 11 / 9 * len(lengths) + 1
    # no two rows would fit into one: otherwise the later one's samples had gone there
    fills = sorted(int(lengths[row].sum()) for row in rows)
    assert len(fills) < 2 or fills[0] + fills[1] > 30


@pytest.mark.parametrize("num", [2, 5])
def test_more_workers_than_rows_leaves_empty_micro_batches(num):
    assert [len(c) for c in padded_chunks([0], np.asarray([4]), num=num)] == [1] + [0] * (num - 1)
