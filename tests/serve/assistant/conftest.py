"""A real embedding that needs no model, and an assistant with a small shop's knowledge."""

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from serve.assistant import AssistantArgs
from serve.assistant.assistant import Assistant
from serve.assistant.documents import Document
from serve.assistant.index import KnowledgeIndex
from serve.assistant.rows import Prepared, prepare

DIM = 128
FINGERPRINT = "a" * 64
_PIECE = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]")

KNOWLEDGE: list[dict[str, object]] = [
    {
        "id": "track-en",
        "kind": "approved",
        "title": "Track an order",
        "text": "Open My orders, choose the order and tap Track.",
        "questions": ["How can I track my order?", "Where is my parcel now?"],
    },
    {
        "id": "refund-en",
        "kind": "approved",
        "title": "When will I receive my refund?",
        "text": "We refund within 5 to 7 business days after your return reaches our warehouse.",
    },
    {
        "id": "track-zh",
        "kind": "approved",
        "title": "怎么查询订单物流？",
        "text": "请打开“我的订单”，选择订单后点击“查看物流”。",
    },
    {
        "id": "battery-en",
        "kind": "document",
        "title": "Care of the battery",
        "text": "The battery likes a cool place. Charge the battery to eighty percent before long "
        "storage.\n\nA swollen battery must not be charged. Bring a swollen battery to a shop, "
        "where it is recycled free of charge.",
        "source": "https://example.org/battery",
    },
    {
        "id": "warranty-zh",
        "kind": "document",
        "title": "保修条款",
        "text": "所有产品享有两年保修。保修期内的质量问题由我们免费维修。"
        "人为损坏不在保修范围之内。",
    },
]


def embed_texts(texts: Sequence[str]) -> NDArray[np.float32]:
    """Words and Chinese characters hashed into signed counts, as in feature hashing."""
    vectors = np.zeros((len(texts), DIM), dtype=np.float32)
    for row, text in enumerate(texts):
        for piece in _PIECE.findall(text.lower()):
            digest = hashlib.blake2b(piece.encode(), digest_size=8).digest()
            vectors[row, digest[0] % DIM] += 1 if digest[1] % 2 else -1
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


class CountingEmbed:
    """The embedding as the service calls it; remembers what it was asked."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts.extend(texts)
        return embed_texts(texts)


@pytest.fixture
def embed() -> CountingEmbed:
    return CountingEmbed()


@pytest.fixture
def args(tmp_path: Path) -> AssistantArgs:
    return AssistantArgs(
        embedding_model="hashed",
        embedding_languages=("en", "zh"),
        knowledge=str(tmp_path / "knowledge.lance"),
    )


@pytest_asyncio.fixture
async def assistant(args: AssistantArgs, embed: CountingEmbed) -> AsyncIterator[Assistant]:
    assistant = Assistant(args, embed=embed, embedding_fingerprint=FINGERPRINT)
    await assistant.open()
    changes = await assistant.put(KNOWLEDGE)
    assert changes.added == len(KNOWLEDGE), changes
    yield assistant
    await assistant.close()


@pytest_asyncio.fixture
async def index(tmp_path: Path) -> AsyncIterator[KnowledgeIndex]:
    index = KnowledgeIndex(str(tmp_path / "index.lance"), fingerprint=FINGERPRINT, dim=DIM)
    await index.open()
    yield index
    index.close()


def document(identity: str, text: str, **more: object) -> Document:
    tree = {"id": identity, "kind": "document", "title": identity, "text": text} | more
    return Document.model_validate(tree)


def embedded(*documents: Document) -> list[tuple[Prepared, NDArray[np.float32]]]:
    """What `KnowledgeIndex.write` takes."""
    prepared = [prepare(document, passage_words=40) for document in documents]
    return [(item, embed_texts(item.texts)) for item in prepared]
