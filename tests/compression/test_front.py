import itertools

import pytest

from ray_sft.bundle import Bundle
from ray_sft.compression import UNFINISHED, Candidate, Tried, pareto_front, publish
from ray_sft.compression.report import StepReport
from ray_sft.inference import Predictor, check_samples
from tests.compression.conftest import run_chain

BUDGET = {"accuracy": -0.01}


def report(*, accuracy: float, num_bytes: int, speed: float = 1.0) -> StepReport:
    return StepReport(
        name="quantize_int8",
        variant="int8",
        path="",
        num_bytes=num_bytes,
        metrics={"intent/accuracy": accuracy},
        p50_ms=1 / speed,
        throughput=speed,
        throughput_unit="rows/s",
        num_threads=1,
        speedup_over_source=speed,
        latency_speedup_over_source=speed / 2,
    )


def tried(accuracy: float, num_bytes: int, speed: float, *, layers=1, note="") -> Tried:
    source = report(accuracy=0.9, num_bytes=800)
    last = report(accuracy=accuracy, num_bytes=num_bytes, speed=speed)
    one = Tried(candidate=Candidate(layers=layers), reports=(source, last), note=note)
    return one.missing(BUDGET)


def test_gains_are_over_the_source():
    one = tried(0.9, 200, 6.0)
    assert one.gain("size") == 4.0
    assert one.gain("throughput") == 6.0
    assert one.gain("latency") == 3.0


def test_the_budget_comes_first_then_the_gain_then_how_near_it_is():
    fast = tried(0.895, 200, 8.0)
    slow = tried(0.9, 200, 2.0)
    slower_than_source = tried(0.9, 200, 0.5)
    near, far = tried(0.88, 100, 20.0), tried(0.5, 50, 40.0)
    stopped = tried(0.7, 400, 3.0, note="the student misses the budget")
    refused = Tried(candidate=Candidate(), note="export_onnx: a logit differs")
    scores = [
        one.score("throughput", BUDGET)
        for one in (fast, slow, slower_than_source, near, stopped, far, refused)
    ]
    assert scores[:3] == [3.0, 1.0, -1.0]
    for higher, lower in itertools.pairwise(scores):
        assert higher >= lower
    assert scores[3] > scores[4]
    assert scores[-1] > UNFINISHED
    assert [one.keeps_budget for one in (fast, near, stopped, refused)] == [True, *[False] * 3]
    assert near.misses == {"intent/accuracy": pytest.approx(0.01)}
    assert near.worst_miss == pytest.approx(0.01)


def test_nobody_would_take_another_than_those_on_the_front():
    small = tried(0.7, 50, 8.0, layers=1)
    balanced = tried(0.85, 100, 6.0, layers=2)
    good = tried(0.9, 400, 2.0, layers=3)
    worse = tried(0.84, 120, 5.0, layers=4)
    twin = tried(0.85, 100, 6.0, layers=5)
    unfinished = tried(0.95, 10, 90.0, layers=6, note="stopped")
    everything = [good, worse, balanced, unfinished, small, twin]
    front = pareto_front(everything, "intent/accuracy", higher_is_better=True)
    assert front == (small, balanced, good)
    for one in everything:
        if one.is_finished and one not in front:
            assert any(
                other.gain("size") >= one.gain("size")
                and other.gain("latency") >= one.gain("latency")
                and other.reports[-1].metrics["intent/accuracy"]
                >= one.reports[-1].metrics["intent/accuracy"]
                for other in front
            )
    lowest = pareto_front([small, good], "intent/accuracy", higher_is_better=False)
    assert lowest == (small,)


def test_the_best_is_published_with_where_it_came_from(classifier, intents, tmp_path):
    candidate = Candidate()
    passes = candidate.passes(epochs=1, steps=0)
    reports = run_chain(passes, classifier, intents, tmp_path / "pool")
    best = Tried(candidate=candidate, reports=tuple(reports))
    bundle = publish(best, classifier, tmp_path / "compressed", budget=BUDGET)
    again = Bundle.open(tmp_path / "compressed")
    assert again.fingerprint == bundle.fingerprint
    assert again.manifest.variant == "compressed"
    assert again.manifest.parent == classifier.fingerprint
    assert again.manifest.properties["steps"] == ["export_onnx", "quantize_int8"]
    assert again.manifest.properties["candidate"]["precision"] == "int8"
    assert again.manifest.metrics == reports[-1].metrics
    made = Bundle.open(reports[-1].path)
    assert again.weights_fingerprint == made.weights_fingerprint
    card = (again.path / "README.md").read_text(encoding="utf-8")
    for variant in ("trained", "export_onnx", "compressed"):
        assert f"| {variant} |" in card
    exported = reports[1]
    change = exported.metrics["intent/accuracy"] - reports[0].metrics["intent/accuracy"]
    gates = f"| export_onnx | {exported.parity:.2g} | {exported.batching:.2g} | - | {change:+.4f} |"
    assert gates in card
    assert f"`{classifier.fingerprint[:12]}`" in card
    assert "- Budget: accuracy -0.01" in card
    check_samples(Predictor(again))
