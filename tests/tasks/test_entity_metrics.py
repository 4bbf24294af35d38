import math

import numpy as np
import pytest

from ray_sft.tasks import Example, TokenClassification
from ray_sft.tasks.entity_metrics import EntityRow, entity_table
from ray_sft.tasks.entity_tags import tag_ids, tag_names


def measured(gold, predicted, *, lost=(), labels=("MISC", "PER")):
    """The metrics of sentences whose words are one token each."""
    task = TokenClassification(labels=labels)
    index = {label: place for place, label in enumerate(labels)}
    num_tags = len(tag_names(labels))
    metrics = task.metrics()
    for right, guess in zip(gold, predicted, strict=True):
        places = np.arange(len(right.split()))
        arrays = {"word_starts": places, "words": places, "char_starts": places}
        arrays |= {
            "char_ends": places + 1,
            "labels": np.asarray(tag_ids(right.split(), "bio", index)),
            "lost_entities": np.asarray([index[label] for label in lost], dtype=np.int32),
        }
        example = Example(arrays, len(places))
        chosen = tag_ids(guess.split(), "bio", index)
        log_probabilities = np.log(0.1 / num_tags + 0.9 * np.eye(num_tags)[chosen])
        responses = task.decode({"log_probabilities": log_probabilities[None]}, [example], None)
        metrics.update(responses, [example])
    return metrics


def test_figures_of_a_published_case():
    """The example of seqeval's README: MISC is one word too long, PER is right."""
    figures = measured(
        ["O O O B-MISC I-MISC I-MISC O", "B-PER I-PER O"],
        ["O O B-MISC I-MISC I-MISC I-MISC O", "B-PER I-PER O"],
    ).compute()
    for name in ("f1", "precision", "recall", "macro_f1", "weighted_f1"):
        assert figures[name] == 0.5, name
    assert figures["f1[MISC]"] == figures["precision[MISC]"] == figures["recall[MISC]"] == 0.0
    assert figures["f1[PER]"] == figures["precision[PER]"] == figures["recall[PER]"] == 1.0
    assert figures["support[MISC]"] == figures["support[PER]"] == 1.0
    assert (figures["num_rows"], figures["num_entities"]) == (2.0, 2.0)


def test_figures_of_a_case_counted_by_hand():
    """Gold: 3 PER, 1 MISC. Predicted: 2 PER, 2 MISC. Right: 2 PER, 0 MISC.

    The PER that is called MISC counts against both.
    """
    figures = measured(
        ["B-PER B-PER O B-PER I-PER", "O B-MISC I-MISC"],
        ["B-PER B-PER O B-MISC I-MISC", "O B-MISC O"],
    ).compute()
    assert figures["precision"] == pytest.approx(2 / 4)
    assert figures["recall"] == pytest.approx(2 / 4)
    assert figures["f1"] == pytest.approx(4 / 8)
    assert figures["precision[PER]"] == pytest.approx(2 / 2)
    assert figures["recall[PER]"] == pytest.approx(2 / 3)
    assert figures["f1[PER]"] == pytest.approx(4 / 5)
    assert figures["f1[MISC]"] == 0.0
    assert figures["macro_f1"] == pytest.approx((4 / 5 + 0) / 2)
    assert figures["weighted_f1"] == pytest.approx((3 * 4 / 5 + 0) / 4)


def conlleval(gold, predicted):
    """Correct, predicted and gold entities as conlleval.pl counts them, word by word."""
    correct = found = real = 0
    for sentence in zip(gold, predicted, strict=True):
        right, guess = ([*tags.split(), "O"] for tags in sentence)
        both_inside = False
        before = ("O", "O")
        for tags in zip(right, guess, strict=True):
            ends = [ends_chunk(old, new) for old, new in zip(before, tags, strict=True)]
            starts = [starts_chunk(old, new) for old, new in zip(before, tags, strict=True)]
            if both_inside:
                if all(ends) and before[0][1:] == before[1][1:]:
                    both_inside = False
                    correct += 1
                elif ends[0] != ends[1] or tags[0][2:] != tags[1][2:]:
                    both_inside = False
            if all(starts) and tags[0][2:] == tags[1][2:]:
                both_inside = True
            real += starts[0]
            found += starts[1]
            before = tags
    return correct, found, real


def ends_chunk(old, new):
    return old != "O" and (new[0] in "BO" or old[2:] != new[2:])


def starts_chunk(old, new):
    return new != "O" and (new[0] == "B" or old == "O" or old[2:] != new[2:])


