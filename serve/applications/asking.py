"""How an application asks a model of the service: as a function from texts."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ray_sft.core import ServeError
from ray_sft.tasks import Row
from ray_sft.tasks.embedding import EmbeddingResponse
from serve.errors import ApiError
from serve.models import Encoder
from serve.outcomes import Answer

__all__ = ["embed_with", "named", "response_of", "submit_all"]

Embed: TypeAlias = Callable[[Sequence[str]], Awaitable[NDArray[np.float32]]]
T = TypeVar("T")

_AT_ONCE = 64
"""Texts given to a model's queue together, so that other requests find a place between them."""


def named(find: Callable[[str], tuple[str, Encoder]], name: str, where: str) -> Encoder:
    """The model of a name; what is wrong with the name is said of the arguments, by ServeError."""
    try:
        _, encoder = find(name)
    except ApiError as error:
        raise ServeError(f"{where}: {error}") from None
    return encoder


def embed_with(encoder: Encoder) -> Embed:
    """Texts to vectors, (texts, dimensions)."""

    async def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = [
            response_of(answer, EmbeddingResponse).embedding
            for answer in await submit_all(encoder, [{"text": text} for text in texts])
        ]
        return np.asarray(vectors, dtype=np.float32)

    return embed


async def submit_all(encoder: Encoder, rows: Sequence[Row]) -> list[Answer | ServeError]:
    """The answers to any number of rows, some at a time."""
    answers: list[Answer | ServeError] = []
    for first in range(0, len(rows), _AT_ONCE):
        answers += await encoder.submit(rows[first : first + _AT_ONCE])
    return answers


def response_of(answer: Answer | ServeError, kind: type[T]) -> T:
    """What the model said; ServeError where it could not."""
    if isinstance(answer, ServeError):
        raise answer
    assert isinstance(answer.response, kind)
    return answer.response
