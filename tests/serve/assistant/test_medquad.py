"""Retrieval and abstention on real data: MedQuAD's answers, its questions with changed words.

4,000 of the 16,407 answers are indexed whole, as documents titled with what they are about (their
question is not indexed). 1,000 of their questions are edited: words that do not name the subject
are dropped, any word may get a typo. The thresholds are chosen on one half of the questions and of
the strangers (sentences of bank customers, Banking77); everything reported is of the other half.

A hit counts twice: the very answer, and any answer about the same subject of the same type
(MedQuAD has several where two institutes answer the same question).
"""

import csv
import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
import pytest_asyncio
from sklearn.metrics import roc_auc_score

from serve.assistant import AssistantArgs
from serve.assistant.assistant import Assistant
from serve.assistant.decide import term_coverage
from serve.assistant.language import terms
from serve.assistant.search import Hit, Scope, dense_search, full_text_search, hybrid_search

from .minilm import MiniLM

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
NUM_ANSWERS = 4000
NUM_QUESTIONS = 500
NUM_STRANGERS = 100
SCOPE = Scope("passage", "en")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not DATA.is_dir(), reason="the shared data sets are not beside the checkout"
    ),
]


@dataclass(frozen=True)
class Question:
    """An edited question and the answer it was asked of."""

    text: str
    target: int
    same: frozenset[str]
    """Ids of the answers about the same subject of the same type."""


@dataclass(frozen=True)
class Material:
    rows: dict[int, dict]
    calibration: list[Question]
    report: list[Question]
    calibration_strangers: list[str]
    report_strangers: list[str]
    absent: list[str]
    """Edited questions about subjects that no indexed answer is titled with."""


@pytest.fixture(scope="module")
def material() -> Material:
    rng = random.Random(0)
    with (DATA / "medquad" / "qa.jsonl").open() as file:
        every = [json.loads(line) for line in file]
    chosen = rng.sample(range(len(every)), NUM_ANSWERS)
    rows = {index: every[index] for index in chosen}
    topics: dict[tuple[str, str], set[str]] = {}
    for index, row in rows.items():
        topics.setdefault(_topic(row), set()).add(f"a{index}")
    questions = [
        Question(edited(rows[index], rng), index, frozenset(topics[_topic(rows[index])]))
        for index in chosen[: 2 * NUM_QUESTIONS]
    ]
    with (DATA / "banking77" / "test.csv").open() as file:
        strangers = rng.sample([row["text"] for row in csv.DictReader(file)], 2 * NUM_STRANGERS)
    titles = {row["focus"].casefold() for row in rows.values()}
    others = [row for row in every if row["focus"].casefold() not in titles]
    return Material(
        rows,
        questions[:NUM_QUESTIONS],
        questions[NUM_QUESTIONS:],
        strangers[:NUM_STRANGERS],
        strangers[NUM_STRANGERS:],
        [edited(row, rng) for row in rng.sample(others, NUM_QUESTIONS)],
    )


def _topic(row: dict) -> tuple[str, str]:
    return row["focus"].casefold(), row["type"]


def edited(row: dict, rng: random.Random) -> str:
    """The question with at least one word dropped or misspelt."""
    subject = set(row["focus"].casefold().split())
    words = row["question"].removesuffix("?").split()
    while True:
        kept = []
        for word in words:
            chance = rng.random()
            if chance < 0.2 and word.casefold().strip("().,") not in subject:
                continue
            kept.append(_misspelt(word, rng) if 0.2 <= chance < 0.4 and len(word) > 4 else word)
        if kept and kept != words:
            return " ".join(kept)


def _misspelt(word: str, rng: random.Random) -> str:
    """Two neighbours swapped, or one letter missing; the first stays."""
    place = rng.randrange(1, len(word) - 1)
    if rng.random() < 0.5:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + word[place + 1 :]


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return MiniLM()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def assistant(
    material: Material, model: MiniLM, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Assistant]:
    """Every answer as a document."""
    documents = [
        {
            "id": f"a{index}",
            "kind": "document",
            "title": row["focus"] or "Health",
            "text": row["answer"],
        }
        for index, row in material.rows.items()
    ]
    async for assistant in _filled(documents, model, tmp_path_factory.mktemp("documents")):
        yield assistant


async def _filled(
    documents: Sequence[dict], model: MiniLM, folder: Path
) -> AsyncIterator[Assistant]:
    args = AssistantArgs(embedding_model="minilm", knowledge=str(folder))
    assistant = Assistant(args, embed=model, embedding_fingerprint="minilm-of-the-wheel")
    await assistant.open()
    began = perf_counter()
    num_passages = 0
    for start in range(0, len(documents), 100):
        changes = await assistant.put(documents[start : start + 100])
        assert changes.rejected == []
        num_passages += changes.passages
    print(f"\n{len(documents)} documents, {num_passages} passages: {perf_counter() - began:.0f} s")
    yield assistant
    await assistant.close()


