"""Replies of the assistant: answers with what they rest on, and documents."""

from typing import Literal

from pydantic import BaseModel

from apps.replies.texts import LabelScore

__all__ = ["Answer", "Citation", "Document", "Intent"]


class Citation(BaseModel):
    """A passage that an answer rests on."""

    number: int
    """What ``[1]`` in the answer points to."""
    document_id: str
    title: str = ""
    text: str
    """The characters from ``start`` to before ``end`` of the document's text."""
    start: int = 0
    end: int = 0
    score: float
    """How well the passage fits the question, 0 to 1."""


class Intent(BaseModel):
    """What a question is about."""

    label: str
    score: float
    alternatives: list[LabelScore] = []


class Answer(BaseModel):
    """What the assistant says to a question."""

    id: str
    kind: Literal["approved", "passages", "unknown"]
    answer: str = ""
    confidence: float = 0.0
    """0 to 1."""
    intent: Intent | None = None
    citations: list[Citation] = []
    suggestions: list[str] = []
    """Questions to ask instead, or next."""


class Document(BaseModel):
    """A whole text of the knowledge base."""

    id: str
    title: str = ""
    text: str
