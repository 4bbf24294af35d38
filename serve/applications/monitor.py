"""The monitor of opinion on a service's models."""

import os
from collections.abc import Mapping, Sequence

from fastapi import APIRouter
from pydantic import BaseModel

from ray_sft.core import ServeError
from ray_sft.tasks.sequence_classification import ClassificationResponse
from serve.endpoints.monitor import monitor_router
from serve.models import Models
from serve.monitor import MonitorArgs
from serve.monitor.monitor import Monitor
from serve.monitor.opinion import Opinion
from serve.monitor.store import Store
from serve.monitor.webhook import webhook_secret

__all__ = ["make_monitor"]


def make_monitor(args: MonitorArgs, models: Models) -> tuple[Monitor, APIRouter]:
    """The monitor and its routes.

    Raises:
        ServeError: ``args`` name a model that the service does not have.
    """
    head = models.joint(args.model, (args.topic_task, args.sentiment_task))
    sentiment = head.bundle.manifest.tasks[args.sentiment_task]
    args.check_sentiments(getattr(sentiment, "labels", ()))
    store = Store(args)

    async def analyse(texts: Sequence[str]) -> list[Opinion | ServeError]:
        # the beginning of a long article says what it is about: better than not to count it
        answers = await head.submit_joint([{"text": text} for text in texts], cut=True)
        return [
            answer
            if isinstance(answer, ServeError)
            else _opinion(answer, args.topic_task, args.sentiment_task)
            for answer in answers
        ]

    monitor = Monitor(analyse, store, args, secret=webhook_secret(os.environ))
    return monitor, monitor_router(monitor)


def _opinion(responses: Mapping[str, BaseModel], topic_task: str, sentiment_task: str) -> Opinion:
    topic, sentiment = responses[topic_task], responses[sentiment_task]
    assert isinstance(topic, ClassificationResponse)
    assert isinstance(sentiment, ClassificationResponse)
    scores = {item.label: item.score for item in sentiment.scores}
    return Opinion(topic=topic.label, topic_score=topic.score, sentiment=scores)
