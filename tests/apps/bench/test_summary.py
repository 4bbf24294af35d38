"""Figures of outcomes that the test made: which are counted where, and what comes out."""

import json

import numpy as np
import pytest

from apps.bench import Plan
from apps.bench.load import Load
from apps.bench.outcome import Outcome
from apps.bench.page import render_page
from apps.bench.summary import summarize


def load_of(outcomes, **parts):
    """A load that is measured from 100 to 110."""
    load = Load(Plan(**{"url": "http://host", "texts": ("a",), "duration_s": 10.0} | parts), [b""])
    load.begins_at, load.ends_at = 100.0, 110.0
    for outcome in outcomes:
        load.records.add(outcome)
    return load


def good(start, latency_s, **more):
    return Outcome(start, start + latency_s, status=200, **more)


def test_percentiles_are_those_of_a_known_sample():
    values = np.random.default_rng(0).permutation(np.arange(1, 1001)) / 1e3
    found = summarize(load_of(good(101.0, value) for value in values)).latency_ms
    # the k-th of n values is the percentile (k - 1) / (n - 1)
    expected = {"p50": 500.5, "p90": 900.1, "p95": 950.05, "p99": 990.01, "max": 1000.0}
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-9)
    assert found.mean == pytest.approx(500.5)


def test_what_belongs_to_the_warm_up_or_ends_late_is_counted_where_it_belongs():
    outcomes = [
        good(99.0, 0.5, num_tokens=1000),  # of the warm-up
        good(99.9, 0.3, num_tokens=10),  # asked in the warm-up, answered within the duration
        good(105.0, 0.1, num_tokens=10),
        good(109.9, 5.0, num_tokens=10),  # asked in time, answered after it
    ]
    found = summarize(load_of(outcomes, texts_per_request=4))
    assert found.requests == 2  # of which the latencies are
    assert found.latency_ms.max == pytest.approx(5000)
    assert found.requests_per_s == pytest.approx(0.2)  # what the service did in ten seconds
    assert found.texts_per_s == pytest.approx(0.8)
    assert found.tokens_per_s == pytest.approx(2.0)


def test_failures_have_their_own_counts():
    outcomes = [good(101.0, 0.1)] * 3
    outcomes += [Outcome(101.0, 101.001, status=429, code="queue_full")] * 2
    outcomes += [Outcome(101.0, 131.0, code="timeout"), Outcome(99.0, 99.1, code="timeout")]
    outcomes += [good(102.0, 0.1, code="item_failed")]
    found = summarize(load_of(outcomes))
    assert (found.requests, found.failed) == (3, 4)
    assert found.errors == {"queue_full": 2, "timeout": 1, "item_failed": 1}
    assert found.statuses == {"200": 4, "429": 2, "none": 1}
    assert found.latency_ms.p99 == pytest.approx(100)
    assert found.requests_per_s == pytest.approx(0.3)


def test_what_no_reply_tells_is_left_out():
    outcomes = [good(101.0, 0.1), good(101.0, 0.1, queue_ms=4.0, batch_size=2)]
    found = summarize(load_of(outcomes))
    assert found.queue_ms.mean == 4.0
    assert found.batch_size.max == 2
    assert found.inference_ms is None
    assert found.first_token_ms is None


def test_the_figures_are_json_with_few_digits():
    tree = summarize(load_of([good(101.0, 0.123456789)])).tree()
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree
    assert tree["latency_ms"]["p50"] == 123.46
    assert tree["rate"] is None


def test_the_page_shows_everything_and_obeys_nothing():
    outcomes = [good(100.0 + 0.01 * number, 0.01 + 0.0001 * number) for number in range(900)]
    outcomes += [Outcome(105.0, 105.1, status=500, code="<script>alert(1)</script>")]
    load = load_of(outcomes, url="http://host/<b>", rate=90.0)
    page = render_page(summarize(load), load)
    assert page.count("<svg") == 2
    assert "90 requests a second (poisson)" in page
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page
    empty = load_of([Outcome(105.0, 105.1, code="timeout")])
    assert "<svg" not in render_page(summarize(empty), empty)
