"""What two answers differ by, against numpy, scipy and the definitions."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from ray_sft.tasks.embedding import EmbeddingResponse
from ray_sft.tasks.entities import Entity, EntityResponse
from ray_sft.tasks.labelled_text import LabelScore
from ray_sft.tasks.multi_label_classification import MultiLabelResponse
from ray_sft.tasks.ranking import RankingResponse
from ray_sft.tasks.single_label import ClassificationResponse
from serve.release.compare import Agreement, Difference, compare, compare_texts
from serve.served import TranslatedText


def scores(**by_label: float) -> list[LabelScore]:
    ordered = sorted(by_label.items(), key=lambda item: -item[1])
    return [LabelScore(label=label, score=score) for label, score in ordered]


def one_label(**by_label: float) -> ClassificationResponse:
    found = scores(**by_label)
    return ClassificationResponse(label=found[0].label, score=found[0].score, scores=found)


def test_labels_agree_or_not_and_the_largest_score_difference_is_kept():
    (found,) = compare([one_label(a=0.7, b=0.2, c=0.1)], [one_label(a=0.5, b=0.45, c=0.05)])
    assert found.agrees is True
    assert found.figures["score_difference"] == pytest.approx(0.25)
    (found,) = compare([one_label(a=0.7, b=0.3)], [one_label(a=0.4, b=0.6)])
    assert found.agrees is False


def test_a_label_that_one_of_them_lacks_has_no_probability_there():
    (found,) = compare([one_label(a=0.6, b=0.4)], [one_label(a=0.6, c=0.4)])
    assert found.figures["score_difference"] == pytest.approx(0.4)


def test_label_sets_agree_when_they_are_equal_and_overlap_by_jaccard():
    mine = MultiLabelResponse(labels=["a", "b"], scores=scores(a=0.9, b=0.8, c=0.1))
    theirs = MultiLabelResponse(labels=["b", "c"], scores=scores(a=0.2, b=0.8, c=0.7))
    (found,) = compare([mine], [theirs])
    assert found.agrees is False
    assert found.figures["jaccard"] == pytest.approx(1 / 3)
    assert found.figures["score_difference"] == pytest.approx(0.7)
    none = MultiLabelResponse(labels=[], scores=scores(a=0.1))
    assert compare([none], [none])[0] == Difference(True, {"jaccard": 1.0, "score_difference": 0.0})


def entity(label: str, start: int, end: int) -> Entity:
    return Entity(label=label, start=start, end=end, first_word=0, last_word=0, score=0.9)


def test_entities_are_compared_by_label_and_both_ends():
    mine = EntityResponse(entities=[entity("PER", 0, 4), entity("LOC", 9, 15)])
    theirs = EntityResponse(
        entities=[entity("PER", 0, 4), entity("ORG", 9, 15), entity("LOC", 20, 25)]
    )
    (found,) = compare([mine], [theirs])
    assert found.agrees is False
    assert found.figures["entity_f1"] == pytest.approx(2 * 1 / (2 + 3))
    empty = EntityResponse(entities=[])
    assert compare([empty], [empty]) == [Difference(True, {"entity_f1": 1.0})]


def test_vectors_have_a_cosine_and_do_not_agree_or_disagree():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 16))
    (found,) = compare(
        [EmbeddingResponse(embedding=list(one))], [EmbeddingResponse(embedding=list(other))]
    )
    expected = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert found.agrees is None
    assert found.figures["cosine"] == pytest.approx(expected)
    (found,) = compare([EmbeddingResponse(embedding=[1.0])], [EmbeddingResponse(embedding=[1, 0])])
    assert found.agrees is False


@pytest.mark.parametrize("seed", range(5))
def test_the_orders_of_a_ranking_correlate_as_in_scipy(seed):
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, 6, size=(2, 12)) / 10  # with ties
    found = compare(
        [RankingResponse(score=value) for value in one],
        [RankingResponse(score=value) for value in other],
    )
    assert len(found) == 1
    assert found[0].figures["rank_correlation"] == pytest.approx(spearmanr(one, other).statistic)
    assert found[0].figures["score_difference"] == pytest.approx(np.abs(one - other).max())
    assert found[0].agrees == (one.argmax() == other.argmax())


def test_rankings_that_tell_nothing_apart():
    flat, steep = [RankingResponse(score=0.5)] * 3, [RankingResponse(score=s) for s in (0.1, 0.2)]
    assert compare(flat, flat)[0].figures["rank_correlation"] == 1.0
    assert compare(flat[:2], steep)[0].figures["rank_correlation"] == 0.0
    assert compare(flat[:1], steep[:1])[0].agrees is None


def test_texts_agree_when_they_are_equal_and_share_a_beginning():
    assert compare_texts("abcd", "abcd") == Difference(True, {"common_beginning": 1.0})
    assert compare_texts("abcd", "abxy") == Difference(False, {"common_beginning": 0.5})
    assert compare_texts("", "") == Difference(True, {"common_beginning": 1.0})
    written = TranslatedText(text="ab", num_tokens=1, is_whole=True)
    (found,) = compare([written], [written.model_copy(update={"text": "abcd"})])
    assert found == Difference(False, {"common_beginning": 0.5})


def test_answers_of_different_kinds_do_not_agree():
    assert compare([one_label(a=1.0)], [RankingResponse(score=1.0)]) == [Difference(False)]


def test_an_agreement_is_a_share_with_means_and_extremes():
    values = np.random.default_rng(1).random(50)
    agreement = Agreement()
    for number, value in enumerate(values):
        agreement.add(Difference(number % 5 != 0, {"score_difference": value}))
    agreement.add(Difference(None, {"cosine": 0.5}))
    found = agreement.report()
    assert found.compared == 51
    assert found.agreement == pytest.approx(40 / 50)
    figure = found.figures["score_difference"]
    assert figure.mean == pytest.approx(values.mean())
    assert (figure.least, figure.most) == pytest.approx((values.min(), values.max()))
    assert Agreement().report().agreement is None
