"""A piece of knowledge as a client sends it: an approved answer, or a document to be cited."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from serve.assistant.language import Language, clean, detect_language
from serve.errors import explain_validation

__all__ = ["Document", "DocumentId", "DocumentKind", "Rejection", "read_documents"]

DocumentKind: TypeAlias = Literal["approved", "document"]
DocumentId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]


def _visible(text: str) -> str:
    """``text`` without invisible characters."""
    if not (seen := clean(text)):
        raise PydanticCustomError("nothing_to_read", "the text holds nothing to read")
    return seen


_Line = Annotated[
    str, StringConstraints(max_length=500, pattern=r"^[^\r\n]*$"), AfterValidator(_visible)
]


class Document(BaseModel):
    """One answer or document; invisible characters are taken out of all its texts."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    id: DocumentId
    """Chosen by the client; sending an id again replaces what it named."""
    kind: DocumentKind
    """``approved``: the text is the answer to its questions, word for word.
    ``document``: the text is quoted in passages."""
    title: _Line
    """One line; the question of an approved answer that lists none."""
    text: Annotated[str, StringConstraints(max_length=200_000), AfterValidator(_visible)]
    """Plain text; empty lines part paragraphs."""
    questions: tuple[_Line, ...] = Field(default=(), max_length=64)
    """Phrasings of the questions that an approved answer answers."""
    language: Language = Field(
        default_factory=lambda data: detect_language(data["title"] + " " + data["text"])
    )
    """Detected where it is left out."""
    source: Annotated[str, StringConstraints(max_length=2000), AfterValidator(clean)] = ""
    """Where the text comes from, an address for example; kept, shown, not read."""

    @model_validator(mode="after")
    def _questions_are_of_answers(self) -> "Document":
        if self.questions and self.kind == "document":
            raise PydanticCustomError(
                "questions_of_document",
                "questions are phrasings that an approved answer answers. Leave them out of a "
                "document, or make it an approved answer",
            )
        return self

    @property
    def phrasings(self) -> tuple[str, ...]:
        """The questions that the text answers, each once; a document has none."""
        if self.kind == "document":
            return ()
        return tuple(dict.fromkeys(self.questions or (self.title,)))

    def fingerprint(self, *, passage_words: int) -> str:
        """Equal for documents of equal content that are cut alike."""
        content = f"1 {passage_words} {self.model_dump_json()}"
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Rejection:
    """A document that was not taken, and why."""

    index: int
    """Its place in the request."""
    id: str | None
    reason: str


def read_documents(items: Sequence[object]) -> tuple[dict[int, Document], list[Rejection]]:
    """The documents by their place, and those that are not one."""
    documents: dict[int, Document] = {}
    rejections = []
    places: dict[str, int] = {}
    for index, item in enumerate(items):
        try:
            document = Document.model_validate(item)
        except ValidationError as error:
            rejections.append(Rejection(index, _id_of(item), explain_validation(error).message))
            continue
        if document.id in places:
            reason = f"id '{document.id}' stands at {places[document.id]} already. Send it once."
            rejections.append(Rejection(index, document.id, reason))
            continue
        places[document.id] = index
        documents[index] = document
    return documents, rejections


def _id_of(item: object) -> str | None:
    identity = item.get("id") if isinstance(item, dict) else None
    return identity[:128] if isinstance(identity, str) else None
