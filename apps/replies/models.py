"""Replies about models, classification and chat, as far as a page reads them."""

from pydantic import BaseModel

__all__ = [
    "Chunk",
    "Classification",
    "Classifications",
    "Failure",
    "LabelScore",
    "Model",
    "Models",
    "Nothing",
    "Problem",
]


class Model(BaseModel):
    """A model that the service offers."""

    id: str
    """Its name in requests."""
    task: str
    """What it does, such as ``sequence_classification``."""


class LabelScore(BaseModel):
    """A label with its probability."""

    label: str
    score: float


class Classification(BaseModel):
    """What a classifier says about one text."""

    label: str
    score: float
    """Probability of ``label``, 0 to 1."""
    scores: list[LabelScore]
    """The most probable labels, the best first."""


class Models(BaseModel):
    """The reply of ``/v1/models``."""

    data: list[Model]


class Classifications(BaseModel):
    """The reply of ``/v1/classify``."""

    data: list[Classification]


class Problem(BaseModel):
    """What went wrong, in the service's words."""

    message: str
    code: str | None = None


class Failure(BaseModel):
    """An error in OpenAI's shape."""

    error: Problem


class Nothing(BaseModel):
    """A reply of which only the success matters."""


class Delta(BaseModel):
    """What an event adds to a message."""

    content: str | None = None


class Choice(BaseModel):
    """One message of an event."""

    delta: Delta


class Chunk(BaseModel):
    """An event of a streamed reply."""

    choices: list[Choice]
