"""Replies that every route may give, and what a service says of itself."""

from pydantic import BaseModel

__all__ = ["Failure", "Model", "Models", "Nothing", "Problem"]


class Model(BaseModel):
    """A model that the service offers."""

    id: str
    """Its name in requests."""
    task: str
    """What it does, such as ``sequence_classification``."""


class Models(BaseModel):
    """The reply of ``/v1/models``."""

    data: list[Model]


class Problem(BaseModel):
    """What went wrong, in the service's words."""

    message: str
    code: str | None = None


class Failure(BaseModel):
    """An error in OpenAI's shape."""

    error: Problem


class Nothing(BaseModel):
    """A reply of which only the success matters."""
