import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, log_loss
from torch.nn.functional import binary_cross_entropy_with_logits

from ray_sft.core import DataError
from ray_sft.tasks import Example, MultiLabelClassification, Rejected
from tests.factories import LABELS, TASKS, tiny_processor

TASK = MultiLabelClassification(labels=LABELS, max_length=16)
ROW = {"text": "Where is my parcel?"}


def labels_of(value):
    (example,) = TASK.encode([ROW | {"labels": value}], tiny_processor())
    return example if isinstance(example, Rejected) else example.arrays.get("labels")


def flags(*names):
    return [int(label in names) for label in LABELS]


@pytest.mark.parametrize("value", [["card", "refund"], "card|refund", " refund | card|"])
def test_labels_are_a_list_or_words_between_separators(value):
    assert labels_of(value).tolist() == flags("card", "refund")


def test_a_row_of_no_label_differs_from_a_row_without_labels():
    assert labels_of([]).tolist() == labels_of("").tolist() == flags()
    assert labels_of(None) is None


def test_an_unknown_label_is_rejected_with_its_name():
    assert labels_of("card|weather") == Rejected("label 'weather' is not one of the task's labels")


def test_labels_are_read_from_lists_and_joined_words_alike():
    task = MultiLabelClassification(separator=";")
    assert task.resolve({"labels": ["b;a", "c"]}).labels == ("a", "b", "c")
    with pytest.raises(DataError, match="1 distinct"):
        task.resolve({"labels": ["a", "a;a"]})
    with pytest.raises(DataError, match=r"the eval data has label 'd'"):
        task.resolve({"labels": ["a;b"]}).check_values({"labels": ["a;d"]}, split="eval")


def test_the_loss_is_the_binary_cross_entropy_of_every_decision():
    case = TASKS[MultiLabelClassification]()
    examples = case.task.encode([*case.rows, *case.unlabelled[:2]], case.processor)
    batch = {
        name: torch.from_numpy(array)
        for name, array in case.task.collate(examples, case.processor).items()
    }
    loss = case.task.loss(case.model, batch)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = case.model(**inputs).logits[:6]
    expected = binary_cross_entropy_with_logits(
        logits, batch["labels"][:6].float(), reduction="sum"
    )
    torch.testing.assert_close(loss.loss_sum, expected)
    assert loss.num_targets == 6 * len(LABELS)


def test_figures_are_those_of_sklearn():
    rng = np.random.default_rng(0)
    chances = rng.random((300, 6))
    wanted = rng.random((300, 6)) < 0.3
    wanted[:, 5], chances[:, 5] = False, 0.1  # a label that never occurs
    examples = [Example({"labels": row.astype(np.int32)}, length=1) for row in wanted]
    metrics, other = TASK.metrics(), TASK.metrics()
    for part, chosen in ((metrics, slice(100)), (other, slice(100, 300))):
        responses = TASK.decode({"probabilities": chances[chosen]}, examples[chosen], None)
        part.update(responses, examples[chosen])
    metrics.merge(other)
    found, figures = chances >= 0.5, metrics.compute()
    assert figures["micro_f1"] == pytest.approx(f1_score(wanted, found, average="micro"))
    expected = f1_score(wanted[:, :5], found[:, :5], average="macro")
    assert figures["macro_f1"] == pytest.approx(expected)
    assert figures["exact"] == pytest.approx((wanted == found).all(axis=1).mean())
    both = np.stack([1 - chances.ravel(), chances.ravel()], axis=1)
    assert figures["loss"] == pytest.approx(log_loss(wanted.ravel().astype(int), both))
    assert figures["num_rows"] == 300


def test_rows_without_labels_are_answered_but_not_measured():
    metrics = TASK.metrics()
    examples = [Example({}, length=1)]
    metrics.update(TASK.decode({"probabilities": np.ones((1, 6))}, examples, None), examples)
    assert metrics.compute()["num_rows"] == 0


def test_labels_from_the_threshold_on_apply_most_probable_first():
    task = TASK.model_copy(update={"threshold": 0.3})
    probabilities = np.asarray([[0.3, 0.9, 0.1, 0.5, 0.0, 0.29]])
    (answer,) = task.decode({"probabilities": probabilities}, [Example({}, length=1)], None)
    assert answer.labels == [LABELS[1], LABELS[3], LABELS[0]]
    assert [item.label for item in answer.scores][:3] == answer.labels


def test_probabilities_of_large_logits_are_finite():
    batch = {"input_ids": np.ones((1, 1)), "attention_mask": np.ones((1, 1))}
    logits = np.asarray([[1000.0, -1000.0, 0.0]])
    found = TASK.predict(lambda _: {"logits": logits}, batch)["probabilities"]
    np.testing.assert_allclose(found, [[1.0, 0.0, 0.5]])
