"""Both searches against numpy and each other; the fusion against LanceDB's own."""

import numpy as np
import pyarrow as pa
import pytest
from lancedb.rerankers import RRFReranker

from serve.assistant.index import KnowledgeIndex
from serve.assistant.search import (
    Hit,
    Scope,
    dense_search,
    full_text_search,
    fuse,
    hybrid_search,
)

from .conftest import document, embed_texts, embedded

pytestmark = pytest.mark.asyncio

ENGLISH = {
    "battery": "A swollen battery must not be charged.",
    "screen": "Clean the screen with a soft cloth.",
    "delivery": "Standard delivery of a battery or a screen takes five days.",
    "returns": "Returned parcels are refunded after inspection.",
}
CHINESE = {
    "warranty": "所有产品享有两年保修，人为损坏不在保修范围之内。",
    "shipping": "标准配送需要三到五个工作日，加急配送次日送达。",
    "points": "积分可以在结算时抵扣现金。",
}


async def fill(index: KnowledgeIndex) -> None:
    texts = ENGLISH | CHINESE
    await index.write(embedded(*(document(name, text) for name, text in texts.items())))


def names(hits: list[Hit]) -> list[str]:
    return [hit.document_id for hit in hits]


async def test_dense_search_orders_by_cosine(index: KnowledgeIndex) -> None:
    await fill(index)
    question = "may I charge a battery that is swollen"
    vector = embed_texts([question])[0]
    hits = await dense_search(index.table, vector, Scope("passage", "en"), limit=4)
    texts = [f"{name}\n{text}" for name, text in ENGLISH.items()]
    cosines = dict(zip(ENGLISH, (embed_texts(texts) @ vector).tolist(), strict=True))
    assert names(hits) == sorted(ENGLISH, key=lambda name: -cosines[name])
    assert [hit.similarity for hit in hits] == pytest.approx(
        [cosines[hit.document_id] for hit in hits], abs=1e-6
    )


@pytest.mark.parametrize(
    ("question", "language", "best"),
    [
        ("charging batteries", "en", "battery"),
        ("REFUND", "en", "returns"),
        ("how do I clean a screen?", "en", "screen"),
        ("保修多久", "zh", "warranty"),
        ("加急配送", "zh", "shipping"),
        ("积分怎么用", "zh", "points"),
    ],
)
async def test_words_are_found_in_english_and_chinese(
    index: KnowledgeIndex, question: str, language: str, best: str
) -> None:
    await fill(index)
    hits = await full_text_search(index.table, question, Scope("passage", language), limit=5)
    assert names(hits)[0] == best
    assert hits[0].similarity is None


@pytest.mark.parametrize("question", ["?", "the of", "zzz", "'; DROP TABLE x --", '" OR +(', "退"])
async def test_a_question_without_known_words_finds_nothing(
    index: KnowledgeIndex, question: str
) -> None:
    await fill(index)
    for language in ("en", "zh"):
        assert (
            await full_text_search(index.table, question, Scope("passage", language), limit=5) == []
        )


async def test_a_scope_is_kept(index: KnowledgeIndex) -> None:
    await fill(index)
    vector = embed_texts(["battery 保修"])[0]
    for language, texts in (("en", ENGLISH), ("zh", CHINESE)):
        scope = Scope("passage", language)
        assert set(names(await dense_search(index.table, vector, scope, limit=50))) == set(texts)
        for hit in await hybrid_search(index.table, "battery 保修", vector, scope, limit=50):
            assert hit.document_id in texts
    assert await dense_search(index.table, vector, Scope("question", "en"), limit=5) == []


async def test_hybrid_search_is_both_searches_fused(index: KnowledgeIndex) -> None:
    await fill(index)
    question = "delivery of a battery"
    vector = embed_texts([question])[0]
    scope = Scope("passage", "en")
    by_meaning = await dense_search(index.table, vector, scope, limit=50)
    by_words = await full_text_search(index.table, question, scope, limit=50, vector=vector)
    assert names(by_words) != names(by_meaning)[: len(by_words)] or len(by_words) < len(by_meaning)
    fused = await hybrid_search(index.table, question, vector, scope, limit=3)
    assert fused == fuse([by_meaning, by_words])[:3]
    assert await hybrid_search(index.table, question, None, scope, limit=2) == (
        await full_text_search(index.table, question, scope, limit=2)
    )


async def test_fusion_orders_as_lancedb_does() -> None:
    generator = np.random.default_rng(5)
    for _ in range(20):
        rankings = [list(generator.permutation(30)[: generator.integers(0, 20)]) for _ in range(2)]
        fused = [int(hit.key) for hit in fuse([[_hit(key) for key in keys] for keys in rankings])]
        tables = [pa.table({"_rowid": pa.array(keys, pa.uint64())}) for keys in rankings]
        theirs = RRFReranker(K=60, return_score="relevance").rerank_hybrid("", *tables)
        scores = dict(
            zip(
                theirs["_rowid"].to_pylist(),
                theirs["_relevance_score"].to_pylist(),
                strict=True,
            )
        )
        assert set(fused) == set(scores)
        assert [scores[key] for key in fused] == sorted(scores.values(), reverse=True)


def _hit(key: int) -> Hit:
    return Hit(str(key), str(key), "document", "en", "", "", 0, 0, "", None)