async def test_hybrid_search_finds_more_than_either_search_alone(
    assistant: Assistant, material: Material, model: MiniLM
) -> None:
    table = assistant.index.table
    vectors = model.embed([question.text for question in material.report])
    ranked: dict[str, list[list[str]]] = {"dense": [], "full text": [], "hybrid": []}
    seconds = []
    for question, vector in zip(material.report, vectors, strict=True):
        text = question.text
        ranked["dense"].append(_ids(await dense_search(table, vector, SCOPE, limit=50)))
        ranked["full text"].append(_ids(await full_text_search(table, text, SCOPE, limit=50)))
        began = perf_counter()
        ranked["hybrid"].append(_ids(await hybrid_search(table, text, vector, SCOPE, limit=50)))
        seconds.append(perf_counter() - began)
    exact = [{f"a{question.target}"} for question in material.report]
    same = [set(question.same) for question in material.report]
    figures = {
        (mode, counted, k): float(
            np.mean(
                [bool(wanted & set(ids[:k])) for wanted, ids in zip(targets, lists, strict=True)]
            )
        )
        for mode, lists in ranked.items()
        for counted, targets in (("answer", exact), ("topic", same))
        for k in (1, 5)
    }
    for mode in ranked:
        row = "  ".join(
            f"{counted}@{k} {figures[mode, counted, k]:.3f}"
            for counted in ("answer", "topic")
            for k in (1, 5)
        )
        print(f"{mode:10} {row}")
    print(
        f"hybrid search: {np.median(seconds) * 1e3:.1f} ms, {np.max(seconds) * 1e3:.1f} ms at most"
    )
    for counted in ("answer", "topic"):
        best_alone = max(figures[mode, counted, 5] for mode in ("dense", "full text"))
        assert figures["hybrid", counted, 5] >= best_alone - 0.01


async def test_questions_about_something_else_get_unknown(
    assistant: Assistant, material: Material, model: MiniLM
) -> None:
    asked = [question.text for question in material.calibration]
    figures = await _evidence(assistant, model, asked, material.calibration_strangers)
    for name, (own, other) in figures.items():
        truth = [1] * len(own) + [0] * len(other)
        print(f"{name:10} AUC {roc_auc_score(truth, own + other):.4f}")
    print("calibrated threshold of evidence:", best_threshold(*figures["similarity"]))
    answers = [await assistant.answer(question.text) for question in material.report]
    answered = [answer.kind == "passages" for answer in answers]
    cited = [
        any(citation.document_id in question.same for citation in answer.citations)
        for question, answer in zip(material.report, answers, strict=True)
    ]
    refused = await _share_unknown(assistant, material.report_strangers)
    print(
        f"answered: {np.mean(answered):.3f} of the questions, {sum(cited) / sum(answered):.3f} of "
        f"those cite an answer to it among four; unknown: {refused:.3f} of the strangers, "
        f"{await _share_unknown(assistant, material.absent):.3f} of the questions about subjects "
        "that are not indexed"
    )
    assert refused >= 0.95
    assert np.mean(answered) >= 0.9
    assert sum(cited) >= 0.8 * sum(answered)


async def _share_unknown(assistant: Assistant, texts: Sequence[str]) -> float:
    return float(np.mean([(await assistant.answer(text)).kind == "unknown" for text in texts]))


async def _evidence(
    assistant: Assistant, model: MiniLM, own: Sequence[str], other: Sequence[str]
) -> dict[str, tuple[list[float], list[float]]]:
    """The best of four passages, for questions that have an answer and for those that have none."""
    figures: dict[str, tuple[list[float], list[float]]] = {
        name: ([], []) for name in ("similarity", "coverage", "mean")
    }
    for side, texts in enumerate((own, other)):
        for text, vector in zip(texts, model.embed(texts), strict=True):
            hits = await hybrid_search(assistant.index.table, text, vector, SCOPE, limit=4)
            asked = terms(text)
            similar = np.array([hit.similarity for hit in hits])
            covered = [term_coverage(asked, terms(f"{hit.title}\n{hit.text}")) for hit in hits]
            figures["similarity"][side].append(float(similar.max()))
            figures["coverage"][side].append(max(covered))
            figures["mean"][side].append(float(((similar + covered) / 2).max()))
    return figures


def best_threshold(own: Sequence[float], other: Sequence[float]) -> float:
    """The one with the least sum of both error rates."""
    places = sorted({round(value, 2) for value in (*own, *other)})
    mine, others = np.array(own), np.array(other)
    errors = [(mine < place).mean() + (others >= place).mean() for place in places]
    return places[int(np.argmin(errors))]


async def test_an_edited_question_gets_its_approved_answer(
    material: Material, model: MiniLM, tmp_path: Path
) -> None:
    documents = [
        {
            "id": f"a{index}",
            "kind": "approved",
            "title": row["question"][:500],
            "text": row["answer"][:400],
        }
        for index, row in material.rows.items()
    ]
    async for assistant in _filled(documents, model, tmp_path):
        for name, questions in (("calibration", material.calibration), ("report", material.report)):
            right = wrong = 0
            for question in questions:
                answer = await assistant.answer(question.text)
                if answer.kind == "approved":
                    is_right = answer.citations[0].document_id in question.same
                    right, wrong = right + is_right, wrong + (not is_right)
            print(f"{name}: approved {right + wrong} of {len(questions)}, right {right}")
        given = [(await assistant.answer(text)).kind for text in material.report_strangers]
        print("approved answers to strangers:", given.count("approved"))
        assert given.count("approved") == 0
        assert right >= 0.5 * len(questions)
        assert wrong <= 0.05 * (right + wrong)


def _ids(hits: Sequence[Hit]) -> list[str]:
    """The documents in order, each once."""
    return list(dict.fromkeys(hit.document_id for hit in hits))
