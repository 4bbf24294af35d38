import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from ray_sft.core import ConfigError, DataError, validate
from ray_sft.models import load_processor, locate
from ray_sft.tasks import Example, Rejected, SequenceClassification
from tests.factories import LABELS, tiny_processor

TASK = SequenceClassification(labels=LABELS, max_length=16)


@pytest.fixture(scope="module")
def wordpieces():
    return load_processor(locate("embedded/minilm").processor)


def test_figures_are_those_of_sklearn():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(6, 0.4), size=200)
    targets = rng.integers(0, 5, size=200)  # the last label never occurs
    examples = [Example({"labels": np.asarray(t)}, length=1) for t in targets]
    metrics = TASK.metrics()
    metrics.update(TASK.decode({"probabilities": probabilities}, examples, None), examples)
    predicted = probabilities.argmax(axis=1)
    figures = metrics.compute()
    assert figures["accuracy"] == pytest.approx(accuracy_score(targets, predicted))
    assert figures["macro_f1"] == pytest.approx(f1_score(targets, predicted, average="macro"))
    assert figures["loss"] == pytest.approx(log_loss(targets, probabilities, labels=range(6)))
    assert figures["num_rows"] == 200


def test_rows_without_label_are_answered_but_not_measured():
    metrics = TASK.metrics()
    examples = [Example({}, length=1)]
    metrics.update(TASK.decode({"probabilities": np.eye(6)[:1]}, examples, None), examples)
    assert metrics.compute()["num_rows"] == 0


def test_predict_is_the_softmax_even_of_large_logits():
    logits = np.asarray([[1000.0, 999.0, -1000.0]])
    batch = {"input_ids": np.ones((1, 1)), "attention_mask": np.ones((1, 1))}
    found = TASK.predict(lambda _: {"logits": logits}, batch)["probabilities"]
    np.testing.assert_allclose(found, [[1 / (1 + np.exp(-1)), 1 / (1 + np.e), 0]], atol=1e-12)


def test_a_long_text_is_cut_as_the_tokenizer_cuts_it_and_counted(wordpieces):
    text = "card " * 40
    (example,) = TASK.encode([{"text": text}], wordpieces)
    expected = wordpieces(text, truncation=True, max_length=16)["input_ids"]
    assert example.arrays["input_ids"].tolist() == expected
    assert example.truncated == 42 - 16


def test_a_tokenizer_without_closing_token_keeps_the_beginning():
    processor = tiny_processor()
    text = "Where is my parcel? " * 9
    (example,) = TASK.encode([{"text": text}], processor)
    assert example.arrays["input_ids"].tolist() == processor(text)["input_ids"][:16]


@pytest.mark.parametrize("text", [None, "", "  \n", 7, "\u2603\u2603", "\u200b"])
def test_a_text_without_anything_to_read_is_rejected(wordpieces, text):
    (result,) = TASK.encode([{"text": text, "label": "card"}], wordpieces)
    assert isinstance(result, Rejected)
    assert result.reason.startswith("text ")


def test_an_unknown_label_is_rejected_by_its_name():
    (result,) = TASK.encode([{"text": "hello", "label": "crad"}], tiny_processor())
    assert result == Rejected("label 'crad' is not one of the task's labels")


def test_labels_are_learned_sorted_and_kept_when_given():
    learned = SequenceClassification().resolve({"label": ["b", "a"]})
    assert learned.labels == ("a", "b")
    given = SequenceClassification(labels=("b", "a"))
    assert given.resolve({"label": ["a", "b"]}) is given
    assert learned.model_options()["id2label"] == {0: "a", 1: "b"}
    assert learned.model_options()["label2id"] == {"a": 0, "b": 1}


def test_labels_of_a_former_model_keep_their_places():
    former = SequenceClassification(labels=("z", "b"))
    learned = SequenceClassification().resolve({"label": ["c", "b", "a"]}, former)
    assert learned.labels == ("z", "b", "a", "c")
    given = SequenceClassification(labels=("c", "b")).resolve({"label": ["c"]}, former)
    assert given.labels == ("z", "b", "c")
    assert SequenceClassification().resolve({"label": ["b"]}, former) == former


def test_one_label_is_no_classification():
    with pytest.raises(DataError, match=r"1 distinct label\(s\): \['a'\]"):
        SequenceClassification().resolve({"label": ["a"]})


def test_a_label_that_only_evaluation_has_is_named_with_the_nearest():
    task = SequenceClassification(labels=("card_lost", "refund"))
    with pytest.raises(DataError, match=r"eval data has label 'card_lots'.*'card_lost'\?"):
        task.check_values({"label": ["refund", "card_lots"]}, split="eval")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "a"], r"label 'a' stands twice"),
        (["a"], r"two labels or more"),
        (["a", " "], r"none of them empty"),
        ([True, False], r"tasks\.labels|labels\.0: .*\(got True\)"),
    ],
)
def test_labels_that_cannot_be_are_refused(labels, message):
    with pytest.raises(ConfigError, match=message):
        validate(SequenceClassification, {"labels": labels}, what="the task")


def test_scores_are_sorted_and_hold_every_label():
    (response,) = TASK.decode(
        {"probabilities": np.asarray([[0.1, 0.4, 0.2, 0.05, 0.2, 0.05]])},
        [Example({}, length=1)],
        None,
    )
    assert (response.label, response.score) == ("card", 0.4)
    assert [item.label for item in response.scores] == [
        "card",
        "parcel",
        "thanks",
        "account",
        "refund",
        "transfer",
    ]
