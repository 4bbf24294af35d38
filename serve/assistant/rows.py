"""Documents as rows of one table, so that a document is written in one commit or not at all.

| role     | one per                        | text              | vector of           |
|----------|--------------------------------|-------------------|---------------------|
| document | document                       | the whole text    | none                |
| question | phrasing of an approved answer | the phrasing      | the phrasing        |
| passage  | passage                        | the passage       | title and passage   |
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from serve.assistant.documents import Document
from serve.assistant.language import Language, search_text
from serve.assistant.passages import Span, split_passages

__all__ = ["Prepared", "key_field", "prepare", "schema", "scope_of", "to_document", "to_rows"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document that is ready to be embedded."""

    document: Document
    fingerprint: str
    spans: tuple[Span, ...]
    """Its passages."""

    @property
    def texts(self) -> list[str]:
        """What is embedded: the phrasings, then the passages under their title."""
        document = self.document
        passages = [f"{document.title}\n{span.of(document.text)}" for span in self.spans]
        return [*document.phrasings, *passages]


def prepare(document: Document, *, passage_words: int) -> Prepared:
    """``document`` cut into passages."""
    spans = split_passages(document.text, target_words=passage_words)
    return Prepared(document, document.fingerprint(passage_words=passage_words), tuple(spans))


def key_field(name: str) -> pa.Field:
    """A column that names a row: of two writers who insert the same name at once, one waits.

    Without the mark, LanceDB lets `merge_insert` of both succeed, and the row stands there twice.
    """
    mark = {"lance-schema:unenforced-primary-key": "true"}
    return pa.field(name, pa.string(), nullable=False, metadata=mark)


def schema(dim: int) -> pa.Schema:
    """The columns; vectors have ``dim`` numbers."""
    return pa.schema(
        [
            key_field("key"),
            pa.field("document_id", pa.string(), nullable=False),
            pa.field("role", pa.string(), nullable=False),
            pa.field("scope", pa.string(), nullable=False),  # role and language, see `scope_of`
            pa.field("kind", pa.string(), nullable=False),
            pa.field("language", pa.string(), nullable=False),
            pa.field("title", pa.string(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("start", pa.int32(), nullable=False),
            pa.field("end", pa.int32(), nullable=False),
            pa.field("answer", pa.string(), nullable=False),  # equal for equal answers
            pa.field("search", pa.string()),
            pa.field("vector", pa.list_(pa.float32(), dim)),
            pa.field("fingerprint", pa.string()),  # of documents only, like what follows
            pa.field("questions", pa.list_(pa.string())),
            pa.field("source", pa.string()),
            pa.field("updated", pa.string()),
            pa.field("num_passages", pa.int32()),
        ]
    )


def to_rows(
    prepared: Prepared, vectors: NDArray[np.float32], *, updated: str, columns: pa.Schema
) -> pa.Table:
    """The rows of a document; ``vectors`` are those of its ``texts``."""
    rows = list(_rows(prepared, updated))
    assert len(vectors) == len(rows) - 1, "one vector per text"
    assert np.isfinite(vectors).all(), "an embedding model gives numbers"
    numbers = np.concatenate([np.zeros_like(vectors[:1]), vectors]).astype(np.float32)
    array = pa.FixedSizeListArray.from_arrays(
        pa.array(numbers.reshape(-1)),
        numbers.shape[1],
        mask=pa.array([True] + [False] * len(vectors)),
    )
    arrays = [
        array
        if field.name == "vector"
        else pa.array([row.get(field.name) for row in rows], field.type)
        for field in columns
    ]
    return pa.Table.from_arrays(arrays, schema=columns)


def scope_of(role: str, language: Language) -> str:
    """What rows that are searched together have in common, in one column with one index."""
    return f"{role}:{language}"


def to_document(row: dict[str, Any]) -> Document:
    """The document of a ``document`` row, as it was sent."""
    return Document.model_construct(
        id=row["document_id"],
        kind=row["kind"],
        title=row["title"],
        text=row["text"],
        questions=tuple(row["questions"]),
        language=row["language"],
        source=row["source"],
    )


def _rows(prepared: Prepared, updated: str) -> Iterator[dict[str, object]]:
    document = prepared.document
    common: dict[str, object] = {
        "document_id": document.id,
        "kind": document.kind,
        "language": document.language,
        "title": document.title,
        "answer": hashlib.sha256(document.text.encode()).hexdigest(),
    }
    yield {
        **common,
        "key": f"{document.id}#document",
        "role": "document",
        "scope": scope_of("document", document.language),
        "text": document.text,
        "start": 0,
        "end": len(document.text),
        "fingerprint": prepared.fingerprint,
        "questions": list(document.questions),
        "source": document.source,
        "updated": updated,
        "num_passages": len(prepared.spans),
    }
    for number, question in enumerate(document.phrasings):
        yield {
            **common,
            "key": f"{document.id}#question{number}",
            "role": "question",
            "scope": scope_of("question", document.language),
            "text": question,
            "start": 0,
            "end": len(document.text),
            "search": search_text(question),
        }
    for number, span in enumerate(prepared.spans):
        text = span.of(document.text)
        yield {
            **common,
            "key": f"{document.id}#passage{number}",
            "role": "passage",
            "scope": scope_of("passage", document.language),
            "text": text,
            "start": span.start,
            "end": span.end,
            "search": search_text(f"{document.title}\n{text}"),
        }
