"""The order of the kinds, and both sides of each threshold."""

import pytest

from serve.assistant.args import Thresholds
from serve.assistant.decide import (
    Candidate,
    Decision,
    common_terms,
    decide,
    term_coverage,
)

THRESHOLDS = Thresholds(approved_similarity=0.75, approved_margin=0.125, evidence=0.5)


def candidate(identity: str, similarity: float, answer: str = "", **more: bool) -> Candidate:
    return Candidate(identity, answer or identity, similarity, **more)


@pytest.mark.parametrize(
    ("similarity", "kind"), [(0.74, "unknown"), (0.75, "approved"), (0.9, "approved")]
)
def test_an_approved_answer_needs_its_similarity(similarity: float, kind: str) -> None:
    assert decide([candidate("a", similarity)], [], thresholds=THRESHOLDS).kind == kind


@pytest.mark.parametrize(
    ("other", "kind"),
    [(0.5, "approved"), (0.75, "approved"), (0.76, "unknown"), (0.875, "unknown")],
)
def test_an_approved_answer_needs_its_margin(other: float, kind: str) -> None:
    found = [candidate("b", other), candidate("a", 0.875)]
    decision = decide(found, [], thresholds=THRESHOLDS)
    assert decision.kind == kind
    if kind == "approved":
        assert decision == Decision("approved", 0.875, "a")


def test_phrasings_of_the_same_answer_are_no_rivals() -> None:
    found = [candidate("a", 0.9), candidate("a", 0.89), candidate("copy", 0.88, answer="a")]
    assert decide(found, [], thresholds=THRESHOLDS) == Decision("approved", 0.9, "a")


def test_the_very_question_needs_no_margin_but_one_answer() -> None:
    found = [candidate("a", 0.99, is_exact=True), candidate("b", 0.98)]
    assert decide(found, [], thresholds=THRESHOLDS) == Decision("approved", 1.0, "a")
    both = [candidate("a", 0.99, is_exact=True), candidate("b", 0.99, is_exact=True)]
    assert decide(both, [], thresholds=THRESHOLDS).kind == "unknown"


@pytest.mark.parametrize(
    ("evidence", "kind"),
    [([0.2, 0.49], "unknown"), ([0.2, 0.5], "passages"), ([0.9], "passages"), ([], "unknown")],
)
def test_passages_need_their_evidence(evidence: list[float], kind: str) -> None:
    decision = decide([candidate("a", 0.6)], evidence, thresholds=THRESHOLDS)
    assert decision == Decision(kind, max(evidence, default=0.0))


def test_an_approved_answer_goes_before_passages() -> None:
    assert decide([candidate("a", 0.9)], [1.0], thresholds=THRESHOLDS).kind == "approved"
    assert decide(
        [candidate("a", 0.9), candidate("b", 0.9)], [1.0], thresholds=THRESHOLDS
    ).kind == ("passages")


def test_nothing_found_is_not_evidence_even_at_threshold_zero() -> None:
    lax = Thresholds(approved_similarity=0.0, approved_margin=0.0, evidence=0.0)
    assert decide([], [], thresholds=lax) == Decision("unknown", 0.0)
    assert (
        decide([candidate("a", 0.9), candidate("b", -0.2)], [], thresholds=lax).kind == "approved"
    )


def test_shares_of_terms() -> None:
    asked, held = frozenset("abcd"), frozenset("cdxyz")
    assert term_coverage(asked, held) == 0.5
    assert term_coverage(frozenset(), held) == 0.0
    assert common_terms(asked, held) == pytest.approx(4 / 9)
    assert common_terms(asked, asked) == 1.0
    assert common_terms(frozenset(), frozenset()) == 0.0
