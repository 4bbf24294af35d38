"""What is said, from what was found: the approved answer, or a quotation with its citations.

Extractive: every word of an answer stands in the knowledge, so that nothing is made up and
nothing in a retrieved text can instruct anyone.
"""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from serve.assistant.args import AssistantArgs
from serve.assistant.decide import (
    Candidate,
    Decision,
    common_terms,
    decide,
    term_coverage,
)
from serve.assistant.language import Language, search_text, terms
from serve.assistant.passages import split_sentences
from serve.assistant.schema import AssistantAnswer, Citation, Intent
from serve.assistant.search import Hit

__all__ = ["Found", "Judgement", "compose", "judge", "quote", "suggest"]

_QUOTED_SENTENCES = 3
_NUM_SUGGESTIONS = 3
_NOT_A_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Found:
    """What the knowledge has for a question, in one of its languages."""

    question: str
    language: Language
    """Of the question."""
    questions: Sequence[Hit]
    """Phrasings of approved answers."""
    passages: Sequence[Hit]
    """Best first."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The decision and the figures behind it."""

    decision: Decision
    similarities: Sequence[float]
    """Of ``Found.questions``."""
    evidence: Sequence[tuple[Hit, float]]
    """The passages that are evidence enough, in their order, with what they are worth."""


def judge(found: Found, args: AssistantArgs) -> Judgement:
    """Compares the question with what was found, and decides."""
    asked = terms(found.question)
    similarities = [
        common_terms(asked, terms(hit.text)) if hit.similarity is None else hit.similarity
        for hit in found.questions
    ]
    evidence = [
        term_coverage(asked, terms(f"{hit.title}\n{hit.text}"))
        if hit.similarity is None
        else hit.similarity
        for hit in found.passages
    ]
    plain = _plain(found.question)
    candidates = [
        Candidate(hit.document_id, hit.answer, similarity, is_exact=_plain(hit.text) == plain)
        for hit, similarity in zip(found.questions, similarities, strict=True)
    ]
    hits = [*found.questions, *found.passages]
    is_lexical = any(hit.similarity is None for hit in hits)
    thresholds = args.lexical if is_lexical else args.dense
    enough = [
        (hit, worth)
        for hit, worth in zip(found.passages, evidence, strict=True)
        if worth >= thresholds.evidence
    ]
    return Judgement(decide(candidates, evidence, thresholds=thresholds), similarities, enough)


def compose(
    found: Found,
    judgement: Judgement,
    args: AssistantArgs,
    *,
    approved_text: str = "",
    intent: Intent | None = None,
) -> AssistantAnswer:
    """The answer; ``approved_text`` is the text of an approved decision's document."""
    decision = judgement.decision
    citations: list[Citation] = []
    if decision.kind == "approved":
        assert approved_text
        answer = approved_text
        hit = next(hit for hit in found.questions if hit.document_id == decision.document_id)
        citations = [_citation(1, hit, decision.confidence, text=approved_text)]
    elif decision.kind == "passages":
        citations = [
            _citation(number, hit, worth)
            for number, (hit, worth) in enumerate(judgement.evidence, start=1)
        ]
        answer = f"{quote(found.question, citations[0].text)} [1]"
    else:
        answer = args.unknown_answer(found.language)
    return AssistantAnswer(
        id=f"answer-{uuid.uuid4().hex}",
        kind=decision.kind,
        answer=answer,
        language=found.language,
        confidence=round(decision.confidence, 4),
        intent=intent,
        citations=citations,
        suggestions=suggest(found, judgement, floor=args.suggestion_similarity),
    )


def quote(question: str, passage: str) -> str:
    """The at most three sentences in a row that hold most of the question's terms, verbatim.

    Among equals the first; sentences at the start of a passage say what it is about.
    """
    sentences = split_sentences(passage)
    asked = terms(question)
    held = [asked & terms(sentence.of(passage)) for sentence in sentences]
    num_quoted = min(_QUOTED_SENTENCES, len(sentences))
    best = max(
        range(len(sentences) - num_quoted + 1),
        key=lambda first: len(frozenset().union(*held[first : first + num_quoted])),
    )
    return passage[sentences[best].start : sentences[best + num_quoted - 1].end]


def suggest(found: Found, judgement: Judgement, *, floor: float) -> list[str]:
    """The best phrasing of each of the most similar approved answers but the one given."""
    ranked = sorted(
        zip(judgement.similarities, found.questions, strict=True), key=lambda pair: -pair[0]
    )
    given = judgement.decision.document_id
    best: dict[str, str] = {}
    for similarity, hit in ranked:
        if similarity >= floor and hit.document_id != given:
            best.setdefault(hit.document_id, hit.text)
    return list(best.values())[:_NUM_SUGGESTIONS]


def _citation(number: int, hit: Hit, score: float, *, text: str = "") -> Citation:
    return Citation(
        number=number,
        document_id=hit.document_id,
        title=hit.title,
        text=text or hit.text,
        start=hit.start,
        end=hit.end,
        score=round(min(1.0, max(0.0, score)), 4),
    )


def _plain(text: str) -> str:
    """Letters and digits only, so that case and punctuation make no difference."""
    return _NOT_A_WORD.sub(" ", search_text(text).casefold()).strip()
