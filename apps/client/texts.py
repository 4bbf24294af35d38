"""Calls that read texts: labels, entities, vectors, translations, tokens.

Those for many texts answer each by itself: where the model failed on a text, its place in the list
holds the error, and the others are answered. A ``model`` may be left out where the service has one
for the route.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import BaseModel

from apps.client.call import Call, Reply, picked, post
from apps.client.endpoint import endpoint
from apps.client.errors import ServiceError, refused
from apps.replies.operation import Failure
from apps.replies.texts import (
    Classification,
    Embeddings,
    Entity,
    Listed,
    Spelled,
    TextEntities,
    Tokens,
    Translation,
)

__all__ = ["TextCalls"]

A = TypeVar("A", bound=BaseModel)
T = TypeVar("T")


class TextCalls:
    """The routes that take ``input``, from ``/v1/classify`` to ``/v1/tokenize``."""

    @endpoint
    def classify(
        self, text: str, *, model: str | None = None, top_k: int = 3
    ) -> Call[Classification]:
        """The ``top_k`` most probable labels of a text.

        Raises:
            ServiceError: the service is away or refuses.
        """
        read = _only(Listed[Classification], _itself)
        return post("/v1/classify", read, input=text, top_k=top_k, model=model)

    @endpoint
    def classify_many(
        self, texts: Sequence[str], *, model: str | None = None, top_k: int = 3
    ) -> Call[list[Classification | ServiceError]]:
        """The ``top_k`` most probable labels of each text, or why there are none.

        Raises:
            ServiceError: the service is away or refuses all of them.
        """
        read = _each(Listed[Classification], _itself)
        return post("/v1/classify", read, input=_texts(texts), top_k=top_k, model=model)

    @endpoint
    def entities(self, text: str, *, model: str | None = None) -> Call[list[Entity]]:
        """What a text names, in the order of the text.

        Raises:
            ServiceError: the service is away or refuses.
        """
        read = _only(Listed[TextEntities], _named)
        return post("/v1/entities", read, input=text, model=model)

    @endpoint
    def entities_many(
        self, texts: Sequence[str], *, model: str | None = None
    ) -> Call[list[list[Entity] | ServiceError]]:
        """What each text names, or why it is not known.

        Raises:
            ServiceError: the service is away or refuses all of them.
        """
        read = _each(Listed[TextEntities], _named)
        return post("/v1/entities", read, input=_texts(texts), model=model)

    @endpoint
    def embeddings(
        self, texts: Sequence[str], *, model: str | None = None
    ) -> Call[list[list[float]]]:
        """A vector of length 1 for each text.

        Raises:
            ServiceError: the service is away or refuses, or the model failed on one of them.
        """
        read = picked(Embeddings, Embeddings.vectors)
        return post(
            "/v1/embeddings", read, input=_texts(texts), model=model, encoding_format="base64"
        )

    @endpoint
    def translate(self, text: str, *, model: str | None = None) -> Call[Translation]:
        """A text in the other language of the model.

        Raises:
            ServiceError: the service is away or refuses.
        """
        read = _only(Listed[Translation], _itself)
        return post("/v1/translate", read, input=text, model=model)

    @endpoint
    def translate_many(
        self, texts: Sequence[str], *, model: str | None = None
    ) -> Call[list[Translation | ServiceError]]:
        """Each text in the other language of the model, or why it is not.

        Raises:
            ServiceError: the service is away or refuses all of them.
        """
        read = _each(Listed[Translation], _itself)
        return post("/v1/translate", read, input=_texts(texts), model=model)

    @endpoint
    def tokenize(
        self, text: str, *, model: str | None = None, add_special_tokens: bool = True
    ) -> Call[Tokens]:
        """A text as a model reads it, and so how many tokens it costs.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return post(
            "/v1/tokenize",
            _only(Listed[Tokens], _itself),
            input=text,
            model=model,
            add_special_tokens=add_special_tokens,
        )

    @endpoint
    def tokenize_many(
        self, texts: Sequence[str], *, model: str | None = None, add_special_tokens: bool = True
    ) -> Call[list[Tokens | ServiceError]]:
        """Each text as a model reads it.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return post(
            "/v1/tokenize",
            _each(Listed[Tokens], _itself),
            input=_texts(texts),
            model=model,
            add_special_tokens=add_special_tokens,
        )

    @endpoint
    def detokenize(
        self, ids: Sequence[int], *, model: str | None = None, skip_special_tokens: bool = True
    ) -> Call[str]:
        """The text of token ids.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return post(
            "/v1/detokenize",
            _only(Listed[Spelled], lambda spelled: spelled.text),
            ids=list(ids),
            model=model,
            skip_special_tokens=skip_special_tokens,
        )


def _texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list; a lone text is a sequence of its characters, which nobody means."""
    if isinstance(texts, str):
        raise TypeError("a list of texts is needed, not one text. Write [text].")
    return list(texts)


def _each(
    kind: type[Listed[A]], pick: Callable[[A], T]
) -> Callable[[Reply], list[T | ServiceError]]:
    def read(reply: Reply) -> list[T | ServiceError]:
        return [
            refused(one.error, status=reply.status, request_id=reply.request_id)
            if isinstance(one, Failure)
            else pick(one)
            for one in reply.parse(kind).data
        ]

    return read


def _only(kind: type[Listed[A]], pick: Callable[[A], T]) -> Callable[[Reply], T]:
    def read(reply: Reply) -> T:
        answers = _each(kind, pick)(reply)
        if len(answers) != 1:
            raise reply.strange(f"{len(answers)} answers to one text")
        if isinstance(answers[0], ServiceError):
            raise answers[0]
        return answers[0]

    return read


def _itself(answer: A) -> A:
    return answer


def _named(answer: TextEntities) -> list[Entity]:
    return answer.entities