def test_counts_are_those_of_conlleval_on_any_tags():
    rng = np.random.default_rng(0)
    names = tag_names(("MISC", "PER"))
    gold, predicted = [], []
    for length in rng.integers(1, 12, size=400):
        right = rng.choice(names, size=length)
        guess = np.where(rng.random(length) < 0.8, right, rng.choice(names, size=length))
        gold.append(" ".join(right))
        predicted.append(" ".join(guess))
    figures = measured(gold, predicted).compute()
    correct, found, real = conlleval(gold, predicted)
    assert 0 < correct < min(found, real)
    assert figures["num_entities"] == real
    assert figures["precision"] == pytest.approx(correct / found)
    assert figures["recall"] == pytest.approx(correct / real)
    assert figures["f1"] == pytest.approx(2 * correct / (found + real))


def test_an_entity_that_no_word_is_left_of_is_not_found():
    figures = measured(["B-PER O"], ["B-PER O"], lost=("MISC", "MISC")).compute()
    assert figures["recall"] == pytest.approx(1 / 3)
    assert figures["support[MISC]"] == 2.0
    assert figures["f1[MISC]"] == 0.0


def test_loss_is_that_of_the_words():
    figures = measured(["B-PER O O", "O"], ["B-PER O B-MISC", "O"]).compute()
    right, wrong = 0.9 + 0.1 / 5, 0.1 / 5
    expected = -(3 * math.log(right) + math.log(wrong)) / 4
    assert figures["loss"] == pytest.approx(expected)


def test_nothing_predicted_is_zero_and_a_type_that_never_occurs_is_no_number():
    figures = measured(["B-PER O"], ["O O"]).compute()
    assert figures["precision"] == figures["recall"] == figures["f1"] == figures["macro_f1"] == 0.0
    assert math.isnan(figures["f1[MISC]"])
    assert figures["support[MISC]"] == 0.0


def test_rows_without_entities_are_counted_and_have_no_f1():
    figures = measured(["O O"], ["O O"]).compute()
    assert math.isnan(figures["f1"])
    assert (figures["num_rows"], figures["num_entities"]) == (1.0, 0.0)


def test_rows_without_tags_are_answered_but_not_measured():
    task = TokenClassification(labels=("PER",))
    places = np.arange(1)
    arrays = dict.fromkeys(("word_starts", "words", "char_starts", "char_ends"), places)
    metrics = task.metrics()
    examples = [Example(arrays, 1)]
    responses = task.decode({"log_probabilities": np.log(np.eye(3)[None, :1] + 1e-9)}, examples, 0)
    metrics.update(responses, examples)
    assert metrics.compute()["num_rows"] == 0


def test_merging_is_adding():
    sentences = (["B-PER O", "B-MISC I-MISC", "O B-PER"], ["B-PER O", "B-MISC O", "B-PER O"])
    whole = measured(*sentences)
    merged = measured([], [])
    for gold, predicted in zip(*sentences, strict=True):
        merged.merge(measured([gold], [predicted]))
    assert merged.compute() == pytest.approx(whole.compute())


def test_table_has_a_line_for_each_type_and_three_for_all():
    figures = measured(
        ["B-PER B-PER O B-PER I-PER", "O B-MISC I-MISC"],
        ["B-PER B-PER O B-MISC I-MISC", "O B-MISC O"],
        labels=("MISC", "NONE", "PER"),
    ).compute()
    table = entity_table(figures)
    assert [row.label for row in table] == ["MISC", "NONE", "PER", "micro", "macro", "weighted"]
    misc, none, per, micro, macro, weighted = table
    assert misc == EntityRow("MISC", 0.0, 0.0, 0.0, 1)
    assert all(math.isnan(value) for value in none[1:4])
    assert per[1:] == pytest.approx((1.0, 2 / 3, 4 / 5, 3))
    assert micro[1:] == pytest.approx((1 / 2, 1 / 2, 1 / 2, 4))
    assert macro[1:] == pytest.approx((1 / 2, 1 / 3, 2 / 5, 4))
    assert weighted[1:] == pytest.approx((3 / 4, 1 / 2, 3 / 5, 4))
    assert macro.f1 == pytest.approx(figures["macro_f1"])
    assert weighted.f1 == pytest.approx(figures["weighted_f1"])


def test_table_of_nothing_has_no_numbers():
    table = entity_table(measured([], [], labels=()).compute())
    assert [row.label for row in table] == ["micro", "macro", "weighted"]
    assert all(math.isnan(row.f1) and row.support == 0 for row in table)
