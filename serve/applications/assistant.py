"""The assistant on a service's models."""

from fastapi import APIRouter

from ray_sft.tasks.sequence_classification import ClassificationResponse
from serve.applications.asking import embed_with, named, response_of
from serve.assistant import AssistantArgs
from serve.assistant.assistant import Assistant, Classify, IntentGuess
from serve.endpoints.assistant import assistant_router
from serve.models import Models

__all__ = ["make_assistant"]

_NUM_INTENTS = 3
"""The most probable intent and the next ones."""


def make_assistant(args: AssistantArgs, models: Models) -> tuple[Assistant, APIRouter]:
    """The assistant and its routes.

    Raises:
        ServeError: ``args`` name a model that the service does not have.
    """
    encoder = named(models.embedder, args.embedding_model, "assistant.embedding_model")
    classify: Classify | None = None
    if args.intent_model:
        named(models.classifier, args.intent_model, "assistant.intent_model")
        classify = _classify(models, args.intent_model)
    assistant = Assistant(
        args,
        embed=embed_with(encoder),
        embedding_fingerprint=encoder.bundle.fingerprint,
        classify=classify,
    )
    return assistant, assistant_router(assistant)


def _classify(models: Models, name: str) -> Classify:
    """Asks whatever bundle has the name at the time; see `serve.release.swappable`."""

    async def classify(text: str) -> IntentGuess | None:
        _, encoder = models.classifier(name)
        (answer,) = await encoder.submit([{"text": text}])
        response = response_of(answer, ClassificationResponse)
        best, *others = ((item.label, item.score) for item in response.scores[:_NUM_INTENTS])
        return IntentGuess(*best, tuple(others))

    return classify
