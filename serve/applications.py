"""The applications of a service: made of its models, opened and closed with it.

An application knows models only as functions from texts to what it needs; this is where those
functions come from. Everything waits in the models' own queues, so an application's texts and
those of other requests share batches.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Protocol, TypeVar

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from pydantic import BaseModel

from ray_sft.core import ServeError
from ray_sft.tasks import Row
from ray_sft.tasks.embedding import EmbeddingResponse
from ray_sft.tasks.ranking import RankingResponse
from ray_sft.tasks.sequence_classification import ClassificationResponse
from serve.args import ServiceArgs
from serve.assistant import AssistantArgs
from serve.assistant.assistant import Assistant, Classify, Embed, IntentGuess
from serve.endpoints.assistant import assistant_router
from serve.endpoints.monitor import monitor_router
from serve.endpoints.recommend import recommend_router
from serve.errors import ApiError
from serve.models import Encoder, Models
from serve.monitor import MonitorArgs
from serve.monitor.monitor import Monitor
from serve.monitor.opinion import Opinion
from serve.monitor.store import Store as MonitorStore
from serve.monitor.webhook import webhook_secret
from serve.outcomes import Answer
from serve.recommend import RecommendArgs
from serve.recommend.pairs import ScorePairs
from serve.recommend.recommender import Recommender
from serve.recommend.store import Store as RecommendStore

__all__ = ["Applications"]

logger = logging.getLogger(__name__)

_AT_ONCE = 64
"""Texts given to a model's queue together, so that other requests find a place between them."""

_NUM_INTENTS = 3
"""The most probable intent and the next ones."""

T = TypeVar("T")


class _Application(Protocol):
    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Applications:
    """What of assistant, monitor and recommendation the service's arguments ask for."""

    def __init__(self, args: ServiceArgs, models: Models) -> None:
        """Makes them; no model is asked before `open`.

        Raises:
            ServeError: the arguments name a model that the service does not have.
        """
        self.routers: list[APIRouter] = []
        self._applications: list[_Application] = []
        self._opened = AsyncExitStack()
        if args.assistant is not None:
            self._add(_assistant(args.assistant, models), assistant_router)
        if args.monitor is not None:
            self._add(_monitor(args.monitor, models), monitor_router)
        if args.recommend is not None:
            self._add(_recommender(args.recommend, models), recommend_router)

    def _add(self, application: T, router: Callable[[T], APIRouter]) -> None:
        self.routers.append(router(application))
        self._applications.append(application)  # type: ignore[arg-type] # T is one of three

    async def open(self) -> None:
        """Opens every one; where one fails, those before it are closed again.

        Raises:
            ServeError: an application's data cannot be used.
        """
        async with AsyncExitStack() as stack:
            for application in self._applications:
                await application.open()
                stack.push_async_callback(application.close)
            self._opened = stack.pop_all()

    async def close(self) -> None:
        """Closes them in the reverse order."""
        await self._opened.aclose()


def _assistant(args: AssistantArgs, models: Models) -> Assistant:
    encoder = _named(models.embedder, args.embedding_model, "assistant.embedding_model")
    classify: Classify | None = None
    if args.intent_model:
        _named(models.classifier, args.intent_model, "assistant.intent_model")
        classify = _classify(models, args.intent_model)
    return Assistant(
        args,
        embed=_embed(encoder),
        embedding_fingerprint=encoder.bundle.fingerprint,
        classify=classify,
    )


def _monitor(args: MonitorArgs, models: Models) -> Monitor:
    head = models.joint(args.model, (args.topic_task, args.sentiment_task))
    sentiment = head.bundle.manifest.tasks[args.sentiment_task]
    args.check_sentiments(getattr(sentiment, "labels", ()))
    store = MonitorStore(args)

    async def analyse(texts: Sequence[str]) -> list[Opinion | ServeError]:
        # the beginning of a long article says what it is about: better than not to count it
        answers = await head.submit_joint([{"text": text} for text in texts], cut=True)
        return [
            answer
            if isinstance(answer, ServeError)
            else _opinion(answer, args.topic_task, args.sentiment_task)
            for answer in answers
        ]

    return Monitor(analyse, store, args, secret=webhook_secret(os.environ))


def _opinion(responses: Mapping[str, BaseModel], topic_task: str, sentiment_task: str) -> Opinion:
    topic, sentiment = responses[topic_task], responses[sentiment_task]
    assert isinstance(topic, ClassificationResponse)
    assert isinstance(sentiment, ClassificationResponse)
    scores = {item.label: item.score for item in sentiment.scores}
    return Opinion(topic=topic.label, topic_score=topic.score, sentiment=scores)


def _recommender(args: RecommendArgs, models: Models) -> Recommender:
    encoder = _named(models.embedder, args.embedding_model, "recommend.embedding_model")
    score = None
    if args.ranking_model:
        ranker = _named(
            lambda name: models.ranker(name, "recommend"),
            args.ranking_model,
            "recommend.ranking_model",
        )
        score = _score(ranker)
    return Recommender(
        args,
        store=RecommendStore.open(args.database),
        embed=_embed(encoder),
        fingerprint=encoder.bundle.fingerprint,
        score=score,
    )


def _named(find: Callable[[str], tuple[str, Encoder]], name: str, where: str) -> Encoder:
    """The model of a name; what is wrong with the name is said of the arguments."""
    try:
        _, encoder = find(name)
    except ApiError as error:
        raise ServeError(f"{where}: {error}") from None
    return encoder


def _embed(encoder: Encoder) -> Embed:
    async def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = [
            _response(answer, EmbeddingResponse).embedding
            for answer in await _submit_all(encoder, [{"text": text} for text in texts])
        ]
        return np.asarray(vectors, dtype=np.float32)

    return embed


def _score(encoder: Encoder) -> ScorePairs:
    async def score(pairs: Sequence[tuple[Sequence[str], str]]) -> list[float]:
        rows = [{"history": list(history), "candidate": text} for history, text in pairs]
        answers = await _submit_all(encoder, rows)
        return [_response(answer, RankingResponse).score for answer in answers]

    return score


def _classify(models: Models, name: str) -> Classify:
    """Asks whatever bundle has the name at the time; see `serve.release.swappable`."""

    async def classify(text: str) -> IntentGuess | None:
        _, encoder = models.classifier(name)
        (answer,) = await encoder.submit([{"text": text}])
        response = _response(answer, ClassificationResponse)
        best, *others = ((item.label, item.score) for item in response.scores[:_NUM_INTENTS])
        return IntentGuess(*best, tuple(others))

    return classify


async def _submit_all(encoder: Encoder, rows: Sequence[Row]) -> list[Answer | ServeError]:
    """The answers to any number of rows, some at a time."""
    answers: list[Answer | ServeError] = []
    for first in range(0, len(rows), _AT_ONCE):
        answers += await encoder.submit(rows[first : first + _AT_ONCE])
    return answers


def _response(answer: Answer | ServeError, kind: type[T]) -> T:
    """What the model said; ServeError where it could not."""
    if isinstance(answer, ServeError):
        raise answer
    assert isinstance(answer.response, kind)
    return answer.response
