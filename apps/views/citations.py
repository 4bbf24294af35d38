"""What an answer rests on: numbered passages that open, and whole documents around them."""

import re
from collections.abc import Sequence
from html import escape

from apps.phrases import ServicePhrases
from apps.replies.assistant import Citation, Document
from apps.views.fragments import action, attributes

__all__ = ["referring_text", "source_list"]

_REFERENCE = re.compile(r"\[(\d{1,3})\]")


def referring_text(text: str, citations: Sequence[Citation], *, prefix: str) -> str:
    """The text of an answer in which ``[1]`` opens the source of that number."""
    known = {citation.number for citation in citations}
    parts = _REFERENCE.split(text)  # texts at even places, numbers between them
    return "".join(
        escape(part) if place % 2 == 0 else _reference(int(part), known, prefix)
        for place, part in enumerate(parts)
    )


def _reference(number: int, known: set[int], prefix: str) -> str:
    if number not in known:
        return f"[{number}]"
    given = {"type": "button", "class": "reference", "data-open": f"{prefix}-{number}"}
    return f"<button {attributes(given)}>{number}</button>"


def source_list(
    citations: Sequence[Citation],
    documents: Sequence[Document],
    phrases: ServicePhrases,
    *,
    prefix: str,
    index: int,
) -> str:
    """The sources of an answer, each closed until somebody opens it.

    Args:
        citations: the passages.
        documents: those of their documents that are shown whole.
        phrases: the page's words.
        prefix: what makes the sources of this answer unlike those of another.
        index: the place of the exchange, told with every action.
    """
    if not citations:
        return ""
    whole = {document.id: document for document in documents}
    sources = "".join(
        _source(
            citation, whole.get(citation.document_id), phrases, f"{prefix}-{citation.number}", index
        )
        for citation in citations
    )
    return f'<div class="sources"><h4>{escape(phrases.sources)}</h4>{sources}</div>'


def _source(
    citation: Citation, document: Document | None, phrases: ServicePhrases, key: str, index: int
) -> str:
    fit = phrases.fit.format(score=f"{citation.score:.0%}")
    label = phrases.show_passage if document else phrases.show_document
    data = {"index": index, "document": citation.document_id}
    shown = _whole(document, citation) if document else f"<mark>{escape(citation.text)}</mark>"
    return (
        f'<details data-keep="{escape(key)}"><summary><b>{citation.number}</b>'
        f'<span class="name">{escape(citation.title or citation.document_id)}</span>'
        f'<span class="fit">{escape(fit)}</span></summary>'
        f'<div class="passage{" whole" if document else ""}" tabindex="0">{shown}</div>'
        f"{action('document', escape(label), data=data, css='link')}</details>"
    )


def _whole(document: Document, citation: Citation) -> str:
    """The document with the passage marked, wherever it can be found in it."""
    text, start, end = document.text, citation.start, citation.end
    if text[start:end].strip() != citation.text.strip():
        start = text.find(citation.text)
        if start < 0:
            return escape(text)
        end = start + len(citation.text)
    return f"{escape(text[:start])}<mark>{escape(text[start:end])}</mark>{escape(text[end:])}"
