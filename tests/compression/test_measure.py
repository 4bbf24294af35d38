import sys
from dataclasses import dataclass, field

import numpy as np
import pytest

from ray_sft.compression import make_workload, measure
from ray_sft.inference import Predictor


@pytest.fixture(autouse=True)
def as_many_rounds_as_ever(monkeypatch):
    monkeypatch.setattr(sys.modules["ray_sft.compression.measure"], "_ROUNDS", 15)


@dataclass
class Scripted:
    """A workload whose times are known, to check the arithmetic."""

    times: list[float]
    unit: str = "rows/s"
    calls: list[str] = field(default_factory=list)

    def single(self) -> list[float]:
        self.calls.append("single")
        return self.times

    def batch(self) -> float:
        self.calls.append("batch")
        return 100.0 + len(self.calls)


def test_medians_count_and_the_warm_up_does_not():
    first, second = Scripted([0.001, 0.002, 0.009]), Scripted([0.5])
    one, two = measure([first, second])
    assert one.p50_ms == pytest.approx(2.0)
    assert two.p50_ms == pytest.approx(500.0)
    assert one.throughput == np.median([100 + 2 * call for call in range(2, 17)])
    assert first.calls == ["single", "batch"] * 16


def test_slow_models_are_timed_at_least_five_times():
    slow = Scripted([1.0])
    measure([slow], time_limit_s=0.0)
    assert len(slow.calls) == 2 * 6


def test_a_classifier_is_timed_by_rows_and_a_decoder_by_tokens(
    classifier, intents, decoder, own_words
):
    rows = make_workload(Predictor(classifier), intents["intent"], num_threads=1)
    tokens = make_workload(Predictor(decoder), own_words["reply"], num_threads=1)
    assert (rows.unit, tokens.unit) == ("rows/s", "tokens/s")
    assert len(rows.single()) == 8
    assert rows.batch() > 0
    assert all(seconds > 0 for seconds in tokens.single())
    assert tokens.batch() > 0
