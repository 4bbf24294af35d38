"""What the assistant's routes take and return."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from serve.assistant.documents import DocumentKind
from serve.assistant.language import Language

__all__ = [
    "AnswerRequest",
    "AssistantAnswer",
    "Citation",
    "FeedbackRequest",
    "Intent",
    "IntentScore",
    "KnowledgeChanges",
    "KnowledgeEntry",
    "KnowledgePage",
    "KnowledgeRequest",
    "KnowledgeText",
    "RejectedDocument",
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class AnswerRequest(_Strict):
    """A question of a customer."""

    question: str = Field(min_length=1, max_length=1000)
    """Plain text in English or Chinese."""
    top_k: int = Field(default=4, ge=1, le=10, strict=True)
    """Most passages to cite; those that are too weak are left out."""
    language: Language | None = None
    """Of the question; detected where it is left out."""


class IntentScore(BaseModel):
    """An intent and its probability."""

    label: str
    score: float


class Intent(IntentScore):
    """What the customer seems to want."""

    alternatives: list[IntentScore]
    """The next most probable intents."""


class Citation(BaseModel):
    """Where an answer comes from; `GET /v1/assistant/knowledge/{id}` opens the whole text."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    number: int
    """The answer refers to it as ``[number]``."""
    document_id: str
    title: str
    text: str
    """The characters from ``start`` to before ``end`` of the document's text."""
    start: int
    end: int
    score: float
    """Similarity of an approved answer's phrasing, or the passage's evidence; 0 to 1."""


class AssistantAnswer(BaseModel):
    """An answer, word for word from the knowledge, or none."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """To give feedback on."""
    kind: Literal["approved", "passages", "unknown"]
    answer: str
    """The approved answer; or sentences of the first citation, ending in its number; or the text
    for questions that have no answer."""
    language: Language
    confidence: float
    """Of the answer: what its kind's threshold was compared with; of ``unknown``: the evidence
    that did not suffice."""
    intent: Intent | None
    citations: list[Citation]
    suggestions: list[str]
    """At most three questions that have an approved answer."""


class KnowledgeRequest(_Strict):
    """Documents to add or to replace, each judged by itself."""

    documents: list[object] = Field(min_length=1, max_length=100)
    """See `Document`; one that is not valid is rejected and the others are taken."""


class RejectedDocument(BaseModel):
    """A document that was not taken."""

    index: int
    id: str | None
    reason: str


class KnowledgeChanges(BaseModel):
    """What a request did to the knowledge."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    added: int
    updated: int
    unchanged: int
    """Sent with the content that they have already; nothing was done."""
    passages: int
    """Of the documents that were added or updated."""
    rejected: list[RejectedDocument]


class KnowledgeEntry(BaseModel):
    """A document in a listing."""

    id: str
    kind: DocumentKind
    title: str
    language: Language
    source: str
    updated: str
    questions: list[str]
    num_characters: int
    num_passages: int


class KnowledgeText(KnowledgeEntry):
    """A whole document."""

    text: str


class KnowledgePage(BaseModel):
    """Documents by id."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    documents: list[KnowledgeEntry]
    next_cursor: str | None
    """To ask for the next page with; None: this is the last."""


class FeedbackRequest(_Strict):
    """What a customer thinks of an answer."""

    answer_id: str = Field(pattern=r"^answer-[0-9a-f]{32}$")
    verdict: Literal["up", "down"]
    reason: str = Field(default="", max_length=1000)
    """In the customer's words."""
