"""Replies about texts: their labels, entities, vectors, tokens and translations."""

import base64
import sys
from array import array
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from apps.replies.operation import Failure

__all__ = [
    "Classification",
    "Embeddings",
    "Entity",
    "LabelScore",
    "Listed",
    "RankedDocument",
    "Reranked",
    "Scores",
    "Spelled",
    "TextEntities",
    "Tokens",
    "Translation",
]

A = TypeVar("A", bound=BaseModel)


class Listed(BaseModel, Generic[A]):
    """One answer a text, in the order of the request; a failure where the model failed on it."""

    data: list[Annotated[Failure | A, Field(union_mode="left_to_right")]]


class LabelScore(BaseModel):
    """A label with its probability."""

    label: str
    score: float


class Classification(BaseModel):
    """What a classifier says about one text."""

    label: str
    """The most probable label, even where a model of several labels says that none applies."""
    score: float
    """Probability of ``label``, 0 to 1."""
    labels: list[str] = []
    """Those that apply: ``label`` alone, or any number where the model gives several."""
    scores: list[LabelScore]
    """The most probable labels, the best first."""

    @model_validator(mode="before")
    @classmethod
    def _of_several_labels(cls, tree: object) -> object:
        """A model of several labels has no field ``label``, one of a single label no ``labels``."""
        if not isinstance(tree, dict):
            return tree
        if "label" in tree:
            return {"labels": [tree["label"]], **tree}
        scores = tree.get("scores")
        best = scores[0] if isinstance(scores, list) and scores else {}
        return {**best, **tree} if isinstance(best, dict) else tree


class Entity(BaseModel):
    """Something that a text names."""

    label: str
    """Its type."""
    start: int
    """Its first character, counted as Python counts."""
    end: int
    """The character after its last."""
    text: str
    score: float


class TextEntities(BaseModel):
    """What one text names."""

    entities: list[Entity]


def _floats(text: object) -> object:
    """Little-endian float32 in base64 as numbers: a third of their size in JSON."""
    if not isinstance(text, str):
        return text
    numbers = array("f")
    numbers.frombytes(base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


class _Vector(BaseModel):
    index: int
    embedding: Annotated[list[float], BeforeValidator(_floats)]


class Embeddings(BaseModel):
    """The reply of ``/v1/embeddings``."""

    data: list[_Vector]

    def vectors(self) -> list[list[float]]:
        """The vectors in the order of the texts."""
        return [one.embedding for one in sorted(self.data, key=lambda one: one.index)]


class _Score(BaseModel):
    index: int
    score: float


class Scores(BaseModel):
    """The reply of ``/v1/score``."""

    data: list[_Score]

    def in_order(self) -> list[float]:
        """The scores in the order of the candidates."""
        return [one.score for one in sorted(self.data, key=lambda one: one.index)]


class RankedDocument(BaseModel):
    """How well a document fits."""

    index: int
    """Its place among the documents that were sent."""
    relevance_score: float


class Reranked(BaseModel):
    """The reply of ``/v1/rerank``, the best first."""

    results: list[RankedDocument]


class Tokens(BaseModel):
    """A text as a model reads it."""

    ids: list[int]
    tokens: list[str]
    """How the vocabulary spells them."""
    offsets: list[tuple[int, int] | None] | None = None
    """First character of each token and the one after its last; None for one that is not of the
    text, and for all where the tokenizer does not tell."""
    count: int


class Spelled(BaseModel):
    """The text of token ids."""

    text: str


class Translation(BaseModel):
    """A text in another language."""

    text: str
    finish_reason: Literal["stop", "length"] = "stop"
    """``length`` where the model did not come to an end and was cut."""
