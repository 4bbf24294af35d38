"""What lies behind the figures: against scikit-learn, and by hand."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from ray_sft.evaluation.detail import Detail, detail_of, evaluate_in_detail
from ray_sft.evaluation.evaluate import evaluate
from ray_sft.inference import TorchRunner
from ray_sft.tasks import Judgement
from tests.factories import TASKS, CausalLanguageModel, SequenceClassification, TokenClassification

RNG = np.random.default_rng(0)
LABELS = ["a", "b", "c", "never answered"]


def judgements(count=200):
    expected = RNG.choice(LABELS, count, p=[0.5, 0.2, 0.2, 0.1])
    answered = np.where(RNG.random(count) < 0.6, expected, RNG.choice(LABELS[:3], count))
    answered = np.where(answered == LABELS[3], "a", answered)
    return [
        Judgement(str(one), str(two), float(score), f"text {number}")
        for number, (one, two, score) in enumerate(
            zip(expected, answered, RNG.uniform(0.2, 1, count), strict=True)
        )
    ]


def test_labels_and_averages_are_those_of_scikit_learn():
    given = judgements()
    expected = [one.expected for one in given]
    answered = [one.answered for one in given]
    rows = {row.label: row for row in detail_of(given).labels}
    for average in (None, "micro", "macro", "weighted"):
        found = precision_recall_fscore_support(
            expected, answered, labels=LABELS, average=average, zero_division=0
        )
        names = LABELS if average is None else [average]
        values = np.array(found[:3], dtype=float).reshape(3, -1).T
        for name, line in zip(names, values, strict=True):
            row = rows[name]
            assert (row.precision, row.recall, row.f1) == pytest.approx(tuple(line))
    assert rows["never answered"].support == expected.count("never answered")
    assert rows["macro"].support == len(given)


def test_every_decision_stands_in_the_confusion():
    given = judgements()
    confusion = detail_of(given).confusion
    for one in LABELS:
        for two in LABELS:
            count = sum(j.expected == one and j.answered == two for j in given)
            assert confusion[one].get(two, 0) == count


def test_calibration_compares_scores_with_what_is_right():
    sure = [Judgement("a", "a" if n < 3 else "b", 0.95, "") for n in range(4)]
    unsure = [Judgement("a", "a" if n < 1 else "b", 0.55, "") for n in range(2)]
    unknown = [Judgement("a", "a", float("nan"), "")]
    detail = detail_of([*sure, *unsure, *unknown])
    assert [(b.accuracy, b.count) for b in detail.calibration] == [(0.5, 2), (0.75, 4)]
    assert [b.confidence for b in detail.calibration] == pytest.approx([0.55, 0.95])
    expected = (2 * 0.05 + 4 * 0.2) / 6
    assert detail.expected_calibration_error == pytest.approx(expected)


def test_the_surest_mistakes_come_first():
    given = judgements()
    wrong = sorted((j.score for j in given if j.expected != j.answered), reverse=True)
    mistakes = detail_of(given).mistakes
    assert [one.score for one in mistakes] == wrong[: len(mistakes)]
    assert all(one.expected != one.answered for one in mistakes)


def test_words_outside_of_entities_are_no_label():
    given = [Judgement("O", "O", 1.0, ""), Judgement("PER", "O", 1.0, "")]
    rows = {row.label: row for row in detail_of(given).labels}
    assert set(rows) == {"PER", "micro", "macro", "weighted"}
    assert rows["micro"].support == 1
    assert rows["micro"].recall == 0.0


def test_nothing_to_judge_is_no_detail():
    found, nothing = detail_of([]), Detail()
    assert found.labels == nothing.labels
    assert not found.mistakes


@pytest.mark.parametrize("kind", [SequenceClassification, TokenClassification, CausalLanguageModel])
def test_one_pass_gives_the_figures_and_the_detail(kind):
    case = TASKS[kind]()
    examples = case.task.encode(case.rows, case.processor)
    given = case.task, TorchRunner(case.model), case.processor, examples
    figures, detail = evaluate_in_detail(*given)
    assert figures == pytest.approx(evaluate(*given))
    counted = sum(sum(row.values()) for row in detail.confusion.values())
    num_words = sum(len(one.arrays.get("words", ())) for one in examples)
    num_rows = len(examples)
    assert counted == {SequenceClassification: num_rows, TokenClassification: num_words}.get(
        kind, 0
    )
    if kind is SequenceClassification:
        right = sum(row.get(label, 0) for label, row in detail.confusion.items())
        assert figures["accuracy"] == pytest.approx(right / counted)
